"""An image as one case: is a finding on it at all? Area under the ROC curve, under image weights.

An image's score for a class is the highest score of a detection of that class. The AUROC is the probability that a
random positive image scores higher than a random negative one, ties counting half (Hanley and McNeil 1982,
https://doi.org/10.1148/radiology.143.1.7063747).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2_cxr.evaluation import ranking
from d2_cxr.evaluation.matching import Matches

NO_DETECTION = -1.0  # below every score


def image_scores(matches: Matches) -> np.ndarray:
    """Return the highest score of each class on each image, (F, C); NO_DETECTION where there is none."""
    scores = np.full((matches.num_images, len(matches.class_names)), NO_DETECTION)
    np.maximum.at(scores, (matches.dt_image, matches.dt_class), matches.dt_score)
    return scores


def image_labels(matches: Matches) -> np.ndarray:
    """Return which classes' truth boxes each image has, (F, C) bool."""
    labels = np.zeros((matches.num_images, len(matches.class_names)), dtype=bool)
    labels[matches.gt_image, matches.gt_class] = True
    return labels


def class_auroc(matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """AUROC of each class, (classes, B): images with that class against all other images, negative ones included."""
    classes = range(len(matches.class_names)) if classes is None else classes
    scores, labels = image_scores(matches), image_labels(matches)
    values = np.empty((len(classes), weights.shape[1]))
    for row, index in enumerate(classes):
        values[row] = auroc(scores[:, index], labels[:, index], weights)
    return values


def any_finding_auroc(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AUROC (B,) of images with findings against negative images, by the highest score of any class."""
    return auroc(image_scores(matches).max(axis=1, initial=NO_DETECTION), ~matches.image_negative, weights)


def auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve.

    Args:
        scores: (F,).
        positive: (F,) bool.
        weights: (F, B) copies of each image in each resample.

    Returns:
        (B,) in [0, 1]; NaN where a resample lacks positives or negatives.
    """
    order = np.argsort(scores, kind="stable")
    _, start = np.unique(scores[order], return_index=True)  # images of one score are one step
    return ranking.in_blocks(lambda block: _pairs_won(block[order], positive[order], start), weights)


def _pairs_won(weights: np.ndarray, positive: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the fraction of pairs (b,) in which the positive image has the higher score; ties count half."""
    weights = weights.astype(np.float64)
    positives = np.add.reduceat(weights * positive[:, None], start, axis=0)  # (steps, b)
    negatives = np.add.reduceat(weights * ~positive[:, None], start, axis=0)
    below = np.cumsum(negatives, axis=0) - negatives / 2
    pairs = positives.sum(axis=0) * negatives.sum(axis=0)
    won = np.einsum("sb,sb->b", positives, below)
    return ranking.ratio(won, pairs)
