"""VOC 2010 at IoU > 0.4, by hand and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.boxes import pairwise_iou, xywh_to_xyxy
from d2_cxr.evaluation import average_precision, metrics
from d2_cxr.evaluation.matching import match


def plain_voc(truth, results, category, threshold=0.4):
    """VOC 2010's own order of steps, for one class."""
    boxes = {image["id"]: [] for image in truth["images"]}
    for box in truth["annotations"]:
        if box["category_id"] == category:
            boxes[box["image_id"]].append(box["bbox"])
    taken = {radiograph: [False] * len(found) for radiograph, found in boxes.items()}
    hits = []
    for row in sorted((r for r in results if r["category_id"] == category), key=lambda r: -r["score"]):
        candidates = boxes[row["image_id"]]
        iou = pairwise_iou(xywh_to_xyxy([row["bbox"]]), xywh_to_xyxy(candidates))[0] if candidates else np.zeros(1)
        best = int(iou.argmax())
        hit = iou[best] > threshold and not taken[row["image_id"]][best]
        if hit:
            taken[row["image_id"]][best] = True
        hits.append(hit)
    number = sum(map(len, boxes.values()))
    recall = np.concatenate([[0], np.cumsum(hits) / number, [1]])
    precision = np.concatenate([[0], np.cumsum(hits) / np.arange(1, len(hits) + 1), [0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    step = np.flatnonzero(np.diff(recall))
    return float(((recall[step + 1] - recall[step]) * precision[step + 1]).sum())


def test_equals_a_plain_loop(simulate):
    truth, results = simulate(num_images=40, num_classes=3)
    ours = average_precision.voc_average_precision(match(truth, results), np.ones((40, 1)))[:, 0]
    assert ours == pytest.approx([plain_voc(truth, results, category) for category in (1, 2, 3)], abs=1e-12)


def test_iou_of_exactly_two_fifths_is_no_hit(images):
    truth, at = images([(1, 1, 0, 0, 10, 10)], [(1, 1, 0, 0, 10, 4, 0.5)])
    _, above = images([], [(1, 1, 0, 0, 10, 4.01, 0.5)])
    ones = np.ones((1, 1))
    assert average_precision.voc_average_precision(match(truth, at), ones)[0, 0] == 0
    assert average_precision.voc_average_precision(match(truth, above), ones)[0, 0] == pytest.approx(1)


def test_no_finding_is_one_more_class_when_negative_images_are_in(images):
    """Images 1 (finding, .8), 2 (negative, nothing), 3 (negative, .9): No finding scores .2, 2 (no detection -> 1), .1.

    Ranking 2, 1, 3: hit, miss, hit: AP = 1/2 * 1 + 1/2 * 2/3 = 5/6. The finding: false .9 first, hit at precision 1/2.
    """
    truth, results = images([(1, 1, 0, 0, 10, 10)], [(1, 1, 0, 0, 10, 10, 0.8)])
    results.append({"image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9})
    negative = {"images": [{"id": i, "file_name": f"n{i}.png", "width": 100, "height": 100} for i in (2, 3)]}
    matches, ones = match(truth, results, negative), np.ones((3, 1))
    assert average_precision.no_finding_average_precision(matches, ones)[0] == pytest.approx(5 / 6)
    mean = metrics.value(matches, "AP40_vinbigdata_with_no_finding", ones)[0]
    assert mean == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert metrics.value(matches, "AP40_vinbigdata", ones)[0] == pytest.approx(1)  # images with findings only, 1 class
