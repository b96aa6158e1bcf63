"""How well boxes agree in place: the paper's IoU (Table II)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2_cxr.evaluation import ranking
from d2_cxr.evaluation.matching import Matches


def mean_best_iou(matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Mean over truth boxes of the highest IoU with any detection of their class, (B,); NaN without truth boxes."""
    return _best_iou_moments(matches, weights, classes)[0]


def std_best_iou(matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Population standard deviation of the same, (B,)."""
    return _best_iou_moments(matches, weights, classes)[1]


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
