"""AUROC equals counting pairs."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation import image_level
from d2_cxr.evaluation.matching import match


def test_auroc_by_hand_with_a_tie():
    """Positives .9 .5, negatives .5 .1: pairs won 1, 1, 1/2, 1 of 4."""
    scores, positive = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    assert image_level.auroc(scores, positive, np.ones((4, 1)))[0] == pytest.approx(3.5 / 4)


def test_weights_are_copies():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 30) / 6, rng.random(30) < 0.4
    weights = rng.integers(0, 3, (30, 4)).astype(float)
    for column, value in enumerate(image_level.auroc(scores, positive, weights)):
        copies = np.repeat(np.arange(30), weights[:, column].astype(int))
        won = [
            (scores[a] > scores[b]) + (scores[a] == scores[b]) / 2
            for a in copies[positive[copies]]
            for b in copies[~positive[copies]]
        ]
        assert value == pytest.approx(np.mean(won))


def test_without_negatives_it_is_undefined():
    assert np.isnan(image_level.auroc(np.array([0.5, 0.2]), np.array([True, True]), np.ones((2, 1)))[0])


def test_an_image_scores_as_its_best_detection_and_without_one_below_all(images):
    matches = match(*images([(1, 1, 0, 0, 9, 9)], [(1, 1, 50, 50, 9, 9, 0.2), (1, 1, 0, 0, 9, 9, 0.0)], num_images=2))
    assert image_level.image_scores(matches).tolist() == [[0.2], [image_level.NO_DETECTION]]
    assert image_level.class_auroc(matches, np.ones((2, 1)))[0, 0] == 1
