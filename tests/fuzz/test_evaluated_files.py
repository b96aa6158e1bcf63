"""Mutated files around an evaluation: results, truth, readers, dataset.json, thresholds; evaluated, or one line."""

import json
import random
from collections import Counter

import numpy as np
import pytest

from d2_cxr.evaluation import files

pytestmark = pytest.mark.slow
CATEGORIES = [{"id": 1, "name": "Mass"}, {"id": 2, "name": "Effusion"}]


def box(image: int, number: int) -> dict:
    rng = np.random.default_rng([image, number])
    bbox = [round(float(value), 1) for value in (*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2))]
    return {"image_id": image, "category_id": 1 + number % 2, "bbox": bbox}


def coco(images: range, **more) -> dict:
    boxes = [box(image, number) | {"area": 100.0, "iscrowd": 0} for image in images for number in (0, 1)]
    return {
        "images": [{"id": image, "file_name": f"f{image}.png", "width": 128, "height": 128} | more for image in images],
        "annotations": [entry | {"id": number} for number, entry in enumerate(boxes, start=1)],
        "categories": CATEGORIES,
    }


def readers() -> dict:
    document = coco(range(1, 9), readers=["R1", "R2"])
    for number, entry in enumerate(document["annotations"]):
        entry["reader"] = f"R{1 + number % 2}"
    return document


GOOD = {
    "sets/toy_cxr/annotations/stratified/test.json": coco(range(1, 9)),
    "sets/toy_cxr/annotations/stratified/train.json": coco(range(11, 16)),
    "sets/toy_cxr/annotations/readers.json": readers(),
    "sets/toy_cxr/dataset.json": {
        "format_version": 2,
        "class_names": ["Mass", "Effusion"],
        "fusion": {"rule": "mean", "iou_threshold": 0.2},
    },
    "results.json": [
        box(image, number) | {"score": 0.3 + 0.1 * number} for image in range(1, 9) for number in (0, 1, 2)
    ],
    "thresholds.json": {"chosen_on": "toy_cxr_val", "thresholds": {"Mass": 0.3, "Effusion": None}},
}
MUTATED = [name for name in GOOD if "train" not in name]


@pytest.mark.parametrize("name", MUTATED)
def test_mutated_files_are_evaluated_or_refused_in_one_line(tmp_path, fuzz, monkeypatch, name):
    monkeypatch.setattr("d2_cxr.evaluation.plots.save", lambda figure, path: None)
    for file, document in GOOD.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps(document))
    outcomes = Counter()
    for number in range(fuzz.cases // 2):
        mutant = fuzz.mutated(GOOD[name], random.Random(f"{fuzz.seed} {name} {number}"))
        (tmp_path / name).unlink()  # another time of modification, however fast this goes
        (tmp_path / name).write_text(json.dumps(mutant))
        try:
            files.evaluate_files(
                "toy_cxr_test",
                tmp_path / "results.json",
                tmp_path / "out",
                root=tmp_path / "sets",
                thresholds=tmp_path / "thresholds.json",
                resamples=0,
            )
            outcomes["evaluated"] += 1
        except (ValueError, FileNotFoundError) as error:
            fuzz.check_refusal(error, (ValueError, FileNotFoundError), (number, json.dumps(mutant)[:3000]))
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError((number, json.dumps(mutant)[:3000])) from error
    assert outcomes["evaluated"] and outcomes["refused"], outcomes
