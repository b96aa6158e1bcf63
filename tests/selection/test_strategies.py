"""Orders of images, by hand: entropy, PPAL's class weights, spread features, and both stages."""

import math

import numpy as np
import pytest

from d2_cxr.selection.strategies import (
    STRATEGIES,
    binary_entropy,
    class_difficulty,
    class_weights,
    image_uncertainty,
    order_images,
)


def test_entropy_is_0_at_certain_scores_and_ln_2_at_one_half():
    assert binary_entropy(np.array([0, 0.5, 1])) == pytest.approx([0, math.log(2), 0], abs=1e-9)
    assert binary_entropy(np.array([0.1]))[0] == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9))


def test_an_images_uncertainty_is_the_weighted_sum_over_its_boxes():
    found = image_uncertainty(3, np.array([0, 0, 2]), np.array([0, 1, 1]), np.full(3, 0.5), np.array([1.0, 1.2]))
    assert found == pytest.approx([2.2 * math.log(2), 0, 1.2 * math.log(2)])


def test_weights_go_from_1_to_the_papers_bound():
    weights = class_weights(np.array([0, 0.5, 1]))
    assert weights[0] == 1 and weights[2] == pytest.approx(1.2)
    assert 1 < weights[1] < 1.2


def test_a_class_is_as_hard_as_its_boxes_are_badly_found():
    box = np.array([[0, 0, 10, 10]])
    truth = (np.array([0, 1]), np.array([0, 1]), np.repeat(box, 2, axis=0))
    exact = (np.array([0, 0]), np.array([0, 0]), np.repeat(box, 2, axis=0))
    hard = class_difficulty(3, truth, exact, np.array([0.5, 0.25]))
    assert hard == pytest.approx([1 - 0.5**0.6, 1, 1])  # the better box counts; class 1 is missed, class 2 never seen
    half = (np.array([0]), np.array([0]), np.array([[0, 0, 10, 5]]))
    assert class_difficulty(3, truth, half, np.array([1.0]))[0] == pytest.approx(1 - 0.5**0.4)


def test_the_most_uncertain_image_comes_first():
    order = order_images("uncertainty", np.array([0.1, 3, 0.1, 2]), np.zeros((4, 2)), number=2)
    assert order.tolist() == [1, 3, 0, 2]


def test_diverse_takes_one_image_of_each_cluster_before_a_second():
    features = np.repeat(np.eye(4), 5, axis=0)  # 20 images in 4 places
    for seed in range(10):
        order = order_images("diverse", np.zeros(20), features, number=4, seed=seed)
        assert sorted(index // 5 for index in order[:4].tolist()) == [0, 1, 2, 3]


def test_two_stages_spread_among_the_most_uncertain():
    features = np.repeat(np.eye(4), 5, axis=0)
    uncertainty = np.arange(20.0)  # the last two clusters, 10 images, are more uncertain than the first two
    for seed in range(10):
        order = order_images("uncertainty+diverse", uncertainty, features, number=2, seed=seed)
        assert sorted(index // 5 for index in order[:2].tolist()) == [2, 3]
        assert set(order[:8].tolist()) == set(range(12, 20))  # four candidates for each pick


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_orders_all_images_once_and_the_seed_decides(strategy):
    random = np.random.default_rng(0)
    uncertainty, features = random.random(30), random.random((30, 8))
    order = order_images(strategy, uncertainty, features, number=7, seed=5)
    assert sorted(order.tolist()) == list(range(30))
    assert order_images(strategy, uncertainty, features, number=7, seed=5).tolist() == order.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_image_and_equal_images_are_no_trouble(strategy):
    assert order_images(strategy, np.empty(0), np.empty((0, 4)), number=3).tolist() == []
    assert sorted(order_images(strategy, np.zeros(5), np.ones((5, 4)), number=3).tolist()) == [0, 1, 2, 3, 4]


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match=r"'entropy' is not one of random, uncertainty, diverse"):
        order_images("entropy", np.zeros(2), np.zeros((2, 2)), number=1)
