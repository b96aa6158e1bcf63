"""Ranked detections under image weights: the arithmetic that turns one matching into a thousand resamples.

A resample of images is a whole number of copies of each image. Counts of detections up to a place of the ranking are
then a product of (places x images) with (images x resamples), and precision has to be known at hits only, because it
falls between them. This equals evaluating the resampled images again, up to ties of score within one image and class.
"""

from __future__ import annotations

import numpy as np

_RECALL_POINTS = np.linspace(0, 1, 101)  # COCO's, rounding included: 57 * 0.01 is a little more than 0.57
_EPSILON = np.spacing(1)


def counts_up_to(images: np.ndarray, places: np.ndarray, ends: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count, with image weights, the entries at or before each end.

    Args:
        images: (N,) image of each entry.
        places: (N,) place of each entry in the ranking.
        ends: (K,) rising places.
        weights: (F, B) copies of each image in each resample.

    Returns:
        (K, B) float64; whole numbers, exact below 2**24.
    """
    num_images, num_ends = len(weights), len(ends)
    segment = np.searchsorted(ends, places, side="left")  # the first end that includes the entry
    inside = segment < num_ends
    cells = np.bincount(segment[inside] * num_images + images[inside], minlength=num_ends * num_images)
    histogram = np.cumsum(cells.reshape(num_ends, num_images), axis=0, dtype=np.float32)
    return (histogram @ single(weights)).astype(np.float64)


def totals(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count entries (N,) with image weights (F, B); returns (B,) float64, whole numbers, exact below 2**24."""
    return (np.bincount(images, minlength=len(weights)).astype(np.float32) @ single(weights)).astype(np.float64)


def single(weights: np.ndarray) -> np.ndarray:
    return weights.astype(np.float32, copy=False)


def average_precision(
    images: np.ndarray, hits: np.ndarray, num_truth: np.ndarray, weights: np.ndarray, points: bool = True
) -> np.ndarray:
    """Average precision of one ranking under image weights.

    Args:
        images: (N,) image of each counted detection, by falling score.
        hits: (N,) bool.
        num_truth: (B,) weighted number of truth boxes.
        weights: (F, B).
        points: COCO's mean over 101 recall values; else the area under the all-point curve (VOC 2010).

    Returns:
        (B,) in [0, 1]; NaN where a resample holds no truth box.
    """
    value = np.zeros(weights.shape[1])
    ends = np.flatnonzero(hits)
    if len(ends):
        true_positives = np.cumsum(weights[images[ends]], axis=0, dtype=np.float64)  # (K, B)
        detections = counts_up_to(images, np.arange(len(images)), ends, weights)
        precision = true_positives / (detections + _EPSILON)
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # the best at this recall or a higher one
        recall = true_positives / np.maximum(num_truth, 1)
        reached = _recall_points(recall) if points else recall
        value = _gained(precision, reached) / (len(_RECALL_POINTS) if points else 1)
    return np.where(num_truth > 0, value, np.nan)


def _gained(precision: np.ndarray, reached: np.ndarray) -> np.ndarray:
    return np.einsum("kb,kb->b", precision, np.diff(reached, axis=0, prepend=0.0))


def _recall_points(recall: np.ndarray) -> np.ndarray:
    """Return how many of COCO's 101 recall values are at most `recall`, as float64."""
    below = np.minimum((recall * 100 + 1e-9).astype(np.int64), 100)
    return below + (_RECALL_POINTS[below] <= recall).astype(np.float64)
