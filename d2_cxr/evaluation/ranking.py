"""Ranked detections under image weights: the arithmetic that turns one matching into a thousand resamples.

A resample of images is a whole number of copies of each image. Counts of detections up to a place of the ranking are
then a running sum of a sparse product, (stretches of the ranking x images) with (images x resamples), and precision has
to be known at hits only, because it falls between them. This equals evaluating the resampled images again, up to ties
of score within one image and class. A ranking is sorted once; resamples are taken in blocks that stay in the cache, so
that time and memory grow with the number of detections and not with its square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

BLOCK_BYTES = 2**19  # of float32 weights; with the counts they fit into a core's cache
MIN_BLOCK, MAX_BLOCK = 32, 128  # resamples
_RECALL_POINTS = np.linspace(0, 1, 101)  # COCO's, rounding included: 57 * 0.01 is a little more than 0.57
_EPSILON = np.spacing(1)


def blocks(weights: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the columns of weights (F, B) in blocks of some resamples: (columns, contiguous float32 (F, b))."""
    size = min(MAX_BLOCK, max(MIN_BLOCK, BLOCK_BYTES // (4 * max(1, len(weights)))))
    for start in range(0, weights.shape[1], size):
        columns = slice(start, start + size)
        yield columns, np.ascontiguousarray(weights[:, columns], dtype=np.float32)


def in_blocks(compute: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return compute(weights) for a function (F, B) -> (..., B), block by block."""
    return np.concatenate([compute(block) for _, block in blocks(weights)], axis=-1)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole of counts, NaN where there is nothing to count."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def stretches(images: np.ndarray, places: np.ndarray, ends: np.ndarray, num_images: int) -> sparse.csr_matrix:
    """Count the entries of each image between one end of the ranking and the next.

    Args:
        images: (N,) image of each entry.
        places: (N,) place of each entry in the ranking.
        ends: (K,) rising places, the last of each stretch.

    Returns:
        (K, num_images) float32; entries behind the last end are left out.
    """
    stretch = np.searchsorted(ends, places, side="left")  # the first end that includes the entry
    inside = stretch < len(ends)
    cells = (np.ones(inside.sum(), dtype=np.float32), (stretch[inside], images[inside]))
    return sparse.csr_matrix(cells, shape=(len(ends), num_images))


def counts_up_to(counted: sparse.csr_matrix, weights: np.ndarray) -> np.ndarray:
    """Count entries at or before each end under image weights, (K, B) float32: whole numbers, exact below 2**24."""
    return np.cumsum(counted @ weights, axis=0)


def totals(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count entries (N,) under image weights (F, B); returns (B,) float64, whole numbers, exact below 2**24."""
    counts = np.bincount(images, minlength=len(weights)).astype(np.float32)
    return (counts @ weights.astype(np.float32, copy=False)).astype(np.float64)


def weighted_sums(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return values (N, F) @ weights (F, B) in double precision, (N, B)."""
    return in_blocks(lambda block: values @ block.astype(np.float64), weights)


class Ranking:
    """One ranking of detections and the truth boxes it is compared with, sorted once for any image weights.

    Rules (R) say which detections are hits and which count: IoU thresholds, of which most detections count under all.
    """

    def __init__(
        self, images: np.ndarray, hits: np.ndarray, counted: np.ndarray, truth_images: np.ndarray, num_images: int
    ):
        """
        Args:
            images: (N,) image of each detection, by falling score.
            hits, counted: (N, R) bool.
            truth_images: (G,) image of each truth box.
        """
        places, always = np.arange(len(images)), counted.all(axis=1)
        self._ends = np.flatnonzero(hits.any(axis=1))
        self._always = stretches(images[always], places[always], self._ends, num_images)
        self._num_truth = np.bincount(truth_images, minlength=num_images).astype(np.float32)
        self._rules = []
        for hit, count in zip(hits.T, counted.T, strict=True):
            ends, only = np.flatnonzero(hit), np.flatnonzero(count & ~always)
            more = stretches(images[only], only, ends, num_images) if len(only) else None
            self._rules.append((images[ends], np.searchsorted(self._ends, ends), more))

    def average_precision(self, weights: np.ndarray, points: bool = True) -> np.ndarray:
        """Return the average precision under image weights.

        Args:
            weights: (F, b) float32, a block of resamples.
            points: COCO's mean over 101 recall values; else the area under the all-point curve (VOC 2010).

        Returns:
            (R, b) in [0, 1]; NaN where a resample holds no truth box.
        """
        num_truth = (self._num_truth @ weights).astype(np.float64)
        values = np.where(num_truth > 0, np.zeros((len(self._rules), 1)), np.nan)
        counts = counts_up_to(self._always, weights) if len(self._ends) else weights[:0]
        for row, (hit_images, ends, more) in enumerate(self._rules):
            if len(ends):
                true_positives = np.cumsum(weights[hit_images], axis=0)  # (K, b)
                detections = counts[ends] if more is None else counts[ends] + counts_up_to(more, weights)
                precision = true_positives / (detections.astype(np.float64) + _EPSILON)
                values[row] += _area(precision, true_positives / np.maximum(num_truth, 1), points)
        return values


def _area(precision: np.ndarray, recall: np.ndarray, points: bool) -> np.ndarray:
    """Return the area under precision, interpolated from the right, over recall; both (K, b) by falling score."""
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # the best at this recall or a higher one
    reached = _recall_points(recall) if points else recall
    gained = np.einsum("kb,kb->b", precision, np.diff(reached, axis=0, prepend=0.0))
    return gained / (len(_RECALL_POINTS) if points else 1)


def _recall_points(recall: np.ndarray) -> np.ndarray:
    """Return how many of COCO's 101 recall values are at most `recall`, as float64."""
    below = np.minimum((recall * 100 + 1e-9).astype(np.int64), 100)
    return below + (_RECALL_POINTS[below] <= recall).astype(np.float64)
