"""Blocks of resamples and sparse running counts equal one dense product, in work that grows with the images."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from d2_cxr.evaluation import average_precision, estimates, froc, metrics, ranking
from d2_cxr.evaluation.evaluate import evaluate
from d2_cxr.evaluation.matching import HIT, IGNORED, match


def dense_counts(images, places, ends, weights):
    """The former way: (ends x images) times (images x resamples), its rows summed up beforehand."""
    segment = np.searchsorted(ends, places, side="left")
    inside = segment < len(ends)
    cells = np.bincount(segment[inside] * len(weights) + images[inside], minlength=len(ends) * len(weights))
    histogram = np.cumsum(cells.reshape(len(ends), len(weights)), axis=0, dtype=np.float32)
    return (histogram @ weights.astype(np.float32)).astype(np.float64)


def dense_average_precision(images, hits, num_truth, weights, points):
    value, ends = np.zeros(weights.shape[1]), np.flatnonzero(hits)
    if len(ends):
        true_positives = np.cumsum(weights[images[ends]], axis=0, dtype=np.float64)
        detections = dense_counts(images, np.arange(len(images)), ends, weights)
        precision = np.maximum.accumulate((true_positives / (detections + np.spacing(1)))[::-1], axis=0)[::-1]
        recall = true_positives / np.maximum(num_truth, 1)
        reached = recall
        if points:
            below = np.minimum((recall * 100 + 1e-9).astype(np.int64), 100)
            reached = below + (np.linspace(0, 1, 101)[below] <= recall).astype(np.float64)
        value = (precision * np.diff(reached, axis=0, prepend=0.0)).sum(axis=0) / (101 if points else 1)
    return np.where(num_truth > 0, value, np.nan)


def dense_sensitivities(matches, weights, classes=None):
    chosen = froc.marks(matches, classes)
    ends, places = chosen.ends, np.arange(len(chosen.image))
    found = dense_counts(chosen.image[chosen.finds], places[chosen.finds], ends, weights)
    false = dense_counts(chosen.image[chosen.false], places[chosen.false], ends, weights)
    limits = [rate * weights.sum(axis=0) for rate in froc.RATES]
    best = np.stack([np.where(false <= limit, found, 0).max(axis=0, initial=0) for limit in limits])
    lesions = np.bincount(chosen.lesion_image, minlength=len(weights)) @ weights
    return np.where(lesions > 0, best / np.maximum(lesions, 1), np.nan)


@pytest.fixture(params=[{}, {"crowds": 0.2, "small": True, "num_ties": 8}], ids=["plain", "crowds, ties"])
def sample(simulate, request):
    """Matches, and weights of 300 resamples: more than two blocks."""
    matches = match(*simulate(num_images=40, num_classes=3, seed=5, **request.param))
    return matches, estimates.with_original(estimates.image_weights(matches, 300, 0))


def test_average_precision_is_that_of_the_dense_product(sample):
    matches, weights = sample
    found = average_precision.average_precision(matches, weights)
    for index in range(3):
        keep = (matches.dt_class == index) & (matches.dt_rank < 100)
        for area in range(4):
            num_truth = average_precision.truth_boxes(matches, weights, index, area)
            for threshold in range(10):
                code = matches.dt_coco[keep, area, threshold]
                counted = code != IGNORED
                images, hits = matches.dt_image[keep][counted], code[counted] == HIT
                expected = dense_average_precision(images, hits, num_truth, weights, points=True)
                np.testing.assert_allclose(found[index, area, threshold], expected, rtol=0, atol=1e-12)


def test_all_point_precision_is_that_of_the_dense_product(sample):
    matches, weights = sample
    found = average_precision.voc_average_precision(matches, weights)
    for index in range(3):
        keep = matches.dt_class == index
        num_truth = average_precision.truth_boxes(matches, weights, index)
        expected = dense_average_precision(matches.dt_image[keep], matches.dt_voc[keep], num_truth, weights, False)
        np.testing.assert_allclose(found[index], expected, rtol=0, atol=1e-12)


def test_sensitivities_are_those_of_the_dense_product(sample):
    matches, weights = sample
    for classes in (None, [1]):
        found, expected = froc.sensitivities(matches, weights, classes), dense_sensitivities(matches, weights, classes)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_values_do_not_depend_on_the_size_of_a_block(sample, monkeypatch):
    matches, weights = sample
    names = [name for name, rule in metrics.OVERALL.items() if not rule.needs_negatives]
    before = [metrics.value(matches, name, weights) for name in names]
    monkeypatch.setattr(ranking, "MAX_BLOCK", 7)
    monkeypatch.setattr(ranking, "MIN_BLOCK", 7)
    for name, values in zip(names, before, strict=True):
        np.testing.assert_allclose(metrics.value(matches, name, weights), values, rtol=0, atol=1e-12, err_msg=name)


def test_resamples_drawn_one_by_one_are_those_drawn_together():
    one, together = np.random.default_rng(3), np.random.default_rng(3).integers(7, size=(30, 7))
    counts = np.stack([np.bincount(row, minlength=7) for row in together], axis=1)
    assert np.array_equal(estimates.draw(7, 30, one), counts)


def work(simulate, monkeypatch, num_images):
    """Return what an evaluation adds up, the bytes it allocates at most, and its detections."""
    truth, results = simulate(num_images=num_images, num_classes=3, seed=1)
    done = []
    original = ranking.counts_up_to

    def counting(counted, weights):
        done.append((counted.nnz + counted.shape[0]) * weights.shape[1])
        return original(counted, weights)

    monkeypatch.setattr(ranking, "counts_up_to", counting)
    tracemalloc.start()
    evaluate(truth, results, resamples=150, check=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return np.array([sum(done), peak, len(results)])


def test_work_and_memory_grow_with_the_images(simulate, monkeypatch):
    """For about four times the detections; the dense product took sixteen times."""
    sums, memory, detections = work(simulate, monkeypatch, 600) / work(simulate, monkeypatch, 150)
    assert 3.5 < detections < 5
    assert sums < 1.2 * detections
    assert memory < 1.1 * detections
