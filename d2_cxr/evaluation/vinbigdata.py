"""The metric of the VinBigData challenge: PASCAL VOC 2010 mean AP at IoU > 0.4.

All-point interpolation (Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4). The challenge scores
"No finding" as a 15th class: one box 0 0 1 1 on every negative image. A detector gives no such box, so that class is
answered the way the challenge's participants did: on every image, with score 1 - (highest score of any finding).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2_cxr.evaluation import coco, ranking
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
        num_truth = coco.truth_boxes(matches, weights, index)
        values[row] = ranking.average_precision(
            matches.dt_image[keep], matches.dt_voc[keep], num_truth, weights, points=False
        )
    return values


def no_finding_average_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AP of the class "No finding", (B,): every image answers once; NaN where a resample holds no negative image."""
    score = 1 - np.maximum(image_scores(matches).max(axis=1, initial=0), 0)
    order = np.argsort(-score, kind="stable")
    num_truth = weights[matches.image_negative].sum(axis=0)
    return ranking.average_precision(order, matches.image_negative[order], num_truth, weights, points=False)
