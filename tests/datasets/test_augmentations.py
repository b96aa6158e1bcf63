import numpy as np
import pytest

pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")

from d2_cxr.datasets import augmentations
from d2_cxr.datasets.augmentations import gray_values, of_choice, placement


def test_a_placement_doubles_about_the_center_and_shifts_in_parts_of_the_frame():
    # frame 40 wide, 20 high, center (20, 10); x doubled and 4 px to the right, y kept and 2 px up
    moved = placement((20, 40), (2.0, 1.0), (0.1, -0.1))
    boxes = moved.apply_box(np.array([[20, 10, 25, 15], [0, 0, 10, 2]], np.float32))
    assert np.allclose(boxes, [[24, 8, 34, 13], [-16, -2, 4, 0]])


def test_pixels_move_as_boxes_do_and_what_was_outside_is_black():
    image = np.full((20, 40), 100, np.uint8)
    image[10:14, 20:24] = 250
    moved = placement((20, 40), (1.0, 1.0), (0.25, -0.1)).apply_image(image)  # 10 px right, 2 up
    assert moved.shape == (20, 40) and moved.dtype == np.uint8
    assert (moved[8:12, 30:34] == 250).all() and (moved[:, :10] == 0).all() and (moved[18:] == 0).all()
    assert (moved == 250).sum() == 16 and (moved == 100).sum() == 30 * 18 - 16
    half = placement((20, 40), (0.5, 0.5), (0.0, 0.0)).apply_image(np.full((20, 40), 100, np.uint8))
    assert (half[5:15, 10:30] == 100).all() and (half > 0).sum() == 200


def test_gray_values_by_hand():
    image = np.array([[0.25, 0.75]], np.float32)  # mean .5
    assert gray_values(image, 0, 0, 0).tolist() == [[0.25, 0.75]]
    assert np.allclose(gray_values(image, 0, 0.2, 0), [[0.2, 0.8]])
    assert np.allclose(gray_values(image, 0, 0, 0.1), [[0.3, 0.8]])  # .05 = a tenth of the mean
    assert np.allclose(gray_values(image, np.log(2), 0, 0), [[0.0625, 0.5625]])
    assert gray_values(image, 0, 5, 0).tolist() == [[0, 1]]


def test_the_draws_stay_within_their_ranges():
    np.random.seed(0)
    step, frame = augmentations.RandomPlacement(), np.array([[0, 0, 100, 100]], np.float32)
    boxes = np.concatenate([step.get_transform(np.zeros((100, 100), np.uint8)).apply_box(frame) for _ in range(400)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    scale, ratio = np.sqrt(width * height) / 100, height / width
    assert 0.8 <= scale.min() < 0.82 and 1.22 < scale.max() <= 1.25
    assert 0.9 < ratio.min() < 0.915 and 1.09 < ratio.max() < 1.106
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 - 50
    assert np.abs(centers).max() <= 10.01 and np.abs(centers.mean(axis=0)).max() < 1


def test_an_unknown_augmentation_is_refused_with_the_known_ones():
    assert of_choice("off") == [] and len(of_choice("light")) == 2
    with pytest.raises(ValueError, match=r"CXR\.AUGMENTATION is 'strong'; choose one of off, gray, geometry, light"):
        of_choice("strong")
