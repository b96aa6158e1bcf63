"""The page of mistakes: every box has its kind, and the worst images come first."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from d2_cxr.evaluation.matching import match
from d2_cxr.evaluation.mistakes import kinds, write_mistakes


def test_kinds_by_hand(images):
    """A hit, its repeat, another class on the box, a box beside it, one of another class beside it, background."""
    found = [
        (1, 1, 0, 0, 20, 20, 0.9),
        (1, 1, 0, 0, 20, 19, 0.8),
        (1, 2, 0, 0, 20, 20, 0.7),
        (1, 1, 10, 0, 20, 20, 0.6),
        (1, 2, 10, 0, 20, 20, 0.5),
        (1, 1, 60, 60, 20, 20, 0.4),
    ]
    matches = match(*images([(1, 1, 0, 0, 20, 20)], found, num_classes=2))
    assert kinds(matches).tolist() == ["hit", "Dupe", "Cls", "Loc", "Both", "Bkg"]


@pytest.fixture
def page(images, tmp_path):
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
    written = write_mistakes("page_cxr_test", run / "r.json", tmp_path / "out", root=tmp_path)
    return written.read_text()


def test_the_page_shows_the_worst_first_with_every_box(page):
    names = [page.index(f'aria-label="{name}"') for name in ("f3", "n9", "f1", "f2")]
    assert names == sorted(names)
    assert page.count('data-kind="hit"') == 2 and page.count('data-kind="miss"') == 3
    assert page.count('data-kind="Bkg"') == 1 and page.count('data-kind="reader"') == 3
    assert page.count('data-negative="1"') == 1
    assert 'data-score="-1.0"' in page  # the truth box of f3, found by no detection


def test_the_page_stands_alone_and_escapes_names(page):
    assert "&lt;R1&gt;" in page and "<R1>" not in page
    assert "http://" not in page and "https://" not in page
