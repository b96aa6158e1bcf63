"""Resamples are real re-evaluations, intervals cover, pairs are paired."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation import estimates, metrics
from d2_cxr.evaluation.evaluate import evaluate
from d2_cxr.evaluation.matching import Matches, match


def resampled_images(truth, results, copies):
    """Write out a resample: image i as many times as `copies` says, under new ids in the images' order."""
    images, annotations, found = [], [], []
    for image, number in zip(truth["images"], copies, strict=True):
        for _ in range(int(number)):
            new = len(images) + 1
            images.append({**image, "id": new})
            annotations += [{**box, "image_id": new} for box in truth["annotations"] if box["image_id"] == image["id"]]
            found += [{**row, "image_id": new} for row in results if row["image_id"] == image["id"]]
    annotations = [{**box, "id": number} for number, box in enumerate(annotations, start=1)]
    return {**truth, "images": images, "annotations": annotations}, found


def test_twenty_resamples_equal_evaluating_the_resampled_images_again(simulate):
    truth, results = simulate(num_images=25, num_classes=3, seed=3)
    matches = match(truth, results)
    weights = estimates.image_weights(matches, 20, seed=0)
    names = [name for name, rule in metrics.OVERALL.items() if not rule.needs_negatives and name != "mAP_30_images"]
    values = {name: metrics.value(matches, name, weights) for name in names}
    for column in range(20):
        again = match(*resampled_images(truth, results, weights[:, column]))
        ones = np.ones((25, 1))
        for name in names:
            expected = metrics.value(again, name, ones)[0]
            assert values[name][column] == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_metrics_with_negative_images_are_resampled_equally(simulate):
    truth, results = simulate(num_images=30, seed=4)
    findings = {**truth, "images": truth["images"][:20]}
    negative = {"images": truth["images"][20:]}
    ids = {image["id"] for image in findings["images"]}
    findings["annotations"] = [box for box in truth["annotations"] if box["image_id"] in ids]
    matches = match(findings, results, negative)
    weights = estimates.image_weights(matches, 5, seed=1)
    assert weights[:20].sum(axis=0).tolist() == [20] * 5  # drawn apart
    for column in range(5):
        again_truth, again_results = resampled_images(findings, results, weights[:20, column])
        negative_truth, negative_results = resampled_images(
            truth | negative | {"annotations": []}, results, weights[20:, column]
        )
        shift = lambda rows, key: [{**row, key: row[key] + 1000} for row in rows]  # noqa: E731
        again = match(
            again_truth,
            again_results + shift(negative_results, "image_id"),
            {"images": shift(negative_truth["images"], "id")},
        )
        for name in ("image_auroc", "mAP_with_negatives", "AP40_vinbigdata_with_no_finding", "froc_sens_at_1"):
            expected = metrics.value(again, name, np.ones((30, 1)))[0]
            value = metrics.value(matches, name, weights[:, [column]])[0]
            assert value == pytest.approx(expected, abs=1e-9), name


