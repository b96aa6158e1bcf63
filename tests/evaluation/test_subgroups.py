"""Within a group of images every metric is that of these images alone."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation import estimates, subgroups
from d2_cxr.evaluation.evaluate import evaluate
from d2_cxr.evaluation.matching import match

A, B = (0, 0, 10, 10), (50, 50, 10, 10)
NORMAL = {"images": [{"id": n, "file_name": f"n{n}.png", "width": 100, "height": 100} for n in (91, 92, 93)]}
VIEWS = {"f1": "AP", "f2": "AP", "n91": "AP", "f3": "PA", "f4": "PA", "n92": "PA", "n93": "PA"}


@pytest.fixture
def two_views(images):
    """AP: hits .9 and .8, a negative image at .85. PA: a hit .3, a missed image at .25, negative ones at .4 and .2."""
    found = [(1, 1, *A, 0.9), (2, 1, *A, 0.8), (3, 1, *A, 0.3), (4, 1, *B, 0.25)]
    truth, results = images([(image, 1, *A) for image in (1, 2, 3, 4)], found, num_images=4)
    negative = [
        {"image_id": n, "category_id": 1, "bbox": list(A), "score": s} for n, s in ((91, 0.85), (92, 0.4), (93, 0.2))
    ]
    return truth, results + negative, NORMAL


def values(table, *names):
    return [table["metrics"][name]["value"] for name in names]


def test_a_score_that_tells_the_view_is_worth_nothing_within_a_view(two_views):
    """Over all images 7 of 12 pairs are won, within AP 1 of 2 and within PA 2 of 4."""
    document = evaluate(*two_views, resamples=20, grouping=subgroups.Grouping("view", VIEWS)).document
    assert document["metrics"]["image_auroc"]["value"] == pytest.approx(7 / 12)
    found = document["subgroups"]
    assert (found["column"], list(found["subgroups"]), found["num_images_without_value"]) == ("view", ["AP", "PA"], 0)
    assert [values(found["subgroups"][view], "image_auroc") for view in ("AP", "PA")] == [[0.5], [0.5]]
    counts = [found["subgroups"]["PA"][key] for key in ("num_images", "num_findings_images", "num_negative_images")]
    assert counts == [4, 2, 2]
    assert [found["subgroups"]["PA"]["metrics"][name]["n"] for name in ("image_auroc", "AP50")] == [4, 2]


def test_ap_and_froc_within_a_view(two_views):
    """AP view: 3 images, hit .9, false .85, hit .8. PA: 4 images, false .4, hit .3, false .25 and .2."""
    document = evaluate(*two_views, resamples=0, grouping=subgroups.Grouping("view", VIEWS)).document
    bedside, upright = (document["subgroups"]["subgroups"][view] for view in ("AP", "PA"))
    assert values(bedside, "AP50", "AP40_vinbigdata") == pytest.approx([1, 1])
    assert values(upright, "AP50", "AP40_vinbigdata") == pytest.approx([51 / 101, 1 / 2])
    rates = [f"froc_sens_at_{rate}" for rate in ("1/8", "1/4", "1/2", "8")]
    assert values(bedside, *rates) == pytest.approx([1 / 2, 1 / 2, 1, 1])
    assert values(upright, *rates) == pytest.approx([0, 1 / 2, 1 / 2, 1 / 2])


def test_a_group_equals_an_evaluation_of_its_images_alone(simulate):
    truth, results = simulate(num_images=30, num_classes=3, seed=6)
    negative = {"images": [{"id": 900 + n, "file_name": f"n{n}.png", "width": 512, "height": 512} for n in range(8)]}
    extra = [{"image_id": 900 + n, "category_id": 1 + n % 3, "bbox": [9, 9, 50, 50], "score": n / 8} for n in range(8)]
    names = [image["file_name"][:-4] for image in truth["images"] + negative["images"]]
    value_of = {name: "even" if int(name[1:]) % 2 == 0 else "odd" for name in names}
    grouping = subgroups.Grouping("parity", value_of)
    document = evaluate(truth, results + extra, negative, resamples=0, grouping=grouping).document
    table = document["subgroups"]["subgroups"]
    for value in ("even", "odd"):
        (own, found), (other, more) = (_only(value, value_of, *part) for part in ((truth, results), (negative, extra)))
        alone = evaluate(own, found + more, other, resamples=0).document["metrics"]
        assert set(table[value]["metrics"]) == set(subgroups.METRICS)
        for name, entry in table[value]["metrics"].items():
            assert entry["value"] == pytest.approx(alone[name]["value"], abs=1e-12), name
            assert entry["n"] == alone[name]["n"], name


def _only(value, value_of, truth, results):
    images = [image for image in truth["images"] if value_of[image["file_name"][:-4]] == value]
    ids = {image["id"] for image in images}
    boxes = [box for box in truth.get("annotations", []) if box["image_id"] in ids]
    return {**truth, "images": images, "annotations": boxes}, [row for row in results if row["image_id"] in ids]


def test_the_interval_holds_the_value_and_is_wider_than_over_all_images(simulate):
    truth, results = simulate(num_images=80, num_classes=1, seed=2)
    value_of = {f"f{n}": "few" if n < 20 else "many" for n in range(80)}
    matches = match(truth, results)
    weights = estimates.with_original(estimates.image_weights(matches, 200, 0))
    table = subgroups.by_subgroup(matches, weights, subgroups.Grouping("size", value_of))["subgroups"]
    few, many = (table[value]["metrics"]["froc_sens_at_4"] for value in ("few", "many"))
    for entry in (few, many):
        assert entry["interval"][0] <= entry["value"] <= entry["interval"][1]
    assert np.diff(few["interval"]) > 1.3 * np.diff(many["interval"])  # twice is expected: 20 against 60 images, sqrt 3


def test_without_negative_images_the_auroc_between_classes_is_left(two_views):
    truth, results = two_views[0], [row for row in two_views[1] if row["image_id"] < 90]
    document = evaluate(truth, results, resamples=0, grouping=subgroups.Grouping("view", VIEWS)).document
    names = document["subgroups"]["subgroups"]["AP"]["metrics"]
    assert "image_auroc" not in names and names["image_auroc_mean"]["value"] is None  # every image shows the one class


def test_images_without_a_value_are_in_no_group_and_counted(two_views):
    grouping = subgroups.Grouping("view", {**VIEWS, "f2": "", "n92": ""})
    table = evaluate(*two_views, resamples=0, grouping=grouping).document["subgroups"]
    assert table["num_images_without_value"] == 2
    assert {value: group["num_images"] for value, group in table["subgroups"].items()} == {"AP": 2, "PA": 3}


@pytest.mark.parametrize(
    "value_of, message",
    [
        ({"f1": "AP"}, "the table lacks 6 of 7 evaluated images, first f2"),
        (dict.fromkeys(VIEWS, ""), "column view is empty for all 7 evaluated images"),
    ],
)
def test_a_table_that_makes_no_groups_is_refused(two_views, value_of, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*two_views, resamples=0, grouping=subgroups.Grouping("view", value_of))


def test_a_number_of_every_image_makes_no_groups(simulate):
    matches = match(*simulate(num_images=21))
    with pytest.raises(ValueError, match="column age has 21 values on the evaluated images, at most 20"):
        subgroups.members(matches, subgroups.Grouping("age", {f"f{n}": str(n) for n in range(21)}))


def test_a_table_is_read(tmp_path):
    path = tmp_path / "a:b.csv"
    path.write_text("\ufeffimage_id,view\nf1, AP\nf2,\nf1,AP\n", encoding="utf-8")
    assert subgroups.read_grouping(f"{path}:view") == subgroups.Grouping("view", {"f1": "AP", "f2": ""})


@pytest.mark.parametrize(
    "argument, text, error, message",
    [
        ("table.csv", "", ValueError, "takes CSV:COLUMN, e.g. images.csv:view, not 'table.csv'"),
        ("nowhere.csv:view", "", FileNotFoundError, "nowhere.csv is missing"),
        ("table.csv:view", "image_id,age\nf1,3\n", ValueError, "table.csv has no column 'view'; it has image_id, age"),
        ("table.csv:view", "image,view\nf1,AP\n", ValueError, "table.csv has no column 'image_id'; it has image, view"),
        ("table.csv:view", "", ValueError, "table.csv has no column 'image_id'"),
        ("table.csv:view", "image_id,view\nf1,AP\nf1,PA\n", ValueError, "two values of view for image f1: 'AP', 'PA'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(tmp_path, monkeypatch, argument, text, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(error, match=message) as raised:
        subgroups.read_grouping(argument)
    assert "\n" not in str(raised.value)
