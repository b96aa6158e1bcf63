"""Our numbers are pycocotools' numbers."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2_cxr.evaluation import average_precision
from d2_cxr.evaluation.matching import match

pycocotools_coco = pytest.importorskip("pycocotools.coco", reason="pycocotools, the reference, is not installed")
cocoeval = pytest.importorskip("pycocotools.cocoeval")


def reference(truth, results, use_classes=True, max_detections=(1, 10, 100)):
    """Return pycocotools' precision (T, R, K, A) at the last limit and recall (T, K, A, M), NaN for its -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        api = pycocotools_coco.COCO()
        api.dataset = copy.deepcopy(truth)
        api.createIndex()
        # pycocotools' loadRes fails on an empty list: an empty COCO replaces it
        found = api.loadRes(copy.deepcopy(results)) if results else _empty(truth)
        run = cocoeval.COCOeval(api, found, "bbox")
        run.params.useCats = int(use_classes)
        run.params.maxDets = list(max_detections)
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"][..., -1], run.eval["recall"]
    return np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall)


def _empty(truth):
    api = pycocotools_coco.COCO()
    api.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": []}
    api.createIndex()
    return api


def assert_equal_to_pycocotools(truth, results):
    matches = match(truth, results)
    ones = np.ones((matches.num_images, 1))
    precision, recall = reference(truth, results)
    ours = average_precision.average_precision(matches, ones)[..., 0]  # (K, A, T)
    np.testing.assert_allclose(ours, precision.mean(axis=1).transpose(1, 2, 0), rtol=0, atol=1e-9)
    for column, limit in enumerate((1, 10, 100)):
        for area in range(4):
            ours = average_precision.recall(matches, ones, limit, area)[..., 0]  # (K, T)
            np.testing.assert_allclose(ours, recall[:, :, area, column].T, rtol=0, atol=1e-9)
    _, agnostic = reference(truth, results, use_classes=False, max_detections=(100, 300, 1000))
    for area, column, limit in ((0, 0, 100), (1, 2, 1000)):
        ours = average_precision.agnostic_recall(matches, ones, limit, area)[:, 0]
        np.testing.assert_allclose(ours, agnostic[:, 0, area, column], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"seed": 1, "num_images": 60, "num_classes": 14, "per_image": 100},
        {"seed": 2, "num_classes": 1, "per_image": 160},  # more than 100 detections of one class on an image
        {"seed": 3, "crowds": 0.3},
        {"seed": 4, "num_ties": 5},  # many equal scores
        {"seed": 5, "small": True, "crowds": 0.1, "num_ties": 20},
        {"seed": 6, "num_images": 1},
    ],
)
def test_equals_pycocotools_on_random_images(simulate, case):
    assert_equal_to_pycocotools(*simulate(**case))


def test_equals_pycocotools_without_detections(simulate):
    truth, _ = simulate()
    assert_equal_to_pycocotools(truth, [])


def test_equals_pycocotools_without_truth(simulate):
    truth, results = simulate()
    assert_equal_to_pycocotools({**truth, "annotations": []}, results)


def test_equals_pycocotools_when_a_class_is_absent(simulate):
    truth, results = simulate()
    kept = [box for box in truth["annotations"] if box["category_id"] != 2]
    assert_equal_to_pycocotools({**truth, "annotations": kept}, results)
    assert_equal_to_pycocotools(truth, [row for row in results if row["category_id"] != 3])


def test_truth_id_0_counts_as_any_other(simulate):
    """pycocotools takes id 0 for "not matched"; ours equals what it says of the same boxes numbered from 1."""
    truth, results = simulate(num_images=40)
    from_zero = {**truth, "annotations": [{**box, "id": box["id"] - 1} for box in truth["annotations"]]}
    one, zero = match(truth, results), match(from_zero, results)
    assert np.array_equal(one.dt_coco, zero.dt_coco)
    assert not np.array_equal(reference(truth, results)[1], reference(from_zero, results)[1], equal_nan=True)


_quarters = st.integers(0, 80).map(lambda value: value / 4)  # exact in binary: IoU at a threshold is one number
_sides = st.integers(1, 200).map(lambda value: value / 4)
_boxes = st.tuples(st.integers(1, 3), st.integers(1, 2), _quarters, _quarters, _sides, _sides)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_boxes, max_size=8), st.lists(st.tuples(_boxes, st.integers(0, 4)), max_size=12), st.data())
def test_equals_pycocotools_on_boxes_made_by_hypothesis(images, boxes, detections, data):
    truth, results = images(boxes, [(*box, score / 4) for box, score in detections], num_images=3, num_classes=2)
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = data.draw(st.sampled_from([0, 0, 0, 1]))
    assert_equal_to_pycocotools(truth, results)


def test_faster_coco_eval_agrees(simulate):
    faster = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    truth, results = simulate(num_images=30, num_classes=3)
    api = faster.COCO(copy.deepcopy(truth))
    run = faster.COCOeval_faster(api, api.loadRes(copy.deepcopy(results)), "bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        run.evaluate()
        run.accumulate()
        run.summarize()
    matches = match(truth, results)
    ours = average_precision.average_precision(matches, np.ones((30, 1)))[..., 0]
    assert np.nanmean(ours[:, 0]) == pytest.approx(run.stats[0], abs=1e-9)
    assert np.nanmean(ours[:, 0, 0]) == pytest.approx(run.stats[1], abs=1e-9)


def test_average_precision_by_hand(images):
    """Two truth boxes; hit, miss, hit: precision 1 up to recall 1/2 (51 points), 2/3 up to 1 (50 points)."""
    truth, results = images(
        [(1, 1, 0, 0, 10, 10), (1, 1, 50, 50, 10, 10)],
        [(1, 1, 0, 0, 10, 10, 0.9), (1, 1, 80, 0, 10, 10, 0.8), (1, 1, 50, 50, 10, 10, 0.7)],
    )
    ap = average_precision.average_precision(match(truth, results), np.ones((1, 1)))
    assert ap[0, 0, 0, 0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_detections_on_negative_images_count_only_when_asked(images):
    truth, results = images([(1, 1, 0, 0, 10, 10)], [(1, 1, 0, 0, 10, 10, 0.5)])
    negative = {"images": [{"id": 2, "file_name": "n.png", "width": 100, "height": 100}]}
    results.append({"image_id": 2, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.8})
    matches = match(truth, results, negative)
    ones = np.ones((2, 1))
    assert average_precision.average_precision(matches, ones)[0, 0, 0, 0] == pytest.approx(1)
    assert average_precision.average_precision(matches, ones, negatives=True)[0, 0, 0, 0] == pytest.approx(0.5)
