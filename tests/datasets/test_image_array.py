"""Prepared films as pixels, from the array or from their PNGs."""

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets import image_array


@pytest.fixture
def folder(tmp_path):
    """Three films of 2 x 2 pixels, grey 1, 2, 3; the array of the set holds the second only, as grey 20."""
    for grey, film in enumerate("abc", start=1):
        content = cv2.imencode(".png", np.full((2, 2), grey, np.uint8))[1].tobytes()
        artifacts.write_bytes(tmp_path / "images" / f"{film}.png", content)
    write_array(tmp_path, 20)
    return tmp_path


def write_array(folder, grey):
    array = np.full((1, 2, 2), grey, np.uint8)
    artifacts.write_with(folder / image_array.ARRAY, lambda path: np.save(path, array))
    artifacts.write_csv(folder / image_array.INDEX, [{"image_id": "b"}], ["image_id"])


def grey_of(folder, film):
    return int(image_array.read(str(folder / "images" / f"{film}.png"))[0, 0])


def test_a_film_comes_from_the_array_and_else_from_its_png(folder):
    assert [grey_of(folder, film) for film in "abc"] == [1, 20, 3]


def test_an_array_that_was_written_anew_or_removed_is_not_read_from_memory(folder):
    assert grey_of(folder, "b") == 20
    write_array(folder, 30)
    assert grey_of(folder, "b") == 30
    (folder / image_array.ARRAY).unlink()
    assert grey_of(folder, "b") == 2


def test_the_array_can_not_be_written_to(folder):
    with pytest.raises(ValueError, match="read-only"):
        image_array.read(folder / "images/b.png")[:] = 0


def test_films_without_pixels_are_counted_and_the_first_named(folder):
    names = [str(folder / "images" / f"{film}.png") for film in "abcde"]
    image_array.require_films(names[:3])
    (folder / "images/b.png").unlink()  # the array has it
    image_array.require_films(names[:3])
    with pytest.raises(FileNotFoundError, match=r"^2 prepared films are missing, first: .*d\.png; prepare the set"):
        image_array.require_films(names)
    with pytest.raises(FileNotFoundError, match=r"e\.png is missing or no picture"):
        image_array.read(names[4])
