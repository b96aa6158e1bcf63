"""Sensitivity by kind of truth box: by how many readers agreed on it, and by its size."""

from __future__ import annotations

import numpy as np

from d2_cxr.evaluation import estimates, ranking
from d2_cxr.evaluation.errors import working_score
from d2_cxr.evaluation.matching import AREA_NAMES, AREA_RANGES, HIT_RULES, Matches

DEFINITION = (
    f"sensitivity: fraction of these truth boxes at which a detection of their class with at least that score points "
    f"({HIT_RULES['iou']}); mean_best_iou: over all scores"
)


def by_truth_box(matches: Matches, weights: np.ndarray, score: float | None = None) -> dict:
    """Split sensitivity and best IoU by number of agreeing readers and by size.

    Args:
        weights: (F, 1 + B), the original sample first.
        score: default errors.working_score, at 1 false positive per image.

    Returns:
        definition, score, readers {"1": {sensitivity, mean_best_iou}, ...}, size {"small": ...}; each with value,
        interval and n. Readers are left out where the truth does not say.
    """
    score = working_score(matches) if score is None else score
    found = best_pointing_score(matches) >= (np.inf if score is None else score)
    columns = {"sensitivity": found.astype(np.float64), "mean_best_iou": matches.gt_best_iou}
    counted = ~matches.gt_crowd
    readers = {
        str(n): counted & (matches.gt_readers == n) for n in np.unique(matches.gt_readers[matches.gt_readers > 0])
    }
    sizes = {
        name: counted & (matches.gt_area >= low) & (matches.gt_area <= high)
        for name, (low, high) in list(zip(AREA_NAMES, AREA_RANGES, strict=True))[1:]
    }
    tables = {
        title: {
            name: {key: _mean(matches, keep, column, weights) for key, column in columns.items()}
            for name, keep in strata.items()
        }
        for title, strata in (("readers", readers), ("size", sizes))
    }
    return {"definition": DEFINITION, "score": score, **tables}


def best_pointing_score(matches: Matches) -> np.ndarray:
    """Return the highest score of a detection that points at each truth box (G,), -inf without one."""
    best = np.full(len(matches.gt_image), -np.inf)
    lesion = matches.pointed_at()
    np.maximum.at(best, lesion[lesion >= 0], matches.dt_score[lesion >= 0])
    return best


def _mean(matches: Matches, keep: np.ndarray, column: np.ndarray, weights: np.ndarray) -> dict:
    """Average a column over truth boxes, with its interval."""
    images = matches.gt_image[keep]
    sums = np.stack([np.bincount(images, power, minlength=matches.num_images) for power in (column[keep], keep[keep])])
    total, number = ranking.weighted_sums(sums, weights)
    return estimates.estimate(ranking.ratio(total, number), int(keep.sum()), "boxes")
