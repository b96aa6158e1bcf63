"""The constant box is the median in shares of the frame, scored by prevalence."""

from __future__ import annotations

import pytest

from d2_cxr.evaluation.evaluate import evaluate
from d2_cxr.evaluation.prior_box import prior_box_results


def test_median_box_and_prevalence(images):
    """Class 1 on 2 of 4 training images (three boxes), class 2 nowhere; the test image is twice as wide."""
    boxes = [(1, 1, 0, 0, 10, 10), (1, 1, 10, 20, 30, 40), (2, 1, 20, 20, 40, 40)]
    train, _ = images(boxes, [], num_images=4, num_classes=2)
    test, _ = images([], [], num_images=1, num_classes=2)
    test["images"][0]["width"] = 200
    assert prior_box_results(train, test) == [
        {"image_id": 1, "category_id": 1, "bbox": [20, 20, 60, 40], "score": 0.5}
    ]  # medians x 10..40, y 20..60 of 100; x is doubled


def test_sets_that_number_their_classes_differently_are_refused(images):
    train, _ = images([], [], num_classes=2)
    test, _ = images([], [], num_classes=3)
    with pytest.raises(ValueError, match="number their classes differently"):
        prior_box_results(train, test)


def test_it_stands_as_a_row_beside_the_model(images):
    boxes = [(image, 1, 10, 10, 40, 40) for image in range(1, 7)]
    truth, results = images(boxes, [(image, 1, 12, 12, 40, 40, 0.9) for image in range(1, 7)], num_images=6)
    evaluation = evaluate(truth, results, resamples=20, train_truth=truth)
    row = evaluation.document["rows"]["prior_box"]
    assert row["metrics"]["AP50"]["value"] == pytest.approx(1)
    assert row["per_class"]["class 1"]["AP50"]["value"] == pytest.approx(1)
    assert row["model_minus_row"]["mean_best_iou"]["difference"] == pytest.approx(38**2 / (2 * 1600 - 38**2) - 1)
