"""FROC on cases done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation import froc
from d2_cxr.evaluation.matching import match

SQUARE = (0, 0, 10, 10)


@pytest.fixture
def three_images(images):
    """Two truth boxes on images 1 and 2, image 3 is negative.

    By score: .9 false (image 1), .8 finds image 1's, .7 again the same box (neither), .6 false (image 3, negative),
    .5 finds image 2's.
    """
    truth, results = images(
        [(1, 1, *SQUARE), (2, 1, *SQUARE)],
        [(1, 1, 50, 50, 9, 9, 0.9), (1, 1, *SQUARE, 0.8), (1, 1, 1, 0, 10, 10, 0.7), (2, 1, *SQUARE, 0.5)],
        num_images=2,
    )
    results.append({"image_id": 3, "category_id": 1, "bbox": [5, 5, 9, 9], "score": 0.6})
    return match(truth, results, {"images": [{"id": 3, "file_name": "n.png", "width": 100, "height": 100}]})


def at_rates(matches, rates, **options):
    num_images = matches.num_images
    return froc.sensitivities(matches, np.ones((num_images, 1)), rates=rates, **options)[:, 0].tolist()


def test_sensitivity_at_rates_of_false_positives(three_images):
    """3 images: 1 false positive is 1/3 an image, 2 are 2/3."""
    assert at_rates(three_images, [0.3, 1 / 3, 0.6, 2 / 3, 8]) == [0, 0.5, 0.5, 1, 1]


def test_without_negative_images_their_false_positives_are_gone(three_images):
    """2 images: 1 false positive is 1/2 an image, and both boxes are found at it."""
    assert at_rates(three_images, [0.4, 0.5], negatives=False) == [0, 1]


def test_the_curve_lists_every_threshold_that_finds_something(three_images):
    points = froc.curve(three_images)
    assert points["score"].tolist() == [0.8, 0.5]
    assert points["sensitivity"].tolist() == [0.5, 1]
    assert points["false_positives_per_image"] == pytest.approx([1 / 3, 2 / 3])


def test_equal_scores_pass_together(images):
    truth, results = images([(1, 1, *SQUARE)], [(1, 1, *SQUARE, 0.5), (1, 1, 50, 50, 9, 9, 0.5)])
    assert at_rates(match(truth, results), [0.5, 1]) == [0, 1]


@pytest.mark.parametrize(
    "box, hits",
    [
        ((0, 0, 10, 4), {"iou": False, "center": True, "iobb": True}),  # IoU exactly 0.4 is not above it
        ((0, 0, 10, 4.1), {"iou": True, "center": True, "iobb": True}),
        ((2, 2, 2, 2), {"iou": False, "center": True, "iobb": True}),  # small inside
        ((0, 0, 22, 10), {"iou": True, "center": False, "iobb": False}),  # IoU 10/22, center at x = 11
        ((300, 0, 10, 10), {"iou": False, "center": False, "iobb": False}),  # far away: never a hit
    ],
)
def test_hit_rules(images, box, hits):
    matches = match(*images([(1, 1, *SQUARE)], [(1, 1, *box, 0.5)]))
    assert {rule: froc.marks(matches, rule=rule).finds.any() for rule in hits} == hits


def test_another_class_finds_nothing(images):
    matches = match(*images([(1, 1, *SQUARE)], [(1, 2, *SQUARE, 0.9)], num_classes=2))
    assert at_rates(matches, [8]) == [0]
    assert at_rates(matches, [8], classes=[1])[0] != at_rates(matches, [8], classes=[1])[0]  # no truth box: NaN


def test_no_detections_and_no_truth(images):
    assert at_rates(match(*images([(1, 1, *SQUARE)], [])), [8]) == [0]
    assert np.isnan(at_rates(match(*images([], [(1, 1, *SQUARE, 0.9)])), [8])).all()


def test_thresholds_are_the_lowest_scores_within_the_rate(three_images):
    assert froc.choose_thresholds(three_images, 1 / 3) == {"class 1": 0.8}
    assert froc.choose_thresholds(three_images, 1) == {"class 1": 0.5}
    assert froc.choose_thresholds(three_images, 0.1) == {"class 1": None}


def test_counts_at_a_fixed_threshold(three_images):
    counts = froc.at_thresholds(three_images, {"class 1": 0.6}, np.ones((3, 1)))
    assert {key: value.tolist() for key, value in counts.items()} == {
        "found": [[1]],
        "lesions": [[2]],
        "false_findings": [[1]],
        "false_negatives": [[1]],
    }


def test_an_unknown_hit_rule_is_refused(three_images):
    with pytest.raises(ValueError, match="hit rule 'touch' is not one of iou, center, iobb"):
        froc.marks(three_images, rule="touch")
