"""Of runs that do not differ, the paired test calls as many different as its p says."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation import estimates, metrics
from d2_cxr.evaluation.matching import match

LEVELS = np.array([0.05, 0.1, 0.2, 0.5])


def null_p_values(simulate, names, repeats, num_images, resamples):
    """p of each metric (names, repeats) between two runs with the same errors, drawn anew, on new images each time."""
    found = np.empty((len(names), repeats))
    for repeat in range(repeats):
        truth, results = simulate(num_images=num_images, num_classes=2, seed=2 * repeat, per_image=6)
        a, b = match(truth, results), match(truth, simulate.detections(truth, np.random.default_rng([repeat, 1]), 6, 0))
        weights = estimates.with_original(estimates.image_weights(a, resamples, repeat))
        for row, name in enumerate(names):
            both = [metrics.value(run, name, weights) for run in (a, b)]
            found[row, repeat] = estimates.compared(*both, metrics.is_interpolated(name))["p"]
    return found


def rejected(p_values):
    """Fraction of p at or below each of LEVELS, and its limits by chance (four standard errors)."""
    allowed = 4 * np.sqrt(LEVELS * (1 - LEVELS) / len(p_values))
    return (p_values[:, None] <= LEVELS).mean(axis=0), allowed


def test_equal_runs_are_called_different_no_more_often_than_p_says(simulate):
    names = ["mAP", "AR_100", "froc_sens_at_1"]
    for name, p_values in zip(
        names, null_p_values(simulate, names, repeats=40, num_images=40, resamples=100), strict=True
    ):
        share, allowed = rejected(p_values)
        assert (share <= LEVELS + allowed).all(), (name, share)
        assert 0.32 <= p_values.mean() <= 0.68, name  # 1/2 expected, four standard errors of 40 uniform values


@pytest.mark.slow
def test_p_is_uniform_when_nothing_differs(simulate):
    names = ["mAP", "AP50", "AR_100", "AP40_vinbigdata", "mean_best_iou", "froc_sens_at_1"]
    for name, p_values in zip(
        names, null_p_values(simulate, names, repeats=250, num_images=60, resamples=200), strict=True
    ):
        share, allowed = rejected(p_values)
        assert (np.abs(share - LEVELS) <= allowed).all(), (name, share)
