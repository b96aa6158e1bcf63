"""COCO's numbers from matches, under image weights: AP and AR, per class, with and without regard to classes.

Definitions as in https://cocodataset.org/#detection-eval; equal to pycocotools' to 1e-9, as tests hold.
All functions return one value per column of `weights` (F, B): copies of each image in each resample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2_cxr.evaluation import ranking
from d2_cxr.evaluation.greedy import AREA_NAMES, AREA_RANGES, HIT, IGNORED, IOU_THRESHOLDS
from d2_cxr.evaluation.matching import MAX_DETECTIONS, Matches

ALL_THRESHOLDS = tuple(range(len(IOU_THRESHOLDS)))
ALL_AREAS = tuple(range(len(AREA_NAMES)))


def average_precision(
    matches: Matches,
    weights: np.ndarray,
    classes: Sequence[int] | None = None,
    areas: Sequence[int] = ALL_AREAS,
    thresholds: Sequence[int] = ALL_THRESHOLDS,
    negatives: bool = False,
) -> np.ndarray:
    """COCO's average precision over 101 recall values, at 100 detections an image and class.

    Args:
        classes: positions in `matches.class_names`; default all.
        areas, thresholds: positions in greedy.AREA_NAMES and greedy.IOU_THRESHOLDS.
        negatives: count detections on negative images, too.

    Returns:
        (classes, areas, thresholds, B); NaN where a resample holds no truth box of that class and size.
    """
    classes = range(len(matches.class_names)) if classes is None else classes
    weights = weights if negatives else weights[: matches.num_findings_images]
    values = np.empty((len(classes), len(areas), len(thresholds), weights.shape[1]))
    for row, index in enumerate(classes):
        rankings = _rankings(matches, index, areas, thresholds, len(weights))
        for columns, block in ranking.blocks(weights):
            for column, ranked in enumerate(rankings):
                values[row, column, :, columns] = ranked.average_precision(block)
    return values


def _rankings(
    matches: Matches, index: int, areas: Sequence[int], thresholds: Sequence[int], num_images: int
) -> list[ranking.Ranking]:
    """Rank the detections of a class for each of `areas`, with a rule for each of `thresholds`."""
    keep = (matches.dt_class == index) & (matches.dt_rank < MAX_DETECTIONS) & (matches.dt_image < num_images)
    images, codes = matches.dt_image[keep], matches.dt_coco[keep]
    ranked = []
    for area in areas:
        code = codes[:, area, list(thresholds)]
        truth = _truth_images(matches, index, area)
        ranked.append(ranking.Ranking(images, code == HIT, code != IGNORED, truth, num_images))
    return ranked


def recall(
    matches: Matches, weights: np.ndarray, max_detections: int, area: int = 0, classes: Sequence[int] | None = None
) -> np.ndarray:
    """Share of truth boxes that are hit by the first detections of an image and class; (classes, 10, B)."""
    classes = range(len(matches.class_names)) if classes is None else classes
    weights = weights[: matches.num_findings_images]
    values = np.empty((len(classes), len(IOU_THRESHOLDS), weights.shape[1]))
    for row, index in enumerate(classes):
        keep = (matches.dt_class == index) & (matches.dt_rank < max_detections)
        num_truth = truth_boxes(matches, weights, index, area)
        values[row] = _share(_hits_by_image(matches.dt_image, matches.dt_coco, keep, area, weights), num_truth)
    return values


def agnostic_recall(matches: Matches, weights: np.ndarray, max_detections: int, area: int = 0) -> np.ndarray:
    """The same without regard to classes (pycocotools' useCats = 0), first detections of an image; (10, B)."""
    weights = weights[: matches.num_findings_images]
    keep = matches.dt_rank_image < max_detections
    hits = _hits_by_image(matches.dt_image, matches.dt_agnostic, keep, area, weights)
    return _share(hits, truth_boxes(matches, weights, None, area))


def truth_boxes(matches: Matches, weights: np.ndarray, index: int | None = None, area: int = 0) -> np.ndarray:
    """Count the truth boxes (B,) of a class (None: of any) and size that COCO counts."""
    return ranking.totals(_truth_images(matches, index, area), weights)


def _truth_images(matches: Matches, index: int | None, area: int) -> np.ndarray:
    low, high = AREA_RANGES[area]
    keep = ~matches.gt_crowd & (matches.gt_area >= low) & (matches.gt_area <= high)
    if index is not None:
        keep &= matches.gt_class == index
    return matches.gt_image[keep]


def _hits_by_image(
    images: np.ndarray, codes: np.ndarray, keep: np.ndarray, area: int, weights: np.ndarray
) -> np.ndarray:
    """Count hits (10, B) at each IoU threshold."""
    detection, threshold = np.nonzero((codes[:, area] == HIT) & keep[:, None])
    cells = threshold * len(weights) + images[detection]
    counts = np.bincount(cells, minlength=len(IOU_THRESHOLDS) * len(weights))
    counts = counts.reshape(len(IOU_THRESHOLDS), len(weights)).astype(np.float32)
    return (counts @ weights.astype(np.float32, copy=False)).astype(np.float64)


def _share(hits: np.ndarray, num_truth: np.ndarray) -> np.ndarray:
    return np.where(num_truth > 0, hits / np.maximum(num_truth, 1), np.nan)
