"""From a detector and unlabeled images to a work list with pre-annotations."""

import json

import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets import builtin
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.prediction import prepared_predictions
from d2_cxr.prediction.label_next import label_next
from d2_cxr.prediction.predictor import Predictor
from d2_cxr.prediction.prepared_predictions import predict_prepared
from d2_cxr.prediction.work_list import candidates
from d2_cxr.selection import STRATEGIES


@pytest.fixture(scope="module")
def predictor(finished):
    """The small detector, with thresholds that let some of its boxes through."""
    return Predictor(
        finished[2] / "model_final.pth", device="cpu", thresholds={"thresholds": {"Disc": 0.05, "Square": None}}
    )


@pytest.fixture(scope="module")
def pool(tiny_set, tmp_path_factory):
    """The tiny set's training images as a set without labels: twelve images, two of each patient but the last two's."""
    root = tmp_path_factory.mktemp("pool") / "pool"
    images = artifacts.read_json(tiny_set / "annotations/stratified/train.json")["images"]
    for index, image in enumerate(images[:10]):
        image["patient"] = index // 2
    content = {"images": images, "annotations": [], "categories": []}
    artifacts.write_json(root / "annotations" / "unlabeled.json", content)
    rows = artifacts.read_csv(tiny_set / "manifest.csv")
    rows = [row | {"file": f"ward/{row['image_name']}.dcm", "pixel_spacing": "0.2 0.2"} for row in rows]
    artifacts.write_csv(root / "manifest.csv", rows, list(rows[0]))
    values = {**artifacts.read_json(tiny_set / "dataset.json"), "name": "pool"}
    values.pop("annotations_fingerprint")
    artifacts.write_json(root / "dataset.json", values)
    (root / "images").symlink_to(tiny_set / "images")
    builtin.register_prepared("pool", root)
    return root


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_work_list_has_ranks_pre_annotations_and_a_page(predictor, pool, tmp_path, strategy):
    work = label_next(predictor, ["pool_unlabeled"], tmp_path, 4, strategy, formats=("label_studio", "coco"))
    rows = artifacts.read_csv(tmp_path / "label_next.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"] and work.num_candidates == 12
    assert rows[0]["file"] == f"ward/{rows[0]['image_name']}.dcm"
    if strategy == "uncertainty":
        scores = {row["patient"]: float(row["uncertainty"]) for row in reversed(rows)}
        assert list(scores.values()) == sorted(scores.values())
    assert f"{work.negative} of 4 predicted negative" in (tmp_path / "label_next.html").read_text()
    tasks = json.loads((tmp_path / "label_studio/tasks.json").read_text())
    assert [task["predictions"][0]["score"] for task in tasks] == [0.25, 0.5, 0.75, 1]
    assert [task["data"]["image"].rsplit("/", 1)[1].split(".")[0] for task in tasks] == [
        row["image_name"] for row in rows
    ]
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [int(row["boxes"]) for row in rows]
    assert (tmp_path / "coco/classes.txt").read_text() == "Disc\nSquare\n"


def test_patients_are_not_divided(predictor, pool, tmp_path):
    work = label_next(predictor, ["pool_unlabeled"], tmp_path, 4, "random", seed=3)
    patients = [row["patient"] for row in artifacts.read_csv(tmp_path / "label_next.csv")]
    assert all(patients.count(patient) == 2 for patient in patients if patient) and work.divided == 0


def test_pre_annotations_are_in_source_pixels_and_come_back_as_labels(predictor, pool, tmp_path):
    label_next(predictor, ["pool_unlabeled"], tmp_path, 12, formats=("coco",))
    seen = predict_prepared(
        predictor, [image.to_dict() for image in candidates(named_set("pool_unlabeled"))], tmp_path / "predictions.npz"
    )
    reported = int(((seen.scores >= 0.05) & (seen.classes == 0)).sum())
    labels = read_annotations(tmp_path / "coco", "from-csv")
    assert len(labels.boxes) == reported > 0
    assert labels.boxes["x_max"].max() > 64  # the source images are four times as large as the network's


def test_images_are_looked_at_once_also_after_an_interruption(predictor, pool, tmp_path, monkeypatch):
    images = [image.to_dict() for image in candidates(named_set("pool_unlabeled"))]
    path, looked = tmp_path / "predictions.npz", []
    look = type(predictor).boxes_and_features

    def stop_at_the_sixth(self, pixels):
        if len(looked) == 5:
            raise KeyboardInterrupt
        looked.append(pixels)
        return look(self, pixels)

    monkeypatch.setattr(type(predictor), "boxes_and_features", stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        predict_prepared(predictor, images, path)
    monkeypatch.setattr(type(predictor), "boxes_and_features", look)
    first = predict_prepared(predictor, images[:5], path)
    monkeypatch.setattr(prepared_predictions.image_array, "read", lambda path: pytest.fail("looked at again"))
    again = predict_prepared(predictor, images[:5][::-1], path)
    assert np.array_equal(again.features[::-1], first.features) and first.features.shape == (5, 64)
    assert np.array_equal(again.of(4)[0], first.of(0)[0])


def test_near_duplicates_are_picked_once_and_not_where_one_is_labeled(predictor, pool, tmp_path):
    names = [image.name for image in candidates(named_set("pool_unlabeled"))]
    columns = ("image_name", "other_image_name", "how", "correlation")
    pairs = [(names[0], names[4], "cropped", "0.9"), (names[2], "labeled", "cropped", "0.9")]
    artifacts.write_csv(
        pool / "near_duplicates.csv", [dict(zip(columns, pair, strict=True)) for pair in pairs], columns
    )
    artifacts.write_json(pool / "annotations/readers.json", {"images": [{"file_name": "labeled.png"}]})
    try:
        work = label_next(predictor, ["pool_unlabeled"], tmp_path, 12)
    finally:
        (pool / "near_duplicates.csv").unlink()
        (pool / "annotations/readers.json").unlink()
    picked = {image.file for image in work.images}
    assert (work.num_candidates, work.labeled_duplicates, work.duplicates, len(picked)) == (11, 1, 1, 10)
    assert f"ward/{names[2]}.dcm" not in picked


def test_labeled_images_are_refused_by_name(predictor, tiny_set, tmp_path):
    with pytest.raises(ValueError, match="the images of tiny_cxr_train are labeled already; name unlabeled ones"):
        label_next(predictor, ["tiny_cxr_train"], tmp_path)


def test_classes_that_the_detector_finds_badly_weigh_more(predictor, pool, tmp_path, caplog):
    label_next(predictor, ["pool_unlabeled"], tmp_path, 2, "uncertainty")
    assert "validation images are missing" not in caplog.text  # tiny_cxr_val, of the card
    assert len(np.load(tmp_path / "predictions.npz")["images"]) == 12 + 4
