"""A small study folder made by hand, after docs/formats.md: two arms, two shares, two seeds, 24 test images."""

import functools
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from d2_cxr.projects.label_efficiency.report import figures

from d2_cxr.artifacts import write_json
from d2_cxr.evaluation.evaluate import evaluate

CLASSES = ("Cardiomegaly", "Nodule/Mass")
COMMAND = ["run_study.py", "--config-file", "s.yaml", "seeds=[0, 1]"]
TEST = "phantom_cxr_test"
# How far, in pixels, an arm's boxes lie beside the truth: the smaller, the better the arm.
ERROR = {("random", 10): 30, ("random", 100): 8, ("simclr", 10): 14, ("simclr", 100): 5}


def truth(num_images: int = 24) -> dict:
    """Every image shows a large box, every second one a small box, too."""
    annotations = []
    for image in range(1, num_images + 1):
        boxes = [(1, [40, 60, 60, 50])] + [(2, [100, 30, 20, 20])] * (image % 2)
        for category, box in boxes:
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            annotations.append(row | {"area": box[2] * box[3], "num_readers": 2})
    return {
        "images": [
            {"id": image, "file_name": f"f{image}.png", "width": 160, "height": 160}
            for image in range(1, num_images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1 + index, "name": name} for index, name in enumerate(CLASSES)],
    }


def detections(error: float, seed: int) -> list[dict]:
    """The truth, shifted by random amounts: worse boxes for a larger error."""
    random = np.random.default_rng(seed)
    rows = []
    for box in truth()["annotations"]:
        shift = random.normal(0, error, 2).clip(-30, 30)
        moved = [box["bbox"][0] + shift[0], box["bbox"][1] + shift[1], *box["bbox"][2:]]
        score = float(random.uniform(0.3, 1))
        rows.append({"image_id": box["image_id"], "category_id": box["category_id"], "bbox": moved, "score": score})
    return rows


def write_run(study: Path, output: str, results: list[dict]) -> None:
    folder = study / output
    evaluate(truth(), results, resamples=50, dataset=TEST).write(folder / "inference" / TEST)
    write_json(folder / "run.json", {"command": "train_net.py", "seed": 0, "num_train_images": 48})
    groups = [{"group": "backbone.stem", "origin": "weights/simclr.pth", "tensors": 5, "fingerprint": "ab" * 32}]
    write_json(folder / "weights.json", {"groups": groups})


def planned(kind: str, stage_id: str, output: str) -> dict:
    return {"id": stage_id, "kind": kind, "needs": [], "output": output, "test": TEST}


_CHARTS = {
    name: getattr(figures, name) for name in ("learning_curves", "partition", "class_balance", "class_curves", "froc")
}
_drawn: dict[bytes, str] = {}


@pytest.fixture
def drawn_anew():
    """Draw every chart of a test, also where an earlier test has drawn the same values."""


@pytest.fixture(autouse=True)
def drawn_once(request, monkeypatch):
    """Drawing is two thirds of a report's time: charts of equal values are drawn once for all tests."""

    def chart(name, *values, **options):
        key = pickle.dumps((name, values, options))
        if key not in _drawn:
            _drawn[key] = _CHARTS[name](*values, **options)
        return _drawn[key]

    for name in () if "drawn_anew" in request.fixturenames else _CHARTS:
        monkeypatch.setattr(figures, name, functools.partial(chart, name))


@pytest.fixture
def study_folder(made_once, tmp_path) -> Path:
    """A copy of the study of its own."""
    return Path(shutil.copytree(made_once, tmp_path / "study"))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Path:
    study = tmp_path_factory.mktemp("made") / "study"
    plan, records = [planned("prior_box", "prior_box/seed0", "runs/prior_box/100/seed0")], {}
    constant = [
        {"image_id": image, "category_id": category, "bbox": box, "score": 0.5}
        for image in range(1, 25)
        for category, box in ((1, [60, 80, 60, 50]), (2, [20, 30, 20, 20]))
    ]
    write_run(study, plan[0]["output"], constant)
    for (arm, label_fraction), error in ERROR.items():
        for seed in (0, 1):
            stage = planned(
                "train", f"train/{arm}/{label_fraction}/seed{seed}", f"runs/{arm}/{label_fraction}/seed{seed}"
            )
            plan.append(stage)
            write_run(study, stage["output"], detections(error, seed))
    for stage in plan:
        records[stage["id"]] = {
            "state": "finished",
            "seconds": 12.3,
            "commit": "abc123",
            "command": COMMAND,
            "outputs": {},
        }
    endpoint = {"metric": "AP50", "reference": "random"}
    criterion = {"metric": "AP50", "classes": list(CLASSES), "margin": 0.15}
    settings = {
        "study": "hand",
        "notes": ["A study made by hand."],
        "primary_endpoint": endpoint,
        "criterion": criterion,
    }
    write_json(study / "study.json", {"format_version": 2, "study": settings, "plan": plan, "stages": records})
    write_json(study / "data" / "statistics.json", STATISTICS)
    return study


STATISTICS = {
    "partition": [
        {"label_fraction": 100, "labeled": 48, "unlabeled": 0, "run": True},
        {"label_fraction": 10, "labeled": 4, "unlabeled": 44, "run": True},
    ],
    "class_balance": [
        {"class": "Cardiomegaly", "original": 48, "expected": 48.0, "ceiling": 48},
        {"class": "Nodule/Mass", "original": 12, "expected": 15.2, "ceiling": 24},
    ],
    "agreement": [
        {
            "readers": ["R1", "R2"],
            "images_both_drew": 30,
            "pairs_all": {"n": 40, "mean": 0.58, "std": 0.28},
            "pairs_iou>0.2": {"n": 35, "mean": 0.69, "std": 0.15},
        },
        {
            "readers": ["R1", "R3"],
            "images_both_drew": 29,
            "pairs_all": {"n": 90, "mean": 0.48, "std": 0.28},
            "pairs_iou>0.2": {"n": 75, "mean": 0.59, "std": 0.15},
        },
    ],
    "density": {"split": "stratified", "boxes": {"train": 1.5, "val": 1.5, "test": 1.5}},
    "example_images": [],
}
