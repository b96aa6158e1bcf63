"""The export for FiftyOne: COCO files that belong together."""

import json

import pytest

from d2_cxr.evaluation.fiftyone import write_fiftyone


@pytest.fixture
def exported(mistakes_set, tmp_path):
    root, results = mistakes_set
    folder = write_fiftyone("page_cxr_test", results, tmp_path / "fo", root=root)
    return folder, {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("labels", "predictions", "readers")
    }


def test_images_of_both_kinds_are_copied_and_listed(exported):
    folder, files = exported
    names = sorted(image["file_name"] for image in files["labels"]["images"])
    assert (
        names == sorted(path.name for path in (folder / "data").iterdir()) == ["f1.png", "f2.png", "f3.png", "n9.png"]
    )


def test_predictions_have_score_kind_and_the_boxes_as_given(exported):
    _, files = exported
    found = {row["image_id"]: row for row in files["predictions"]["annotations"]}
    assert found[1]["bbox"] == [10, 10, 30, 30] and found[1]["score"] == 0.9 and found[1]["kind"] == "hit"
    assert found[9]["kind"] == "Bkg" and found[9]["area"] == 900
    assert files["predictions"]["categories"] == files["labels"]["categories"]


def test_readers_boxes_keep_their_reader(exported):
    assert {box["reader"] for box in exported[1]["readers"]["annotations"]} == {"<R1>"}


def test_a_missing_image_is_named(mistakes_set, tmp_path):
    root, results = mistakes_set
    (root / "page_cxr/images/f2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"f2\.png is missing"):
        write_fiftyone("page_cxr_test", results, tmp_path / "fo", root=root)
