"""A results file is read with every value of COCO's type, or refused with the detection named."""

from __future__ import annotations

import json

import pytest

from d2_cxr.evaluation.coco_arrays import read_results, require_types
from d2_cxr.evaluation.matching import match

GOOD = {"image_id": 1, "category_id": 1, "bbox": [1, 2.5, 3, 4], "score": 1}


def write(tmp_path, rows):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(rows))
    return path


def test_good_rows_come_back_as_they_are(tmp_path):
    rows = [GOOD, {**GOOD, "score": 0.25, "segmentation": []}]
    assert read_results(write(tmp_path, rows)) == rows
    assert read_results(write(tmp_path, [])) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"score": "0.89"}, "score is the text '0.89', not a number"),
        ({"score": None}, "score is null, not a number"),
        ({"score": True}, "score is True, not a number"),
        ({"score": float("nan")}, "score is nan; evaluate a model that did not diverge"),
        ({"score": 87.5}, "score is 87.5, outside 0 to 1"),
        ({"score": -0.1}, "score is -0.1, outside 0 to 1"),
        ({"bbox": [1, 2, 3]}, "bbox has 3 values, not the four of x, y, width, height"),
        ({"bbox": {"x": 1}}, "bbox is {'x': 1}, not a list of four numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox holds nan, which is not a finite number"),
        ({"bbox": [1, 2, 10**400, 4]}, "bbox holds 1000"),
        ({"bbox": [1, 2, "3", 4]}, "bbox holds the text '3'"),
        ({"bbox": [1, 2, [3], 4]}, r"bbox holds \[3\]"),
        ({"bbox": [50, 50, -10, 4]}, r"bbox has a negative width or height, \[50.0, 50.0, -10.0, 4.0\]"),
        ({"image_id": "7"}, "image_id is the text '7', not a whole number"),
        ({"image_id": 1.5}, "image_id is 1.5, not a whole number"),
        ({"category_id": "Mass"}, "category_id is the text 'Mass', not a whole number"),
        ({"category_id": [1]}, r"category_id is \[1\], not a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line_with_file_and_detection(tmp_path, change, message):
    path = write(tmp_path, [GOOD, {**GOOD, **change}, GOOD])
    with pytest.raises(ValueError, match=rf"r\.json: detection 1: {message}") as raised:
        read_results(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_a_missing_key_and_a_row_that_is_no_object_are_named(tmp_path):
    for row, message in (({"image_id": 1}, "it has no category_id"), ([1, 2], r"it is \[1, 2\], not an object")):
        with pytest.raises(ValueError, match=f"detection 0: {message}"):
            read_results(write(tmp_path, [row]))
    with pytest.raises(ValueError, match="is not a list of COCO results"):
        read_results(write(tmp_path, {"annotations": []}))


def test_truth_is_held_to_the_same_types(images):
    truth, results = images([(1, 1, 0, 0, 9, 9), (1, 1, 5, 5, 9, 9)], [])
    for change, message in (
        ({"bbox": [1, 2, 3, None]}, "truth: box 1: bbox holds null"),
        ({"area": "81"}, "truth: box 1: area is the text '81'"),
        ({"category_id": 4}, r"truth: box 1: category_id 4 is not one of \[1\]"),
    ):
        wrong = {**truth, "annotations": [truth["annotations"][0], {**truth["annotations"][1], **change}]}
        with pytest.raises(ValueError, match=message):
            match(wrong, results)


def test_rows_need_no_score_where_they_are_truth():
    require_types([{key: GOOD[key] for key in ("image_id", "category_id", "bbox")}], "truth", noun="box")


def test_classes_numbered_from_0_are_named_as_such(images):
    truth, results = images([(1, 1, 0, 0, 9, 9)], [(1, 1, 0, 0, 9, 9, 0.5), (1, 0, 0, 0, 9, 9, 0.4)], num_classes=2)
    with pytest.raises(ValueError, match=r"detection 1: category_id 0 is not one of .* seem to be numbered from 0"):
        match(truth, results)
