"""A test set of another prepared set: classes by name, preparation, and near duplicates of training images."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, image_array, leakage
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine.evaluate import evaluate_only
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.set_checks import check_other_sets, refuse_shared_images

IDS = {"Disc": 1, "Square": 2}


@pytest.fixture
def other(tiny_set, tmp_path):
    """Return a function: name, its classes -> a set of the tiny set's test images, with boxes of these classes only."""

    def make(name, classes, **preprocess):
        root = tmp_path / name
        for part in ("test", "negative_test"):
            coco = artifacts.read_json(tiny_set / f"annotations/stratified/{part}.json")
            kept = [box for box in coco["annotations"] if box["category_id"] in [IDS.get(name) for name in classes]]
            numbers = {IDS.get(name): index for index, name in enumerate(classes, start=1)}
            coco["annotations"] = [box | {"category_id": numbers[box["category_id"]]} for box in kept]
            coco["categories"] = [{"id": index, "name": name} for index, name in enumerate(classes, start=1)]
            artifacts.write_json(root / f"annotations/stratified/{part}.json", coco)
        shutil.copytree(tiny_set / "images", root / "images")
        shutil.copy(tiny_set / "manifest.csv", root)
        values = {**artifacts.read_json(tiny_set / "dataset.json"), "name": name, "class_names": list(classes)}
        values.pop("annotations_fingerprint")
        values["preprocess"] = values["preprocess"] | preprocess
        artifacts.write_json(root / "dataset.json", values)
        builtin.register_prepared(name, root)
        return root

    return make


def boxes_by_class(folder, names):
    rows = artifacts.read_json(folder / "coco_instances_results.json")
    return {
        name: [(row["image_id"], row["score"], *row["bbox"]) for row in rows if row["category_id"] == index]
        for index, name in enumerate(names, start=1)
    }


def test_classes_in_another_order_or_fewer_are_matched_by_name(other, finished, tiny_cfg):
    other("turned", ("Square", "Disc"))
    other("squares", ("Square",))
    names = "('tiny_cxr_test', 'turned_test', 'squares_test')"
    cfg = tiny_cfg("DATASETS.TEST", names, "MODEL.WEIGHTS", str(finished[2] / "model_final.pth"), output="evaluated")
    evaluate_only(cfg)
    found = Path(cfg.OUTPUT_DIR) / "inference"
    own = boxes_by_class(found / "tiny_cxr_test", ("Disc", "Square"))
    assert own["Square"] and own["Disc"]
    assert boxes_by_class(found / "turned_test", ("Square", "Disc")) == own
    assert boxes_by_class(found / "squares_test", ("Square",)) == {"Square": own["Square"]}
    per_class = [
        artifacts.read_json(found / f"{name}_test/evaluation.json")["per_class"] for name in ("tiny_cxr", "turned")
    ]
    assert per_class[0]["Disc"] == per_class[1]["Disc"]


def test_a_class_that_the_detector_does_not_know_is_refused_by_name(other, tiny_cfg):
    other("stars", ("Disc", "Star"))
    message = r"stars_test has the classes Star, which the detector does not know: .*: Disc, Square \(tiny_cxr_train\)"
    with pytest.raises(ValueError, match=message):
        tiny_cfg("DATASETS.TEST", "('stars_test',)")


def test_images_prepared_in_another_way_are_refused(other, tiny_cfg):
    other("plain", ("Disc",), equalize="none")
    with pytest.raises(
        ValueError, match="plain_test does not fit tiny_cxr_train: the images were prepared with equalize none"
    ):
        check_other_sets(RunSets.of(tiny_cfg("DATASETS.TEST", "('plain_test',)")))


def test_thresholds_need_the_very_same_classes(other, tiny_cfg):
    other("turned", ("Square", "Disc"))
    with pytest.raises(ValueError, match="its classes must be those of tiny_cxr_train in the same order"):
        check_other_sets(RunSets.of(tiny_cfg("CXR.VAL_DATASET", "turned_test")))


def test_a_near_duplicate_of_a_training_image_is_refused_by_name(other, tiny_cfg, tiny_set):
    root = other("copied", ("Disc", "Square"))
    check_other_sets(RunSets.of(tiny_cfg("DATASETS.TEST", "('copied_test',)")))
    smooth = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
    picture = cv2.resize(smooth, (64, 64), interpolation=cv2.INTER_CUBIC)
    train = artifacts.read_json(tiny_set / "annotations/stratified/train.json")["images"][2]["file_name"]
    test = artifacts.read_json(root / "annotations/stratified/negative_test.json")["images"][1]["file_name"]
    shown = {str(tiny_set / "images" / train): picture, str(root / "images" / test): 255 - (255 - picture) // 2}
    read = image_array.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_array, "read", lambda path: shown[path] if path in shown else read(path))
        with pytest.raises(leakage.LeakageError) as error:
            check_other_sets(RunSets.of(tiny_cfg("DATASETS.TEST", "('copied_test',)")))
    message = f"{train[:-4]} is the same image (encoded or resized anew) as {test[:-4]}"
    assert message in str(error.value) and "--allow FILE" in str(error.value)


def test_negative_images_of_another_set_are_held_out_too(other, tiny_cfg, tiny_set):
    root = other("mixed", ("Disc",))
    sets = RunSets.of(tiny_cfg("DATASETS.TEST", "('mixed_test',)"))
    assert named_set("mixed_negative_test") in sets.held_out
    refuse_shared_images(sets)
    train = artifacts.read_json(tiny_set / "annotations/stratified/train.json")["images"][:1]
    path = root / "annotations/stratified/negative_test.json"
    artifacts.write_json(path, artifacts.read_json(path) | {"images": train})
    with pytest.raises(leakage.LeakageError, match=r"is the same file as .* of mixed_negative_test"):
        refuse_shared_images(sets)


def test_a_test_set_whose_patients_cannot_be_compared_is_named(other, tiny_cfg, caplog):
    other("away", ("Disc", "Square"))
    check_other_sets(RunSets.of(tiny_cfg("DATASETS.TEST", "('away_test',)")))
    message = "patients of tiny_cxr and away are not compared (tiny_cxr and away prepared without --patient-key)"
    assert message in caplog.messages
