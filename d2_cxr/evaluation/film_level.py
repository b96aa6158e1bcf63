"""A film as one case: is a finding on it at all? Area under the ROC curve, under film weights.

A film's score for a class is the highest score of a detection of that class. The AUROC is the probability that a
random positive film scores higher than a random negative one, ties counting half (Hanley and McNeil 1982,
https://doi.org/10.1148/radiology.143.1.7063747).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2_cxr.evaluation.matching import Matches

NO_DETECTION = -1.0  # below every score


def film_scores(matches: Matches) -> np.ndarray:
    """Return the highest score of each class on each film, (F, C); NO_DETECTION where there is none."""
    scores = np.full((matches.num_films, len(matches.class_names)), NO_DETECTION)
    np.maximum.at(scores, (matches.dt_film, matches.dt_class), matches.dt_score)
    return scores


def film_labels(matches: Matches) -> np.ndarray:
    """Return which classes' truth boxes each film has, (F, C) bool."""
    labels = np.zeros((matches.num_films, len(matches.class_names)), dtype=bool)
    labels[matches.gt_film, matches.gt_class] = True
    return labels


def class_auroc(matches: Matches, weights: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """AUROC of each class, (classes, B): films with that class against all other films, normal ones included."""
    classes = range(len(matches.class_names)) if classes is None else classes
    scores, labels = film_scores(matches), film_labels(matches)
    values = np.empty((len(classes), weights.shape[1]))
    for row, index in enumerate(classes):
        values[row] = auroc(scores[:, index], labels[:, index], weights)
    return values


def any_finding_auroc(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AUROC (B,) of films with findings against normal films, by the highest score of any class."""
    return auroc(film_scores(matches).max(axis=1, initial=NO_DETECTION), ~matches.film_normal, weights)


def auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve.

    Args:
        scores: (F,).
        positive: (F,) bool.
        weights: (F, B) copies of each film in each resample.

    Returns:
        (B,) in [0, 1]; NaN where a resample lacks positives or negatives.
    """
    order = np.argsort(scores, kind="stable")
    _, start = np.unique(scores[order], return_index=True)  # films of one score are one step
    ranked = weights[order].astype(np.float64)
    positives = np.add.reduceat(ranked * positive[order, None], start, axis=0)  # (steps, B)
    negatives = np.add.reduceat(ranked * ~positive[order, None], start, axis=0)
    below = np.cumsum(negatives, axis=0) - negatives / 2
    pairs = positives.sum(axis=0) * negatives.sum(axis=0)
    won = np.einsum("sb,sb->b", positives, below)
    return np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
