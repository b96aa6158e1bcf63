"""Panels of an image, and which images are shown."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from d2_cxr.datasets.builtin import register_below
from d2_cxr.evaluation.gallery import image_sheet, write_gallery
from d2_cxr.evaluation.ground_truth import GroundTruth, load_ground_truth


@pytest.fixture
def shown_set(images, tmp_path):
    """A prepared set `shown_cxr` of 3 black test images of 64 px, one box each, drawn by R1."""
    truth, _ = images([(radiograph, 1, 10, 10, 30, 30) for radiograph in (1, 2, 3)], [], num_images=3)
    folder = tmp_path / "shown_cxr"
    for image in truth["images"]:
        image |= {"width": 64, "height": 64}
        (folder / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / image["file_name"]), np.zeros((64, 64), np.uint8))
    readers = {**truth, "images": [{**image, "readers": ["R1", "R2"]} for image in truth["images"]]}
    readers["annotations"] = [{**box, "reader": "R1"} for box in truth["annotations"]]
    (folder / "annotations" / "stratified").mkdir(parents=True)
    (folder / "annotations" / "stratified" / "test.json").write_text(json.dumps(truth))
    (folder / "annotations" / "readers.json").write_text(json.dumps(readers))
    (folder / "dataset.json").write_text(
        json.dumps({"format_version": 2, "class_names": ["class 1"], "fusion": {"rule": "majority:2"}})
    )
    return tmp_path


def test_an_image_has_a_panel_for_itself_each_reader_truth_and_predictions(images):
    truth, results = images([(1, 1, 10, 10, 30, 30)], [(1, 1, 50, 50, 30, 30, 0.9), (1, 1, 0, 0, 9, 9, 0.1)])
    readers = {"images": [{"id": 1, "readers": ["R10", "R9"]}], "annotations": []}
    named = GroundTruth(truth=truth, readers=readers)
    sheet = image_sheet(np.zeros((100, 100), np.uint8), truth["images"][0], named, results, 0.5, tile=100)
    assert sheet.shape == (2 * 120, 3 * 104, 3)  # image, R9, R10 / truth, predicted
    panel = sheet[120:220, 104:204]
    assert panel[50:80, 48:53].max() > 100 and panel[:9, :40].max() == 0  # the second detection is below the score


def test_the_worst_images_are_shown_first(shown_set, tmp_path):
    found = [{"image_id": image, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.9} for image in (1, 3)]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found))
    common = {"dataset": "shown_cxr_test", "output": tmp_path / "out", "root": shown_set, "tile": 64}
    written = write_gallery(**common, results=results, worst=True, number=2)
    assert [path.name for path in written] == ["000_f2.png", "001_f1.png"]
    assert [path.name for path in write_gallery(**common, image_names=["f3"])] == ["f3.png"]
    assert len(write_gallery(**common)) == 3
    with pytest.raises(ValueError, match="image f9 is not an image of the set, which has 3"):
        write_gallery(**common, image_names=["f9"])
    with pytest.raises(ValueError, match="--worst needs --results"):
        write_gallery(**common, worst=True)


def test_a_named_set_brings_readers_and_fusion_and_misses_what_is_not_there(shown_set):
    register_below("shown_cxr_test", shown_set)
    named = load_ground_truth("shown_cxr_test")
    assert (named.fusion, named.iou_threshold) == ("majority:2", 0.2)
    assert len(named.readers["annotations"]) == 3
    assert named.negative is None and named.train is None
    with pytest.raises(FileNotFoundError, match=r"val\.json is missing"):
        load_ground_truth("shown_cxr_val")
