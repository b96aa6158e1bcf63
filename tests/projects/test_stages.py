"""What stages do that needs no training."""

import numpy as np
import pytest
from d2_cxr.projects.label_efficiency import stage_kinds, stages

from d2_cxr import artifacts
from d2_cxr.evaluation.evaluate import evaluate


def evaluated(folder, offsets):
    """Ten images with one box each; detections moved aside by `offsets` pixels of 20."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(1, 11)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        for n in range(1, 11)
    ]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "Nodule/Mass"}]}
    found = [
        {"image_id": n, "category_id": 1, "bbox": [10 + offset, 10, 20, 20], "score": 0.9 - n / 100}
        for n, offset in enumerate(offsets, start=1)
    ]
    evaluate(truth, found, resamples=2, dataset="set_val").write(folder / "inference" / "set_val")


def choose(folder, offsets: dict[float, list[float]]) -> dict:
    """Choose among trials, given by value -> how far each of ten images' boxes lies aside; the first is the default."""
    for value, aside in offsets.items():
        evaluated(folder / f"tuning/a/{value}", aside)
    settings = {"option": "SOLVER.BASE_LR", "trials": {f"tuning/a/{value}": value for value in offsets}}
    settings |= {"default": next(iter(offsets)), "test": "set_val", "metric": "AP75", "classes": ["Nodule/Mass"]}
    return stage_kinds.run_stage({"kind": "choose", "settings": settings, "output": "tuning/a.json"}, str(folder))


def test_the_trial_that_beats_the_default_on_validation_images_is_chosen(tmp_path):
    assert choose(tmp_path, {0.1: [9.0] * 10, 0.2: [1.0] * 10, 0.3: [4.0] * 10}) == {"chosen": 0.2}
    written = artifacts.read_json(tmp_path / "tuning/a.json")
    assert written["value"] == 0.2 and written["test"] == "set_val"
    # IoU 380/420 = .90 passes AP75; 320/480 = .67 and 220/580 = .38 do not
    assert np.allclose([trial["score"] for trial in written["trials"]], [0, 1, 0])
    assert [trial["interval"][0] > 0 for trial in written["trials"]] == [False, True, False]


def test_a_trial_that_is_better_by_what_one_image_may_change_is_not_chosen(tmp_path):
    """The best of near-equal trials is a draw of lots, and would part arms that are equal."""
    one_more = [[1.0] * 5 + [9.0] * 5, [1.0] * 6 + [9.0] * 4]
    assert choose(tmp_path, {0.1: one_more[0], 0.2: one_more[1]}) == {"chosen": 0.1}
    first, second = artifacts.read_json(tmp_path / "tuning/a.json")["trials"]
    assert second["score"] > first["score"] and second["difference"] > 0 > second["interval"][0] - 1e-9


def test_a_run_takes_the_value_that_was_chosen_for_its_arm(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "register", lambda dataset, study_dir: tmp_path)
    artifacts.write_json(tmp_path / "tuning/a.json", {"option": "SOLVER.BASE_LR", "value": 0.002})
    settings = {"options": {"SOLVER.BASE_LR": 0.1, "SOLVER.MAX_ITER": 5}, "dataset": {"name": "set"}, "weights": None}
    settings |= {"train": "set_train", "test": "set_test", "seed": 0, "evaluation": {}, "tuned": "tuning/a.json"}
    options = stages.detector_options(settings, tmp_path)
    assert options[options.index("SOLVER.BASE_LR") + 1] == 0.002
    settings.pop("tuned")
    options = stages.detector_options(settings, tmp_path)
    assert options[options.index("SOLVER.BASE_LR") + 1] == pytest.approx(0.1)
