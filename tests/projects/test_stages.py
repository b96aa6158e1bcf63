"""What stages do that needs no training."""

import numpy as np
import pytest
from label_efficiency import stages

from d2_cxr import artifacts
from d2_cxr.evaluation.evaluate import evaluate


def evaluated(folder, offset):
    """Ten films with one box each; detections moved aside by `offset` pixels of 20."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(1, 11)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        for n in range(1, 11)
    ]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "Nodule/Mass"}]}
    found = [
        {"image_id": n, "category_id": 1, "bbox": [10 + offset, 10, 20, 20], "score": 0.9 - n / 100}
        for n in range(1, 11)
    ]
    evaluate(truth, found, resamples=2, dataset="set_val").write(folder / "inference" / "set_val")


def test_the_trial_that_scores_best_on_validation_films_is_chosen(tmp_path):
    trials = {"tuning/a/0.1": (0.1, 9.0), "tuning/a/0.2": (0.2, 1.0), "tuning/a/0.3": (0.3, 4.0)}
    for folder, (_, offset) in trials.items():
        evaluated(tmp_path / folder, offset)
    settings = {"option": "SOLVER.BASE_LR", "trials": {folder: value for folder, (value, _) in trials.items()}}
    settings |= {"test": "set_val", "metric": "AP75", "classes": ["Nodule/Mass"]}
    stage = {"kind": "choose", "settings": settings, "output": "tuning/a.json"}
    assert stages.run_stage(stage, str(tmp_path)) == {"chosen": 0.2}
    written = artifacts.read_json(tmp_path / "tuning/a.json")
    assert written["value"] == 0.2 and written["test"] == "set_val"
    # IoU 380/420 = .90 passes AP75; 320/480 = .67 and 220/580 = .38 do not
    assert np.allclose([trial["score"] for trial in written["trials"]], [0, 1, 0])


def test_a_run_takes_the_value_that_was_chosen_for_its_arm(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "_register", lambda dataset, study_dir: tmp_path)
    artifacts.write_json(tmp_path / "tuning/a.json", {"option": "SOLVER.BASE_LR", "value": 0.002})
    settings = {"options": {"SOLVER.BASE_LR": 0.1, "SOLVER.MAX_ITER": 5}, "dataset": {"name": "set"}, "weights": None}
    settings |= {"train": "set_train", "test": "set_test", "seed": 0, "evaluation": {}, "tuned": "tuning/a.json"}
    options = stages.detector_options(settings, tmp_path)
    assert options[options.index("SOLVER.BASE_LR") + 1] == 0.002
    settings.pop("tuned")
    options = stages.detector_options(settings, tmp_path)
    assert options[options.index("SOLVER.BASE_LR") + 1] == pytest.approx(0.1)
