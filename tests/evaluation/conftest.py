"""Simulated truth and detections for the evaluation tests."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest


def _coco(num_images: int, num_classes: int, rng: np.random.Generator, crowds: float, small: bool) -> dict:
    images = [
        {"id": 7 + number, "file_name": f"f{number}.png", "width": 512, "height": 512} for number in range(num_images)
    ]
    annotations = []
    for image in images:
        for _ in range(rng.poisson(3)):
            x, y, width, height = _box(rng, small)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.integers(num_classes)) + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": int(rng.random() < crowds),
                    "num_readers": int(rng.integers(1, 4)),
                }
            )
    categories = [{"id": index + 1, "name": f"class {index}"} for index in range(num_classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _box(rng: np.random.Generator, small: bool) -> list[float]:
    width, height = np.exp(rng.uniform(np.log(8), np.log(40 if small else 250), 2))
    return [float(rng.uniform(0, 512 - width)), float(rng.uniform(0, 512 - height)), float(width), float(height)]


def _detections(truth: dict, rng: np.random.Generator, per_image: int, num_ties: int) -> list[dict]:
    """Jittered copies of truth boxes and background; scores rounded so that ties occur."""
    results = []
    classes = len(truth["categories"])
    for box in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            jitter = rng.normal(0, 0.12, 4) * (box["bbox"][2:] * 2)
            moved = np.maximum(np.array(box["bbox"]) + jitter, [-50, -50, 1, 1])
            category = box["category_id"] if rng.random() < 0.8 else int(rng.integers(classes)) + 1
            results.append(_result(box["image_id"], category, moved.tolist(), rng.beta(3, 3), num_ties))
    for image in truth["images"]:
        for _ in range(rng.integers(0, per_image + 1)):
            category = int(rng.integers(classes)) + 1
            results.append(_result(image["id"], category, _box(rng, False), rng.beta(1, 5), num_ties))
    rng.shuffle(results)
    return results


def _result(image_id: int, category: int, bbox: list[float], score: float, num_ties: int) -> dict:
    score = round(score * num_ties) / num_ties if num_ties else float(score)
    return {"image_id": image_id, "category_id": category, "bbox": bbox, "score": score}


@pytest.fixture(scope="session")
def simulate():
    """Return make(num_images, num_classes, seed, ...) -> (COCO truth, COCO results)."""

    def make(num_images=20, num_classes=4, seed=0, per_image=10, crowds=0.0, num_ties=0, small=False):
        rng = np.random.default_rng(seed)
        truth = _coco(num_images, num_classes, rng, crowds, small)
        return truth, _detections(truth, rng, per_image, num_ties)

    make.detections = _detections  # of another run on the same truth
    return make


@pytest.fixture
def images():
    """Return make(truth boxes, detections, ...) -> (truth, results) from bare tuples, for cases done by hand.

    A truth box is (image, class, x, y, w, h), a detection has a score behind; images and classes count from 1.
    """

    def make(boxes, detections, num_images=1, num_classes=1, first_id=1):
        truth = {
            "images": [
                {"id": i, "file_name": f"f{i}.png", "width": 100, "height": 100} for i in range(1, num_images + 1)
            ],
            "categories": [{"id": i, "name": f"class {i}"} for i in range(1, num_classes + 1)],
            "annotations": [
                {"id": i, "image_id": f, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                for i, (f, c, *box) in enumerate(boxes, start=first_id)
            ],
        }
        results = [{"image_id": f, "category_id": c, "bbox": box, "score": score} for f, c, *box, score in detections]
        return truth, results

    return make


@pytest.fixture
def mistakes_set(images, tmp_path):
    """Three test images of 64 px, the third without a detection, and a negative one with a false box."""
    truth, results = images([(n, 1, 10, 10, 30, 30) for n in (1, 2, 3)], [], num_images=3)
    negative = {"images": [{"id": 9, "file_name": "n9.png"}], "annotations": [], "categories": truth["categories"]}
    folder = tmp_path / "page_cxr"
    (folder / "images").mkdir(parents=True)
    for image in truth["images"] + negative["images"]:
        image |= {"width": 64, "height": 64}
        cv2.imwrite(str(folder / "images" / image["file_name"]), np.zeros((64, 64), np.uint8))
    readers = {**truth, "annotations": [{**box, "reader": "<R1>"} for box in truth["annotations"]]}
    (folder / "annotations/stratified").mkdir(parents=True)
    (folder / "annotations/stratified/test.json").write_text(json.dumps(truth))
    (folder / "annotations/stratified/negative_test.json").write_text(json.dumps(negative))
    (folder / "annotations/readers.json").write_text(json.dumps(readers))
    (folder / "dataset.json").write_text(json.dumps({"format_version": 2, "class_names": ["class 1"]}))
    run = tmp_path / "run"
    run.mkdir()
    results = [{"image_id": n, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.9} for n in (1, 2)]
    (run / "r.json").write_text(json.dumps(results))
    false = [{"image_id": 9, "category_id": 1, "bbox": [1, 1, 30, 30], "score": 0.95}]
    (run / "negative_instances_results.json").write_text(json.dumps(false))
    return tmp_path, run / "r.json"
