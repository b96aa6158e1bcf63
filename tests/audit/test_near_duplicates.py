"""Near copies: images encoded or resized anew, cropped or mirrored are found, other images are not."""

import cv2
import numpy as np
import pytest

from d2_cxr.audit import near_duplicates
from d2_cxr.audit.near_duplicates import compare, find_near_duplicates, small_copy


def image(seed: int) -> np.ndarray:
    """Coarse shapes, which two chests share more or less, and fine ones, which no two share."""
    rng = np.random.default_rng(seed)
    coarse, fine = (cv2.resize(rng.normal(128, s, (n, n)), (192, 192), interpolation=2) for n, s in ((7, 60), (40, 15)))
    return (coarse + fine - 128).clip(0, 255).astype(np.uint8)


def encoded(image: np.ndarray) -> np.ndarray:
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)
    return cv2.resize(cv2.resize(jpeg, (115, 135), interpolation=cv2.INTER_AREA), (192, 192))


def cropped(image: np.ndarray) -> np.ndarray:
    """Without 4 % at the left, 9 % at the right, 1 % above, 7 % below: between the cuts that are tried."""
    return cv2.resize(image[2:178, 8:175], (192, 192), interpolation=cv2.INTER_LINEAR)


def mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


CHANGES = {
    "encoded or resized anew": encoded,
    "cropped": cropped,
    "mirrored": mirrored,
    "cropped and mirrored": lambda image: mirrored(cropped(encoded(image))),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_image_is_found_among_others_and_no_other_is(how):
    images = np.stack([small_copy(image(seed)) for seed in range(150)] + [small_copy(CHANGES[how](image(7)))])
    (pair,) = find_near_duplicates(images)
    assert {pair.first, pair.second} == {7, 150} and pair.how == how
    assert near_duplicates.SAME_IMAGE <= pair.correlation <= 1


def test_images_of_the_same_coarse_shapes_are_two_images():
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.normal(128, 60, (5, 5)), (192, 192), interpolation=cv2.INTER_CUBIC)
    one, other = (coarse + cv2.resize(rng.normal(0, 12, (48, 48)), (192, 192), interpolation=2) for _ in range(2))
    small = np.stack([small_copy(image.clip(0, 255).astype(np.uint8)) for image in (one, other)])
    assert near_duplicates._candidates(small, [(0.0,) * 4])  # their frequencies do not tell them apart
    assert find_near_duplicates(small) == []


def test_an_image_of_one_gray_is_no_copy_of_anything():
    assert find_near_duplicates(np.stack([np.full((96, 96), 7, np.uint8)] * 2 + [small_copy(image(1))])) == []


def test_an_image_compared_with_itself_and_with_its_negative():
    small = small_copy(image(3))
    assert compare(small, small) == pytest.approx(1, abs=1e-3)
    assert compare(small, 255 - small) < 0.1


def test_in_large_sets_only_whole_images_are_compared(monkeypatch):
    images = np.stack([small_copy(image(seed)) for seed in range(5)] + [small_copy(cropped(image(2)))])
    assert len(find_near_duplicates(images)) == 1
    monkeypatch.setattr(near_duplicates, "MOST_CROPPED", 4)
    assert find_near_duplicates(images) == []


def test_no_images_have_no_copies():
    assert find_near_duplicates(near_duplicates.read_small([])) == []
