"""Folds of a prepared set, and the paired differences of trials on them."""

import numpy as np
import pytest
from d2_cxr.projects.label_efficiency import trials
from d2_cxr.projects.label_efficiency.folds import deal, fold_set
from d2_cxr.projects.label_efficiency.trials import difference, read_trials

from d2_cxr import artifacts
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.evaluation.matching import match

PARTS = {"train": range(1, 10), "val": range(10, 13), "test": range(13, 17)}  # patients, two images each


def coco(patients, with_boxes) -> dict:
    images = [
        {
            "id": 2 * patient + number,
            "file_name": f"{patient}_{number}.png",
            "patient": patient,
            "height": 64,
            "width": 64,
        }
        for patient in patients
        for number in range(2)
    ]
    boxes = [
        {"id": number, "image_id": image["id"], "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
        for number, image in enumerate(images, start=1)
    ]
    return {"images": images, "annotations": boxes if with_boxes else [], "categories": [{"id": 1, "name": "Disc"}]}


@pytest.fixture
def prepared(tmp_path):
    """A set without pixels; patient 3 has negative images, too."""
    folder = tmp_path / "clinic"
    for part, patients in PARTS.items():
        artifacts.write_json(folder / "annotations" / "stratified" / f"{part}.json", coco(patients, True))
        negative = coco([100 + patient for patient in patients], False)
        if part == "train":
            negative["images"].append({**negative["images"][0], "id": 999, "file_name": "3_negative.png", "patient": 3})
        artifacts.write_json(folder / "annotations" / "stratified" / f"negative_{part}.json", negative)
    split = {"rule": "stratified", "parts": [0.7, 0.1, 0.2], "seed": 0, "by_patient": True}
    values = {"format_version": 2, "name": "clinic", "class_names": ["Disc"], "split": split}
    artifacts.write_json(folder / "dataset.json", values)
    (folder / "images").mkdir()
    return folder


def patients_of(folder, part) -> set:
    content = artifacts.read_json(folder / "annotations" / "stratified" / f"{part}.json")
    return {image["patient"] for image in content["images"]}


def test_every_patient_of_train_and_val_is_tested_once_and_those_of_test_never(prepared, tmp_path):
    tested, negative = [], []
    for fold in range(3):
        target = tmp_path / f"fold{fold}"
        fold_set(prepared, target, f"clinic_fold{fold}", fold, 3)
        here = patients_of(target, "test") | patients_of(target, "negative_test")
        assert not here & (patients_of(target, "train") | patients_of(target, "negative_train"))
        assert len(patients_of(target, "test")) == 4 and (target / "images").is_dir()
        tested += patients_of(target, "test")
        negative += patients_of(target, "negative_test") - {3}
    assert sorted(tested) == [*range(1, 13)] and sorted(negative) == [*range(101, 113)]


def test_a_fold_is_a_set_that_can_be_loaded_and_its_boxes_are_numbered_anew(prepared, tmp_path):
    from d2_cxr.datasets import builtin

    target = tmp_path / "fold0"
    fold_set(prepared, target, "clinic_fold0", 0, 3)
    builtin.register_prepared("clinic_fold0", target)
    assert named_set("clinic_fold0_test").images() and named_set("clinic_fold0_test").negatives() is not None
    train = artifacts.read_json(target / "annotations" / "stratified" / "train.json")
    assert [box["id"] for box in train["annotations"]] == [*range(1, 17)]
    assert {box["image_id"] for box in train["annotations"]} == {image["id"] for image in train["images"]}


def test_images_without_a_patient_stand_alone():
    dealt = deal([{"file_name": f"{i}.png"} for i in range(6)], [{"file_name": "n.png", "patient": None}], 3, seed=0)
    assert len(dealt) == 7 and sorted(dealt.values()) == [0, 0, 0, 1, 1, 2, 2]


def results(truth, hits) -> list[dict]:
    return [
        {"image_id": image["id"], "category_id": 1, "score": 0.9, "bbox": [4, 4, 20, 20] if hit else [40, 40, 9, 9]}
        for image, hit in zip(truth["images"], hits, strict=True)
    ]


def test_differences_are_averaged_over_folds():
    truth = coco(range(10), True)
    every, none = match(truth, results(truth, [True] * 20)), match(truth, results(truth, [False] * 20))
    found = difference([(every, none), (none, none)], "AP50")
    assert (found["base"], found["changed"], found["difference"]) == pytest.approx((0, 0.5, 0.5))
    assert found["by_fold"] == "+1.000 +0.000" and (found["low"], found["high"]) == pytest.approx((0.5, 0.5))
    half = match(truth, results(truth, [True, False] * 10))
    again = difference([(half, half)], "AP50")
    assert again["difference"] == 0 and again["low"] == again["high"] == 0 and np.isclose(again["p"], 1)


def test_trials_with_other_options_do_not_mix(prepared, tmp_path, monkeypatch):
    values = artifacts.read_json(prepared / "dataset.json")
    artifacts.write_json(
        prepared / "dataset.json", values | {"images_fingerprint": "a", "annotations_fingerprint": "b"}
    )
    settings = {"config": "configs/quick_schedules/opacity_R_18.yaml", "folds": 2, "seed": 0, "metrics": ["AP50"]}
    settings |= {"options": {"SOLVER.MAX_ITER": 300}, "changes": {"a": {"SEED": 1}, "b": {}}}
    trained = []
    monkeypatch.setattr(trials, "_train", lambda *about: trained.append(about[-2:]))

    def run(changed, only):
        return trials.run_trials({**settings, **changed}, {"base": prepared}, tmp_path / "out", only)

    assert run({}, ["a"]) == [] and trained == [("base", 0), ("a", 0), ("base", 1), ("a", 1)]
    assert run({}, ["b"]) == []  # another change beside it
    with pytest.raises(ValueError, match="out holds trials with another options; choose another --output"):
        run({"options": {"SOLVER.MAX_ITER": 600}}, ["a"])
    with pytest.raises(ValueError, match="out holds trials with another change a; choose"):
        run({"changes": {"a": {"SEED": 2}}}, ["a"])


def test_a_wrong_trials_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "trials.yaml"
    good = "config: c.yaml\nfolds: 3\nseed: 0\noptions: {}\nchanges: {a: {SEED: 1}}\n"
    for text, message in (
        (good + "metric: [AP50]\n", "unknown key metric"),
        (good, "lacks metrics"),
        (good.replace("3", "1") + "metrics: [AP50]\n", "folds is 1; give 2 or more"),
        (good + "metrics: [AP5]\n", "AP5 is not a metric"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_trials(path)
    path.write_text(good + "metrics: [AP50]\n")
    assert read_trials(path)["changes"] == {"a": {"SEED": 1}}
