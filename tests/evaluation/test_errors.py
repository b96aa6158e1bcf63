"""One detection of every kind of error."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation import errors, stratified_sensitivity
from d2_cxr.evaluation.matching import match


@pytest.fixture
def one_of_each(images):
    """Image 1: class 1 at (0, 0), class 2 at (50, 50); image 2: class 1 that nothing finds."""
    return match(
        *images(
            [(1, 1, 0, 0, 20, 20), (1, 2, 50, 50, 20, 20), (2, 1, 0, 0, 20, 20)],
            [
                (1, 1, 0, 0, 20, 20, 0.9),  # hit
                (1, 1, 0, 1, 20, 20, 0.8),  # duplicate
                (1, 1, 50, 50, 20, 20, 0.7),  # class: lies on the box of class 2
                (1, 2, 60, 60, 20, 20, 0.6),  # place: IoU 1/7 with its own class
                (1, 2, 10, 10, 20, 20, 0.5),  # class and place: IoU 1/7 with class 1
                (2, 1, 80, 80, 9, 9, 0.4),  # background
            ],
            num_images=2,
            num_classes=2,
        )
    )


def test_kinds(one_of_each):
    names = [*errors.KINDS, "hit"]
    assert [names[kind] for kind in errors.kinds(one_of_each)] == [
        *("hit", "Dupe", "Cls", "Loc", "Both", "Bkg"),
    ]


def test_breakdown_counts_at_a_score(one_of_each):
    table = errors.breakdown(one_of_each, score=0.55)
    assert (table["num_detections"], table["hits"]) == (4, 1)
    counts = {name: entry["n"] for name, entry in table["false_positives"].items()}
    assert counts == {"Dupe": 1, "Cls": 1, "Loc": 1, "Both": 0, "Bkg": 0}
    assert (table["Miss"]["n"], table["Miss"]["of"]) == (2, 3)


def test_gain_is_what_ap50_would_rise_by(one_of_each):
    """Class 1 hits first at precision 1 up to recall 1/2 (51 of 101 points), class 2 never; AP50 51/202.

    Without missed boxes class 1 is perfect and class 2 has no box left: mean over one class, 1.
    """
    table = errors.breakdown(one_of_each)
    assert table["Miss"]["ap50_gain"] == pytest.approx(1 - 51 / 202)
    assert table["false_positives"]["Bkg"]["ap50_gain"] == pytest.approx(0)  # it comes after the hit


def test_worst_images_come_first(one_of_each):
    worst = errors.worst_images(one_of_each, 2, score=0.0)
    assert worst[0] == {"image": "f1", "missed": 1, "false_positives": 4, "hits": 1}
    assert worst[1] == {"image": "f2", "missed": 1, "false_positives": 1, "hits": 0}


def test_strata_by_readers_and_size(images):
    truth, results = images(
        [(1, 1, 0, 0, 10, 10), (1, 1, 50, 0, 10, 10), (2, 1, 0, 0, 50, 50)],
        [(1, 1, 0, 0, 10, 10, 0.9), (2, 1, 0, 0, 50, 25, 0.9)],
        num_images=2,
    )
    for annotation, readers in zip(truth["annotations"], (3, 1, 3), strict=True):
        annotation["num_readers"] = readers
    table = stratified_sensitivity.by_truth_box(match(truth, results), np.ones((2, 1)), score=0.5)
    assert table["readers"]["3"]["sensitivity"]["value"] == 1  # IoU 1 and 1/2, both above 0.4
    assert table["readers"]["3"]["mean_best_iou"]["value"] == pytest.approx(0.75)
    assert table["readers"]["1"]["sensitivity"]["value"] == 0
    assert table["size"]["small"]["sensitivity"] == {"value": 0.5, "interval": None, "n": 2, "unit": "boxes"}
    assert table["size"]["large"]["mean_best_iou"]["value"] is None
