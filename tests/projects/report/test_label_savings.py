"""Label savings and the area between curves, by hand."""

import numpy as np
import pytest
from d2_cxr.projects.label_efficiency.report.label_savings import (
    Curves,
    area_between,
    compare,
    detectable_difference,
    interval,
    label_savings,
    next_labels,
    resample,
    rising,
    share_reaching,
    two_sided_p,
)


def curves(random, simclr, spread=0.0, seeds=2, resamples=200):
    """Two arms at 10 and 100 % of the labels; every run of an arm has the same score, resamples vary by `spread`."""
    points = np.array([random, simclr], dtype=float)[:, :, None].repeat(seeds, axis=2)
    noise = np.random.default_rng(0).normal(0, spread, (1, 1, 1, resamples))  # the same images for every run
    return Curves(("random", "simclr"), (10, 100), tuple(range(seeds)), points, points[..., None] + noise)


def test_the_share_is_read_off_linearly_over_its_logarithm():
    # from .2 at 10 % to .6 at 100 %: .4 lies half way up, at sqrt(10 * 100) = 31.6 %
    share = share_reaching(np.array([10, 100]), np.array([[0.2], [0.6]]), np.array([0.4]))
    assert share == pytest.approx([31.623], abs=1e-3)


@pytest.mark.parametrize(("target", "share"), [(0.7, np.inf), (0.6, 100), (0.2, 10), (0.1, 10)])
def test_the_ends_of_a_curve(target, share):
    assert share_reaching(np.array([10, 100]), np.array([[0.2], [0.6]]), np.array([target]))[0] == pytest.approx(share)


def test_a_missing_run_makes_the_share_unknown_not_unreached():
    assert np.isnan(share_reaching(np.array([10, 100]), np.array([[np.nan], [0.6]]), np.array([0.4]))[0])


def test_a_curve_that_falls_is_levelled_before_it_is_read():
    assert rising(np.array([0.2, 0.5, 0.3])).tolist() == pytest.approx([0.2, 0.4, 0.4])
    assert rising(np.array([3.0, 2.0, 1.0])).tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_savings_of_a_better_arm():
    found = label_savings(curves(random=(0.2, 0.4), simclr=(0.2, 0.6)), "simclr", "random")
    assert found["reference_score"] == pytest.approx(0.4)
    assert found["share"] == pytest.approx(31.623, abs=1e-3)
    assert found["interval"] == pytest.approx([31.623, 31.623], abs=1e-3)  # no spread, no width
    assert found["reached"] == 1


def test_a_gain_at_one_label_fraction_is_read_off_the_others_curve():
    table = curves(random=(0.2, 0.6), simclr=(0.4, np.nan))
    found = label_savings(table, "random", "simclr", at=10)
    assert (found["at"], found["reference_score"]) == (10, pytest.approx(0.4))
    assert found["share"] == pytest.approx(31.623, abs=1e-3)
    assert label_savings(table, "simclr", "random", at=10)["share"] == pytest.approx(10)


def test_an_arm_that_never_gets_there_is_not_reached_and_its_interval_says_so():
    found = label_savings(curves(random=(0.2, 0.6), simclr=(0.1, 0.3)), "simclr", "random")
    assert (found["share"], found["interval"], found["reached"], found["known"]) == (None, [None, None], 0, True)


def test_the_area_is_the_mean_difference_over_the_logarithm_of_the_share():
    # differences .1, .3 at 10, 100 %: trapezoid .2; with 30 % between, log-spaced .477 and .523
    assert area_between(np.array([10, 100]), np.array([0.1, 0.3])) == pytest.approx(0.2)
    three = area_between(np.array([10, 30, 100]), np.array([0.0, 0.3, 0.3]))
    assert three == pytest.approx(0.15 * 0.47712 + 0.3 * 0.52288, abs=1e-5)


def test_noise_of_the_images_that_both_arms_share_cancels_out():
    found = compare(curves((0.2, 0.4), (0.3, 0.5), spread=0.2), "simclr", "random")
    assert found["difference"] == pytest.approx(0.1)
    assert found["interval"] == pytest.approx([0.1, 0.1])
    assert found["p"] == pytest.approx(2 / 201)


def test_seeds_that_disagree_widen_the_interval():
    points = np.array([[[0.2, 0.2]], [[0.1, 0.5]]])  # simclr is .1 worse with one seed, .3 better with the other
    table = Curves(("random", "simclr"), (100,), (0, 1), points, points[..., None].repeat(400, axis=3))
    found = compare(table, "simclr", "random")
    assert found["difference"] == pytest.approx(0.1)
    assert found["interval"] == pytest.approx([-0.1, 0.3])


def test_seeds_that_are_not_run_yet_do_not_count():
    table = curves([0.1, 0.2], [0.2, 0.3], seeds=3)
    table.points[:, :, 1:] = np.nan
    table.replicates[:, :, 1:] = np.nan
    assert compare(table, "simclr", "random")["seeds"] == 1
    assert label_savings(table, "simclr", "random")["seeds"] == 1


def test_resampled_seeds_are_drawn_together_for_all_arms():
    points = np.array([[[0.0, 1.0]], [[0.0, 1.0]]])
    table = Curves(("a", "b"), (100,), (0, 1), points, points[..., None].repeat(100, axis=3))
    drawn = resample(table)
    assert np.array_equal(drawn[0], drawn[1])
    assert set(np.unique(drawn)) == {0.0, 0.5, 1.0}


def test_infinity_may_be_the_edge_of_an_interval():
    assert interval(np.array([10.0] * 50 + [np.inf] * 50)) == (10.0, np.inf)
    assert interval(np.array([np.nan])) is None


def test_p_is_never_below_what_the_resamples_can_tell():
    assert two_sided_p(np.ones(99)) == pytest.approx(0.02)
    assert two_sided_p(np.array([-1.0, 1.0] * 50)) == 1.0


def test_the_next_labels_follow_a_power_law_exactly_where_it_holds():
    images = np.array([10.0, 20, 40, 80, 160])
    rate = np.geomspace(0.05, 2, 40)[20]
    curve = 0.8 - 0.5 * (images / 160) ** -rate * 0.2
    found = next_labels(images, curve, curve[:, None].repeat(3, axis=1), more=160)
    assert found["gain"] == pytest.approx(0.1 * (1 - 2**-rate), abs=1e-6)
    assert next_labels(images[:4], curve[:4], curve[:4, None], 10) is None


def test_the_detectable_difference_is_2_8_standard_errors():
    """z(.975) + z(.80) = 1.960 + 0.842."""
    differences = np.random.default_rng(0).normal(0.3, 0.01, 100_000)
    assert detectable_difference(differences) == pytest.approx(0.0280, abs=2e-4)
    assert detectable_difference(np.array([np.nan, 0.1])) is None


def test_a_difference_of_that_size_is_seen_in_four_of_five_repetitions():
    random = np.random.default_rng(1)
    error, repetitions = 0.02, 20_000
    true = detectable_difference(random.normal(0, error, 50_000))
    seen = np.abs(random.normal(true, error, repetitions)) > 1.96 * error
    assert seen.mean() == pytest.approx(0.80, abs=0.02)
