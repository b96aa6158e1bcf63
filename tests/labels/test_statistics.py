"""Statistics of labels on tables small enough to count by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from d2_cxr.labels import statistics
from d2_cxr.labels.annotations import read_annotations

COLUMNS = ["image_name", "class_name", "reader_id", "x_min", "y_min", "x_max", "y_max"]


def boxes(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def readings(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_name", "reader_id"])


def test_repeat_factors_take_the_rarest_class_of_an_image():
    labels = np.zeros((10, 3), dtype=bool)
    labels[:5, 0] = labels[4:5, 1] = True  # shares 0.5, 0.1, 0
    by_class, by_image = statistics.repeat_factors(labels)
    assert by_class.tolist() == [1.0, 2.0, math.inf]  # sqrt(0.4 / 0.1) = 2
    assert by_image.tolist() == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]


def test_negative_images_would_change_every_factor():
    labels = np.ones((10, 1), dtype=bool)
    with_negatives = np.vstack([labels, np.zeros((24, 1), dtype=bool)])
    assert statistics.repeat_factors(labels)[0].tolist() == [1.0]
    assert statistics.repeat_factors(with_negatives)[0][0] == pytest.approx(math.sqrt(0.4 * 3.4))


def test_class_balance_counts_images_boxes_and_exposures():
    fused = boxes(("a", "x", "R1", 0, 0, 1, 1), ("a", "x", "R1", 2, 2, 3, 3), ("b", "y", "R1", 0, 0, 1, 1))
    labels = np.array([[True, False]] * 4 + [[True, True]])
    balance = statistics.class_balance(labels, fused, ["x", "y", "z"][:2])
    assert balance["x"] == {
        "images": 1,
        "train_images": 5,
        "fused_boxes": 2,
        "repeat_factor": 1.0,
        "expected_exposures": pytest.approx(4 + math.sqrt(2)),  # y is on one of five: sqrt(0.4 / 0.2)
        "ceil_exposures": 6,
    }
    assert statistics.epoch_length(labels) == {"stochastic": pytest.approx(4 + math.sqrt(2)), "ceil": 6}


def test_a_class_without_a_training_image_has_no_factor():
    balance = statistics.class_balance(np.array([[True, False]]), boxes(), ["x", "y"])
    assert balance["y"]["repeat_factor"] is None
    assert balance["y"]["expected_exposures"] == 0


def test_the_partition_counts_labeled_and_unlabeled_images_at_every_label_fraction():
    rows = statistics.partition([f"f{number}" for number in range(3075)])
    assert [row["percent"] for row in rows] == [100, 90, 80, 70, 60, 50, 40, 30, 20, 10]
    assert rows[0] == {"percent": 100, "labeled": 3075, "unlabeled": 0}
    assert rows[8] == {"percent": 20, "labeled": 615, "unlabeled": 2460}


def test_the_partition_keeps_a_patients_images_together():
    images, patients = ["a1", "a2", "a3", "b1"], {"a1": "a", "a2": "a", "a3": "a", "b1": "b"}
    assert [row["labeled"] for row in statistics.partition(images, patients)] == [4, 4, 4, 1, 1, 1, 1, 1, 0, 0]
    assert {row["labeled"] for row in statistics.partition(images, patients, seed=1)} <= {0, 1, 3, 4}


def test_density_is_boxes_an_image_of_each_part():
    fused = boxes(*(("a", "x", "R", 0, 0, 1, 1),) * 3, ("c", "x", "R", 0, 0, 1, 1))
    parts = {"train": ["a", "b"], "val": [], "test": ["c"]}
    assert statistics.box_density(fused, parts) == {"train": 1.5, "val": None, "test": 1.0, "last_0": None}


AGREEMENT_BOXES = boxes(
    ("a", "x", "R10", 0, 0, 10, 10),
    ("a", "x", "R8", 0, 0, 10, 5),  # IoU .5 with R10's
    ("a", "x", "R8", 20, 20, 30, 30),  # IoU 0 with R10's
    ("b", "x", "R8", 0, 0, 10, 10),
    ("b", "y", "R10", 0, 0, 10, 10),  # another class: no pair, and two groups of one box
    ("c", "x", "R8", 0, 0, 10, 10),
    ("c", "x", "R9", 0, 0, 10, 10),
)
AGREEMENT_READINGS = readings(
    *((image, reader) for image in "abc" for reader in ("R8", "R10")), ("c", "R9"), ("d", "R8"), ("d", "R10")
)


def test_agreement_counts_pairs_and_images_by_their_definitions():
    first, second, third = statistics.reader_agreement(AGREEMENT_BOXES, AGREEMENT_READINGS)
    assert [entry["readers"] for entry in (first, second, third)] == [["R8", "R9"], ["R8", "R10"], ["R9", "R10"]]
    assert second == {
        "readers": ["R8", "R10"],
        "images": 1,  # on b every group has one box; on c the pair's other reader drew nothing
        "images_both_drew": 2,
        "images_both_read": 4,
        "pairs_all": {"n": 2, "mean": 0.25, "std": 0.25},
        "pairs_iou>0.2": {"n": 1, "mean": 0.5, "std": 0.0},
    }
    assert third["pairs_all"] == {"n": 0, "mean": None, "std": None}


def test_two_boxes_of_any_readers_keep_a_group():
    # One box of R8 beside one of R9 makes two: R8 is left on c although R10 is not.
    group = boxes(("c", "x", "R8", 0, 0, 1, 1), ("c", "x", "R9", 0, 0, 1, 1), ("c", "y", "R10", 0, 0, 1, 1))
    entries = statistics.reader_agreement(group, readings(("c", "R8"), ("c", "R9"), ("c", "R10")))
    assert {tuple(entry["readers"]): entry["images"] for entry in entries} == {
        ("R8", "R9"): 1,
        ("R8", "R10"): 0,
        ("R9", "R10"): 0,
    }


def test_agreement_does_not_depend_on_the_order_of_rows():
    shuffled = AGREEMENT_BOXES.sample(frac=1, random_state=3).reset_index(drop=True)
    assert statistics.reader_agreement(shuffled, AGREEMENT_READINGS) == statistics.reader_agreement(
        AGREEMENT_BOXES, AGREEMENT_READINGS
    )


@pytest.fixture
def small_table(tmp_path):
    rows = ["image_id,class_name,rad_id,x_min,y_min,x_max,y_max,patient_id"]
    for image in range(20):
        rows += [f"f{image},ILD,R{reader},0,0,{10 + reader},10,p{image // 2}" for reader in (1, 2)]
    rows += ["n,No finding,R1,,,,,p0"]
    path = tmp_path / "train.csv"
    path.write_text("\n".join(rows))
    return path


def test_all_statistics_of_a_table_are_plain_json(small_table):
    found = statistics.label_statistics(read_annotations(small_table), "stratified", seed=1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["images"] == {
        "total": 21,
        "with_finding": 20,
        "train": 14,
        "val": 2,
        "test": 4,
        "negative": 1,
        "patients": 10,
    }
    assert found["boxes"] == {"read": 40, "fused": 20}
    assert [entry["subset"] for entry in found["agreement"]] == ["test", "all"]
    assert found["agreement"][1]["pairs_all"]["mean"] == pytest.approx(11 / 12)


def test_a_consensus_is_neither_fused_nor_compared(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("image_id,class_name,x_min,y_min,x_max,y_max\na,ILD,0,0,9,9\na,ILD,0,0,9,8\nb,ILD,0,0,9,8\n")
    found = statistics.label_statistics(read_annotations(path))
    assert (found["boxes"], found["agreement"], found["fusion"]["rule"]) == ({"read": 3, "fused": 3}, [], "none")


def test_a_table_without_a_box_and_an_unknown_split_are_refused(tmp_path, small_table):
    path = tmp_path / "negative.csv"
    path.write_text("image_id,class_name,x_min,y_min,x_max,y_max\na,No finding,,,,\n")
    with pytest.raises(ValueError, match="no image of this table has a usable box"):
        statistics.label_statistics(read_annotations(path))
    with pytest.raises(ValueError, match="'random' is neither"):
        statistics.label_statistics(read_annotations(small_table), "random")
