"""Prepared images as pixels, from the array or from their PNGs."""

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.audit import data_quality_page, near_duplicates
from d2_cxr.datasets import image_array


@pytest.fixture
def folder(tmp_path):
    """Three images of 2 x 2 pixels, gray 1, 2, 3; the array of the set holds the second only, as gray 20."""
    for gray, image in enumerate("abc", start=1):
        content = cv2.imencode(".png", np.full((2, 2), gray, np.uint8))[1].tobytes()
        artifacts.write_bytes(tmp_path / "images" / f"{image}.png", content)
    write_array(tmp_path, 20)
    return tmp_path


def write_array(folder, gray):
    array = np.full((1, 2, 2), gray, np.uint8)
    artifacts.write_with(folder / image_array.ARRAY, lambda path: np.save(path, array))
    artifacts.write_csv(folder / image_array.INDEX, [{"image_name": "b"}], ["image_name"])


def gray_of(folder, image):
    return int(image_array.read(str(folder / "images" / f"{image}.png"))[0, 0])


def test_an_image_comes_from_the_array_and_else_from_its_png(folder):
    assert [gray_of(folder, image) for image in "abc"] == [1, 20, 3]


def test_an_array_that_was_written_anew_or_removed_is_not_read_from_memory(folder):
    assert gray_of(folder, "b") == 20
    write_array(folder, 30)
    assert gray_of(folder, "b") == 30
    (folder / image_array.ARRAY).unlink()
    assert gray_of(folder, "b") == 2


def test_the_array_can_not_be_written_to(folder):
    with pytest.raises(ValueError, match="read-only"):
        image_array.read(folder / "images/b.png")[:] = 0


def test_images_without_pixels_are_counted_and_the_first_named(folder):
    names = [str(folder / "images" / f"{image}.png") for image in "abcde"]
    image_array.require_images(names[:3])
    (folder / "images/b.png").unlink()  # the array has it
    image_array.require_images(names[:3])
    with pytest.raises(FileNotFoundError, match=r"^2 prepared images are missing, first: .*d\.png; prepare the set"):
        image_array.require_images(names)
    with pytest.raises(FileNotFoundError, match=r"e\.png is missing or not an image"):
        image_array.read(names[4])


def test_the_array_says_nothing_about_a_picture_in_another_folder(folder):
    """refused/b.png is the picture of a refused file that has the name of a prepared image."""
    (folder / "refused").mkdir()
    (folder / "images" / "b.png").rename(folder / "refused" / "b.png")
    assert image_array.read(folder / "refused" / "b.png")[0, 0] == 2


def test_pages_and_sheets_show_images_of_a_set_that_has_the_array_alone(folder):
    (folder / "images" / "b.png").unlink()
    assert data_quality_page.thumbnail(folder / "images" / "b.png").startswith("data:image/")


def test_an_image_that_is_nowhere_is_not_compared_as_a_black_one(folder):
    with pytest.raises(FileNotFoundError, match=r"d\.png is missing or not an image; prepare the set again"):
        near_duplicates.read_small([folder / "images" / "d.png"])