def test_weights_are_seeded_and_keep_a_patients_images_together(simulate):
    truth, results = simulate(num_images=12)
    images = [{**image, "patient": index // 3} for index, image in enumerate(truth["images"])]
    matches = match({**truth, "images": images}, results)
    weights = estimates.image_weights(matches, 50, seed=7)
    assert np.array_equal(weights, estimates.image_weights(matches, 50, seed=7))
    assert not np.array_equal(weights, estimates.image_weights(matches, 50, seed=8))
    assert (weights.reshape(4, 3, 50) == weights.reshape(4, 3, 50)[:, :1]).all()
    assert weights.sum(axis=0).tolist() == [12] * 50


def test_a_class_that_vanishes_in_resamples_is_counted(images):
    """Class 2 is on 1 of 4 images: about (3/4)^4 = 32 % of the resamples lack it."""
    boxes = [(image, 1, 0, 0, 10, 10) for image in (1, 2, 3)] + [(4, 2, 0, 0, 10, 10)]
    truth, results = images(boxes, [(*box, 0.9) for box in boxes], num_images=4, num_classes=2)
    document = evaluate(truth, results, resamples=400).document
    assert document["metrics"]["mAP"]["num_classes"] == 2
    assert 90 < document["metrics"]["mAP"]["reduced_resamples"] < 170
    vanished = document["per_class"]["class 2"]["AP"]["undefined_resamples"]
    assert vanished <= document["metrics"]["mAP"]["reduced_resamples"]
    assert vanished == pytest.approx(400 * 0.75**4, abs=40)


def test_a_run_does_not_differ_from_itself(simulate):
    matches = match(*simulate(num_images=15))
    same = estimates.paired_difference(matches, matches, "AP50", resamples=50)
    assert same["difference"] == 0 and same["interval"] == [0, 0] and same["p"] == 1


def test_a_better_run_is_told_from_a_worse_one(simulate):
    truth, results = simulate(num_images=60, num_classes=2, per_image=5)
    worse = [row for position, row in enumerate(results) if position % 3]
    pair = estimates.paired_difference(match(truth, results), match(truth, worse), "AR_100", resamples=200)
    assert pair["difference"] > 0 and pair["interval"][0] > 0
    assert pair["p"] == pytest.approx(2 / 201)  # the smallest that 200 resamples can give
    assert pair["difference"] == pytest.approx(pair["value_a"] - pair["value_b"])
    assert pair["n"] == 60


def test_a_subset_of_classes_is_averaged_alone(simulate):
    truth, results = simulate(num_images=30, num_classes=3)
    matches = match(truth, results)
    per_class = evaluate(truth, results, resamples=0)
    expected = np.mean([per_class.value("AP50", name) for name in ("class 0", "class 2")])
    pair = estimates.paired_difference(matches, match(truth, []), "AP50", ["class 0", "class 2"], resamples=10)
    assert pair["difference"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="class 'heart' is not one of"):
        estimates.paired_difference(matches, matches, "AP50", ["heart"])


def test_runs_on_different_images_are_refused(simulate):
    a, b = match(*simulate(seed=1)), match(*simulate(seed=2))
    with pytest.raises(ValueError, match="different truth"):
        estimates.paired_difference(a, b, "mAP")


def test_an_estimate_has_value_interval_n_and_unit():
    """Resamples 0 to 100: the 95 % percentile interval is 2.5 to 97.5; an AP's is corrected and cut to 0 to 1."""
    values = np.concatenate([[50.0], np.arange(101.0)])
    found = estimates.estimate(values, 7, "boxes")
    assert found == {"value": 50.0, "interval": pytest.approx([2.5, 97.5]), "n": 7, "unit": "boxes"}
    lifted = estimates.estimate(values / 100 + 0.4, 7, "boxes", interpolated=True)
    assert lifted["interval"] == pytest.approx([0.425, 1.0])
    nothing = estimates.estimate(np.array([np.nan, 0.5]), 0, "images")
    assert nothing == {"value": None, "interval": None, "n": 0, "unit": "images"}
    assert estimates.estimate(np.array([0.5]), 1, "images")["interval"] is None  # no resamples


def test_matches_npz_is_all_that_paired_tests_need(simulate, tmp_path):
    matches = match(*simulate())
    matches.save(tmp_path / "matches.npz")
    loaded = Matches.load(tmp_path / "matches.npz")
    weights = estimates.image_weights(loaded, 10, 0)
    for name in ("mAP", "AR_agnostic_small", "froc_sens_at_1", "mean_best_iou", "AP40_vinbigdata", "image_auroc_mean"):
        ours, theirs = metrics.value(matches, name, weights), metrics.value(loaded, name, weights)
        assert np.array_equal(ours, theirs), name
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match=r"other\.npz is not a matches\.npz"):
        Matches.load(tmp_path / "other.npz")


def _population(simulate, num_images):
    """A supply of images, and a way to draw a test set from it: Matches of n images."""
    truth, results = simulate(num_images=num_images, num_classes=2, seed=11, per_image=6)
    by_image = {image["id"]: ([], []) for image in truth["images"]}
    for box in truth["annotations"]:
        by_image[box["image_id"]][0].append(box)
    for row in results:
        by_image[row["image_id"]][1].append(row)

    def draw(rng, number):
        images = [truth["images"][i] for i in rng.choice(num_images, number, replace=False)]
        boxes = [box for image in images for box in by_image[image["id"]][0]]
        found = [row for image in images for row in by_image[image["id"]][1]]
        return match({**truth, "images": images, "annotations": boxes}, found)

    return match(truth, results), draw


@pytest.fixture(scope="module")
def drawn(simulate):
    """A population of 1500 images, and 80 test sets of 60 of them with 200 resamples each and the original."""
    everything, draw = _population(simulate, 1500)
    rng = np.random.default_rng(5)
    test_sets = [draw(rng, 60) for _ in range(80)]
    weights = [estimates.image_weights(matches, 200, seed) for seed, matches in enumerate(test_sets)]
    return everything, list(zip(test_sets, map(estimates.with_original, weights), strict=True))


def coverage(drawn, name, repeats, corrected=True):
    everything, test_sets = drawn
    target = metrics.value(everything, name, np.ones((1500, 1)))[0]
    covered = 0
    for matches, weights in test_sets[:repeats]:
        values = metrics.value(matches, name, weights)
        low, high = estimates.interval(estimates.corrected(values, corrected and metrics.is_interpolated(name)))
        covered += low <= target <= high
    return covered / repeats


@pytest.mark.parametrize("name", ["mAP", "AP50", "mean_best_iou", "froc_sens_at_1"])
def test_intervals_cover_the_population_value(drawn, name):
    """95 % nominal; 80 test sets of 60 images: 0.86 is four standard errors below."""
    assert coverage(drawn, name, repeats=80) >= 0.86


def test_plain_percentile_intervals_of_map_would_not_cover(drawn):
    """Why average precision is corrected: its resamples lie above the value, and its value above the truth."""
    assert coverage(drawn, "mAP", repeats=60, corrected=False) < 0.85
