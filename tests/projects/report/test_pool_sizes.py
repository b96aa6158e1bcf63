"""Pool size against labels, from scores that are set by hand."""

import numpy as np
import pytest
from d2_cxr.projects.label_efficiency.report.pool_sizes import PoolSizes, families, pool_images
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults

LABELED = {10: 50, 30: 150, 100: 500}
SCORES = {  # arm -> label fraction -> score
    "random": {10: 0.30, 30: 0.40, 100: 0.50},
    "small": {10: 0.32, 30: 0.41, 100: 0.50},
    "large": {10: 0.35, 30: 0.46, 100: 0.51},
}
ARMS = {"random": {"config": "a.yaml"}, "small": {"config": "a.yaml", "weights": "small"}}
ARMS["large"] = {"config": "a.yaml", "weights": "large"}
PRETRAINING = {"small": {"config": "p.yaml", "pool": "all+negative", "pool_fraction": 25}}
PRETRAINING["large"] = {"config": "p.yaml", "pool": "all+negative"}
POOLS = {"small": 400, "large": 1600}


class ByHand:
    """The score of a run, with the same noise of its images for all runs of a seed, and its own noise."""

    def __init__(self, scores, own_noise=0.001, resamples=400):
        self.scores, self.own_noise, self.resamples = scores, own_noise, resamples

    def of(self, run, metric, classes=None, images=None):
        shared = np.random.default_rng(run.seed).normal(0, 0.05, self.resamples)
        own = np.random.default_rng([run.seed, run.label_fraction, *run.arm.encode()])
        value = self.scores[run.arm][run.label_fraction]
        return np.concatenate([[value], value + shared + own.normal(0, self.own_noise, self.resamples)])


def study(arms=ARMS, pretraining=PRETRAINING, scores=SCORES, pools=POOLS, label_fractions=tuple(LABELED)):
    def run(arm, fraction, seed):
        card = {"num_train_images": LABELED[fraction], "weights_card": {"num_images": pools.get(arm)}}
        card["preview"] = {"teacher": {"pool_images": pools.get(arm, 0) - LABELED[fraction]}}
        return Run(arm, fraction, seed, folder=None, test="t_test", evaluation={"metrics": {}}, card=card)

    runs = [run(arm, fraction, seed) for arm in arms for fraction in label_fractions for seed in (0, 1, 2)]
    settings = {"arms": arms, "pretraining": pretraining, "primary_endpoint": {"metric": "AP50", "reference": "random"}}
    return StudyResults(None, settings, [], {}, tuple(run for run in runs if run.arm in scores), (), None)


def found(own_noise=0.001, **changes):
    return PoolSizes(study(**changes), ByHand(changes.get("scores", SCORES), own_noise))


def test_a_pools_gain_is_worth_the_labels_that_bring_the_arm_without_a_pool_as_far():
    rows = {(row["arm"], row["labels"]): row for row in found().rows()}
    assert [row["images"] for row in rows.values()] == [0] * 3 + [400] * 3 + [1600] * 3
    assert rows["large", 10]["gain"]["value"] == pytest.approx(0.05)
    # half way from .30 to .40, so at the root of 10 % x 30 %: 17.3 % of the labels, 86.6 images, 37 more than 50
    assert rows["large", 10]["worth"].startswith("37 (")
    assert rows["large", 30]["worth"].startswith("159 (")  # at 30 % x (100 / 30) ** .6 = 61.8 % of 500, less 150
    assert rows["large", 100]["worth"] is None and rows["random", 10]["gain"] is None
    assert rows["small", 10]["pool"] == "25 % of all+negative" and rows["random", 30]["pool"] == "none"


def test_the_answer_takes_the_labels_where_every_pool_gains_less():
    first = found().lines()[0]
    assert first.startswith(
        "With 50 labeled images 100 more labeled images gain more than every pool that was run, the largest of 1,600 "
        "unlabeled images. The labels gain +0.100 (+0."
    )
    assert "400 unlabeled images (small) +0.020 (" in first and "a difference of −0.080 (−0." in first


def test_the_answer_names_the_smallest_pool_that_gains_more_than_the_labels():
    better = SCORES | {"small": SCORES["small"] | {10: 0.42}, "large": SCORES["large"] | {10: 0.47}}
    first = found(scores=better).lines()[0]
    assert first.startswith("With 50 labeled images 400 unlabeled images gain more than 100 more labeled images.")


def test_where_the_interval_of_the_difference_holds_0_nothing_is_claimed():
    first = found(own_noise=0.2).lines()[0]
    assert first.startswith(
        "With 50 labeled images it cannot be said whether unlabeled images gain as much as 100 more labeled images."
    )


@pytest.mark.parametrize("noise, verdict", [(0.001, "a gain"), (0.2, "neither a gain nor a loss is shown")])
def test_what_the_larger_pool_gains_by_itself_stands_with_what_could_have_been_seen(noise, verdict):
    last = found(noise).lines()[-1]
    assert last.startswith(
        "The larger pool by itself, 1,600 unlabeled images (large) instead of 400 unlabeled images (small), over the "
        "label fractions 10, 30, 100 %: +0.035 ("  # trapezoids over the logarithm: .03, .05 and .01 make .0348
    )
    assert f", {verdict}; a true difference below 0." in last


def test_a_teachers_pool_is_counted_without_its_labels():
    arms = {"random": {"config": "a.yaml"}}
    arms |= {name: {"config": "a.yaml", "teacher": {"pool": "all"}} for name in ("small", "large")}
    arms["small"] = {"config": "a.yaml", "teacher": {"pool": "all", "pool_fraction": 25}}
    sizes = found(arms=arms, pretraining={})
    assert [row["images"] for row in sizes.rows() if row["arm"] == "small"] == [350, 250, -100]
    assert [pool.arm for pool in sizes.families[0]] == ["small", "large"]


@pytest.mark.parametrize(
    "change",
    [
        {"large": {"pool": "complement"}},  # as large as the labels leave it
        {"large": {"options": {"num_views": 9}}},  # another pretraining, not another pool
        {"large": {"pool_fraction": 25}},  # the same pool twice
        {"large": {"method": "supervised"}, "small": {"method": "supervised"}},  # not unlabeled
    ],
)
def test_only_arms_that_differ_in_their_pool_alone_are_compared(change):
    pretraining = {name: plan | change.get(name, {}) for name, plan in PRETRAINING.items()}
    results = study(pretraining=pretraining)
    assert families(results) == [] and families(study())
    assert PoolSizes(results, ByHand(SCORES)).rows() == [] == PoolSizes(results, ByHand(SCORES)).lines()


def test_a_runs_row_can_name_the_images_of_its_pool():
    results = study()
    assert {run.arm: pool_images(results.settings, run) for run in results.runs} == {"random": None, **POOLS}


def test_each_pool_is_a_line_with_its_images_in_the_chart():
    (figure,) = found().figures()
    for text in ("no unlabeled images (random)", "400 unlabeled images (small)", "1,600 unlabeled images (large)"):
        assert f">{text}<" in figure["chart"]
    assert "mean over 3 seeds" in figure["caption"]
    assert "1,600 unlabeled images (large), 10 % of the labels (50 images): AP50 0.350" in figure["chart"]


def test_one_label_fraction_says_nothing_of_labels():
    assert found(label_fractions=(10,)).lines()[0].startswith("One label fraction was run")
