"""The audits find what was planted and nothing where nothing was."""

import numpy as np
import pandas as pd
import pytest

from d2_cxr.audit import label_audits
from d2_cxr.labels import splits
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.fusion import fuse_annotations

COLUMNS = ["image_name", "class_name", "reader_id", "x_min", "y_min", "x_max", "y_max"]


def boxes(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def images_with(counts) -> pd.DataFrame:
    """Return one disjoint box per count and image, images in this order."""
    return boxes(
        *(
            (f"f{image}", "x", "R1", 20 * n, 0, 20 * n + 9, 9)
            for image, count in enumerate(counts)
            for n in range(count)
        )
    )


def test_a_slope_of_density_is_found():
    table = images_with([5] * 50 + [1] * 50)
    found = label_audits.density_by_position(table, table, splits.published_split(table["image_name"]))
    assert found["deciles"] == [5.0] * 5 + [1.0] * 5
    assert found["train_minus_test"] == pytest.approx(5 * 50 / 70 + 20 / 70 - 1)
    assert found["p"] == 1 / 2001  # no random order comes near
    assert found["last_tenth_of_train"] == {"images": 7, "mean": 1.0}
    assert found["raw_boxes"]["test"] == 1.0


def test_an_even_density_is_not_called_a_slope():
    table = images_with([1, 3] * 50)
    found = label_audits.density_by_position(table, table, splits.published_split(table["image_name"]))
    assert found["p"] > 0.5


def test_first_appearance_in_shuffled_rows_slopes_by_itself():
    counts = np.random.default_rng(0).integers(1, 9, 400)
    found = label_audits.density_by_position(
        images_with(counts), images_with(counts), splits.published_split(images_with(counts)["image_name"])
    )
    again = found["raw_boxes_rows_shuffled"]
    assert again["train"] - again["test"] > 2


def test_too_few_images_are_only_counted():
    assert label_audits.density_by_position(boxes(), boxes(), {"train": [], "val": [], "test": []}) == {"images": 0}


def test_reader_shift_counts_images_by_reader_and_part():
    rows = [("a", "R2"), ("a", "R10"), ("b", "R2"), ("b", "R10"), ("c", "R3"), ("d", "R10"), ("z", "R2")]
    shift = label_audits.reader_shift(
        pd.DataFrame(rows, columns=["image_name", "reader_id"]), {"train": ["a", "c"], "val": [], "test": ["b", "d"]}
    )
    assert shift["readers"] == {
        "R2": {"train": 1, "val": 0, "test": 1},
        "R3": {"train": 1, "val": 0, "test": 0},
        "R10": {"train": 1, "val": 0, "test": 2},
    }
    assert shift["commonest"] == {
        "readers": ["R2", "R10"],
        "share": {"train": 0.5, "val": None, "test": 0.5},
        "images_without_any_of_them": {"train": 1, "val": 0, "test": 0},
    }


def table_of(tmp_path, rows):
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["image_id,class_name,rad_id,x_min,y_min,x_max,y_max", *rows]))
    return read_annotations(path)


def test_readers_who_only_see_findings_give_them_away(tmp_path):
    found = [f"a{n},ILD,R1,0,0,9,9" for n in range(60)]
    nothing = [f"b{n},No finding,R2,,,," for n in range(60)]
    audit = label_audits.readers_predict_findings(table_of(tmp_path, found + nothing))
    assert audit["any_finding"] == {"auroc": 1.0, "positive": 60, "negative": 60}
    assert audit["classes"]["ILD"]["auroc"] == 1.0
    assert audit["classes"]["Atelectasis"] == {"auroc": None, "positive": 0, "negative": 120}


def test_a_single_reader_of_every_image_gives_nothing_away(tmp_path):
    rows = [f"f{n},ILD,R1,0,0,9,9" if n % 2 else f"f{n},No finding,R1,,,," for n in range(400)]
    auroc = label_audits.readers_predict_findings(table_of(tmp_path, rows))["any_finding"]["auroc"]
    assert auroc == pytest.approx(0.5, abs=0.1)


def test_box_f1_matches_one_to_one_and_counts_silence():
    table = boxes(
        ("a", "x", "R1", 0, 0, 10, 10),
        ("a", "x", "R2", 0, 0, 10, 9),  # 0.9: the better partner
        ("a", "x", "R2", 0, 0, 10, 8),  # 0.8, but R1's box is taken
        ("b", "x", "R1", 0, 0, 10, 10),  # R2 read b and drew nothing
        ("c", "x", "R1", 0, 0, 10, 10),  # nobody else read c
    )
    readings = pd.DataFrame(
        [("a", "R1"), ("a", "R2"), ("b", "R1"), ("b", "R2"), ("c", "R1")], columns=["image_name", "reader_id"]
    )
    assert label_audits.box_f1(table, readings)["classes"] == {"x": {"f1": 2 / 4, "matches": 1, "boxes": 4}}


def test_an_iou_of_exactly_the_threshold_is_no_match():
    table = boxes(("a", "x", "R1", 0, 0, 10, 10), ("a", "x", "R2", 0, 0, 10, 4))
    readings = table[["image_name", "reader_id"]]
    assert label_audits.box_f1(table, readings, 0.4)["all"]["matches"] == 0
    assert label_audits.box_f1(table, readings, 0.39)["all"] == {"f1": 1.0, "matches": 1, "boxes": 2}


def test_a_consensus_has_no_readers_to_audit(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("image_id,class_name,x_min,y_min,x_max,y_max\n" + "".join(f"f{n},ILD,0,0,9,9\n" for n in range(9)))
    annotations = read_annotations(path)
    found = label_audits.label_audits(annotations, fuse_annotations(annotations.boxes, "none"))
    assert list(found) == ["density_by_position"]
