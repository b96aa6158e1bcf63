"""Average precision, recall and best IoU from matches, under image weights.

COCO's AP and AR are defined as in https://cocodataset.org/#detection-eval and equal pycocotools' to 1e-9.
VinBigData's metric is PASCAL VOC 2010 mean AP at IoU > 0.4 with all-point interpolation (Everingham et al. 2010,
https://doi.org/10.1007/s11263-009-0275-4). The challenge scores "No finding" as a 15th class: one box 0 0 1 1 on every
negative image. A detector gives no such box, so that class is answered the way the challenge's participants did: on
every image, with score 1 - (highest score of any finding). The mean best IoU is the paper's (Table II).

All functions return one value per column of `weights` (F, B): copies of each image in each resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from d2_cxr.evaluation import ranking
from d2_cxr.evaluation.image_level import image_scores
from d2_cxr.evaluation.matching import (
    AREA_NAMES,
    AREA_RANGES,
    HIT,
    IGNORED,
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    Matches,
)

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
    """COCO's average precision over 101 recall values, at 100 detections per image and class.

    Args:
        classes: positions in `matches.class_names`; default all.
        areas, thresholds: positions in matching.AREA_NAMES and matching.IOU_THRESHOLDS.
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
    """Return the fraction of truth boxes hit by the first detections of an image and class; (classes, 10, B)."""
    classes = range(len(matches.class_names)) if classes is None else classes
    weights = weights[: matches.num_findings_images]
    values = np.empty((len(classes), len(IOU_THRESHOLDS), weights.shape[1]))
    for row, index in enumerate(classes):
        keep = (matches.dt_class == index) & (matches.dt_rank < max_detections)
        num_truth = truth_boxes(matches, weights, index, area)
        values[row] = ranking.ratio(_hits_by_image(matches.dt_image, matches.dt_coco, keep, area, weights), num_truth)
    return values


def agnostic_recall(matches: Matches, weights: np.ndarray, max_detections: int, area: int = 0) -> np.ndarray:
    """The same without regard to classes (pycocotools' useCats = 0), first detections of an image; (10, B)."""
    weights = weights[: matches.num_findings_images]
    keep = matches.dt_rank_image < max_detections
    hits = _hits_by_image(matches.dt_image, matches.dt_agnostic, keep, area, weights)
    return ranking.ratio(hits, truth_boxes(matches, weights, None, area))


def truth_boxes(matches: Matches, weights: np.ndarray, index: int | None = None, area: int = 0) -> np.ndarray:
    """Count the truth boxes (B,) of a class (None: of any) and size that COCO counts."""
    return ranking.totals(_truth_images(matches, index, area), weights)


def voc_average_precision(
    matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None, negatives: bool = False
) -> np.ndarray:
    """AP at IoU > 0.4 per class, (classes, B); NaN where a resample holds no truth box of the class.

    Args:
        weights: (F, B) copies of each image in each resample.
        negatives: count detections on negative images, too.
    """
    classes = range(len(matches.class_names)) if classes is None else classes
    weights = weights if negatives else weights[: matches.num_findings_images]
    values = np.empty((len(classes), weights.shape[1]))
    for row, index in enumerate(classes):
        keep = (matches.dt_class == index) & (matches.dt_image < len(weights))
        truth = matches.gt_image[(matches.gt_class == index) & ~matches.gt_crowd]
        values[row] = _all_point(matches.dt_image[keep], matches.dt_voc[keep], truth, weights)
    return values


def no_finding_average_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AP of the class "No finding", (B,): every image answers once; NaN where a resample holds no negative image."""
    score = 1 - np.maximum(image_scores(matches).max(axis=1, initial=0), 0)
    order = np.argsort(-score, kind="stable")
    negative = matches.image_negative
    return _all_point(order, negative[order], np.flatnonzero(negative), weights)


def mean_best_iou(matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Mean over truth boxes of the highest IoU with any detection of their class, (B,); NaN without truth boxes."""
    return _best_iou_moments(matches, weights, classes)[0]


def std_best_iou(matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Population standard deviation of the same, (B,)."""
    return _best_iou_moments(matches, weights, classes)[1]


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


def _all_point(images: np.ndarray, hits: np.ndarray, truth_images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the all-point curve of one ranking, (B,)."""
    ranked = ranking.Ranking(images, hits[:, None], np.ones((len(hits), 1), dtype=bool), truth_images, len(weights))
    return ranking.in_blocks(partial(ranked.average_precision, points=False), weights)[0]


def _best_iou_moments(
    matches: Matches, weights: np.ndarray, classes: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray]:
    keep = ~matches.gt_crowd
    if classes is not None:
        keep &= np.isin(matches.gt_class, list(classes))
    iou, images = matches.gt_best_iou[keep], matches.gt_image[keep]
    sums = np.stack([np.bincount(images, iou**power, minlength=matches.num_images) for power in (0, 1, 2)])
    number, total, squares = ranking.weighted_sums(sums, weights)
    safe = np.maximum(number, 1)
    mean = total / safe
    std = np.sqrt(np.maximum(squares / safe - mean**2, 0))
    return np.where(number > 0, mean, np.nan), np.where(number > 0, std, np.nan)
