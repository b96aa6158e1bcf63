"""The metric of the VinBigData challenge: PASCAL VOC 2010 mean AP at IoU > 0.4.

All-point interpolation (Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4). The challenge scores
"No finding" as a 15th class: one box 0 0 1 1 on every negative image. A detector gives no such box, so that class is
answered the way the challenge's participants did: on every image, with score 1 - (highest score of any finding).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from d2_cxr.evaluation import ranking
from d2_cxr.evaluation.image_level import image_scores
from d2_cxr.evaluation.matching import Matches


def average_precision_40(
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


def _all_point(images: np.ndarray, hits: np.ndarray, truth_images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the all-point curve of one ranking, (B,)."""
    ranked = ranking.Ranking(images, hits[:, None], np.ones((len(hits), 1), dtype=bool), truth_images, len(weights))
    return ranking.in_blocks(partial(ranked.average_precision, points=False), weights)[0]
