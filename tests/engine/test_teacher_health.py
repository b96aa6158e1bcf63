import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.engine import teacher_health
from d2_cxr.evaluation.matching import match

NAMES = ("Disc", "Square")


def box(index, x, score=None):
    found = {"category_id": index + 1, "bbox": [x, 0, 10, 10]}
    return {**found, "score": score} if score is not None else {**found, "area": 100, "iscrowd": 0, "id": x + 1}


def test_precision_recall_and_boxes_on_negative_images():
    """Two discs, one found; a square called a disc; a box on one of two images without any."""
    truth = [[box(0, 0), box(0, 30)], [box(1, 0)], [], []]
    found = [[box(0, 0, 0.9)], [box(0, 0, 0.8)], [box(1, 5, 0.7)], []]
    measured = teacher_health.measure(found, truth, NAMES)["measured"]
    disc, square = measured["per_class"]["Disc"], measured["per_class"]["Square"]
    assert (disc["boxes"], disc["hits"], disc["precision"], disc["recall"]) == (2, 1, 0.5, 0.5)
    assert (square["boxes"], square["precision"], square["recall"]) == (1, 0.0, 0.0)
    assert measured["precision"] == pytest.approx(1 / 3) and measured["recall"] == pytest.approx(1 / 3)
    assert (measured["images"], measured["negative_images"], measured["boxes_a_negative_image"]) == (4, 2, 0.5)


def test_a_teacher_without_a_box_has_no_precision():
    measured = teacher_health.measure([[], []], [[box(0, 0)], []], NAMES)["measured"]
    assert measured["precision"] is None and measured["recall"] == 0.0


@pytest.mark.parametrize(
    "pseudo, labeled, message",
    [
        ([0.01, 0.02], [1.0, 0.5], "collapsed to nothing: 0.030 boxes per image, the labels have 1.50"),
        ([0.96, 0.02], [1.0, 0.5], "collapsed to one class: 98% of its boxes are Disc, 67% of the labels are"),
    ],
)
def test_alarms(pseudo, labeled, message):
    (alarm,) = teacher_health.alarms(np.array(pseudo), np.array(labeled), NAMES)
    assert message in alarm


@pytest.mark.parametrize(
    "pseudo, labeled", [([0.5, 0.3], [1.0, 0.5]), ([0.9, 0.0], [1.0, 0.0]), ([0.96, 0.02], [9.0, 0.5])]
)
def test_no_alarm_where_the_labels_are_like_that(pseudo, labeled):
    assert teacher_health.alarms(np.array(pseudo), np.array(labeled), NAMES) == []


def test_the_truth_is_known_of_complements_and_negatives_alone(tiny_set):
    train = teacher_health.known_truth(["tiny_cxr_train_unlabeled_50_seed1"], NAMES)
    negative = teacher_health.known_truth(["tiny_cxr_negative_train"], NAMES)
    assert any(train.values()) and len(negative) == 6 and not any(negative.values())
    assert teacher_health.known_truth(["tiny_cxr_unlabeled"], NAMES) == {}
    assert teacher_health.known_truth(["tiny_cxr_train_unlabeled"], ("Other",)) == {}
    coco = artifacts.read_json(tiny_set / "annotations" / "stratified" / "train.json")
    assert len(train) == 6 and 0 < sum(map(len, train.values())) < len(coco["annotations"])  # of the complement alone


def test_thresholds_from_validation_are_those_of_precise_boxes(tmp_path):
    """Discs: hit, hit, hit, false: 3 of 4 are enough, down to .6. Squares: a false one above a hit: never enough."""
    truth = {
        "images": [{"id": 0, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "Disc"}, {"id": 2, "name": "Square"}],
        "annotations": [{**row, "image_id": 0} for row in (box(0, 0), box(0, 30), box(0, 60), box(1, 90))],
    }
    rows = [box(0, 0, 0.9), box(0, 30, 0.8), box(0, 60, 0.7), box(0, 200, 0.6), box(0, 300, 0.5), box(1, 0, 0.9)]
    match(truth, [{**row, "image_id": 0} for row in [*rows, box(1, 90, 0.8)]]).save(tmp_path / "matches.npz")
    assert teacher_health.precise_thresholds(tmp_path / "matches.npz") == [0.6, float("inf")]
