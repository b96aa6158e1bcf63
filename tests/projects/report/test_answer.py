"""The report's first sentence and what follows it, from comparisons made by hand."""

from pathlib import Path

import pytest
from d2_cxr.projects.label_efficiency.report import answer
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults


def study(seeds=(0, 1), arms=None, pretraining=None, label_fractions=(10, 100)) -> StudyResults:
    settings = {"study": "s", "primary_endpoint": {"metric": "AP50", "reference": "random"}, "arms": arms or {}}
    settings["pretraining"] = pretraining or {}
    runs = [
        Run(arm, fraction, seed, Path("."), "t", evaluation={}, card={"num_train_images": 5 * fraction})
        for arm in ("random", "simclr")
        for fraction in label_fractions
        for seed in seeds
    ]
    return StudyResults(Path("."), settings, [], {}, tuple(runs), (), None)


def row(share=None, interval=(None, None), difference=(0.05, 0.01, 0.09), arm="simclr") -> dict:
    saving = {"known": True, "share": share, "interval": list(interval), "reference_score": 0.6}
    cell = dict(zip(("value", "low", "high"), difference, strict=True))
    return {"arm": arm, "pair": f"{arm} − random", "saving": saving, "worth": None, "cell": cell, "detectable": 0.06}


def test_a_saving_is_one_sentence_with_the_number_of_images():
    found = answer.answer(study(), [row(46.0, (30.0, 90.0))])
    expected = "simclr needs 46 % of the labels, about 230 of 500 images, to match random with all labels."
    assert found == {"sentence": expected, "number": "46 % of the labels", "interval": "95 % interval: 30 % to 90 %"}


def test_a_study_that_never_ran_all_labels_does_not_speak_of_them():
    """At 30 % of the labels there were 150 images, so 24 % of the labels are 120 images, not 24 % of 150."""
    found = answer.answer(study(label_fractions=(10, 30)), [row(24.0, (20.0, 29.0))])
    assert found["sentence"] == (
        "simclr needs 24 % of the labels, about 120 of 150 images, to match random with 30 % of them."
    )
    found = answer.answer(study(label_fractions=(10, 30)), [row(30.0, (20.0, 30.0))])
    assert found["sentence"] == "simclr saves no labels: to match random it needs as many."
    found = answer.answer(study(label_fractions=(10, 30)), [row()])
    assert "trained on 150 labeled images" in found["sentence"]


def test_the_arm_that_needs_the_fewest_labels_is_the_answer():
    found = answer.answer(study(), [row(80.0, (50.0, 90.0)), row(46.0, (30.0, 90.0), arm="teacher")])
    assert found["sentence"].startswith("teacher needs 46 %")


def test_a_saving_whose_interval_is_open_is_no_headline():
    found = answer.answer(study(), [row(46.0, (30.0, None))])
    assert found["sentence"] == (
        "No label saving is shown. By its mean score simclr needs 46 % of the labels, about 230 of 500 images, to "
        "match random with all labels, but the interval includes that it never does."
    )
    assert found["number"] == "no saving shown"
    assert found["interval"] == "46 % of the labels; 95 % interval: 30 % to not reached"


def test_a_certain_saving_comes_before_a_smaller_one_that_is_not():
    found = answer.answer(study(), [row(30.0, (30.0, None)), row(46.0, (30.0, 90.0), arm="teacher")])
    assert found["number"] == "46 % of the labels"


def worth(share, interval) -> dict:
    return row() | {"saving": None, "worth": {"known": True, "at": 10, "share": share, "interval": list(interval)}}


def test_a_gain_at_one_label_fraction_is_worth_the_labels_that_the_baseline_needs_for_it():
    found = answer.answer(study(), [worth(14.0, (12.0, 17.0)), row(46.0, (30.0, None), arm="other")])
    assert found == {
        "sentence": "With 10 % of the labels (50 images), simclr scores what random scores with 14 % (70).",
        "number": "10 % of the labels instead of 14 %",
        "interval": "95 % interval: 12 % to 17 %",
    }
    found = answer.answer(study(), [worth(None, (80.0, None))])
    assert found["sentence"].endswith("simclr scores what random scores with more than 100 %.")


def test_no_gain_at_one_label_fraction_is_worth_nothing():
    nothing = worth(10.4, (10.0, 13.0)) | {"cell": {"value": 0.01, "low": -0.02, "high": 0.04}}
    found = answer.answer(study(), [nothing])
    assert found["sentence"] == (
        "No label saving was found for simclr at 10 % of the labels. With the same labels simclr's AP50 is neither "
        "clearly higher nor clearly lower than that of random."
    )


def test_without_a_saving_the_difference_is_the_number():
    found = answer.answer(study(), [row(difference=(-0.047, -0.063, -0.032))])
    assert found["sentence"] == (
        "No label saving was found for simclr: at no label fraction that was run did it match random trained on all "
        "500 labeled images. With the same labels its AP50 is lower than that of random."
    )
    assert (found["number"], found["interval"]) == ("−0.047 in AP50", "95 % interval: −0.063 to −0.032")


def test_the_favorable_end_of_the_interval_is_said_in_words():
    found = answer.answer(study(), [row(interval=(91.0, None), difference=(0.0, -0.1, 0.1))])
    assert found["sentence"].endswith("At the favorable end of the interval it matches with 91 % of the labels.")
    assert "neither clearly higher nor clearly lower" in found["sentence"]


def test_one_label_fraction_measures_no_saving():
    found = answer.answer(study(label_fractions=(10,)), [row() | {"saving": None}])  # of the baseline, too
    assert found["sentence"] == (
        "With one label fraction, a label saving cannot be measured. With the same labels simclr's AP50 is higher than "
        "that of random."
    )


def test_no_comparison_is_no_answer():
    assert answer.answer(study(), []) is None


@pytest.mark.parametrize(
    ("saving", "text"),
    [
        ({"known": True, "share": 46.0, "interval": [30.0, None]}, "46 % (30 % to not reached)"),
        ({"known": True, "share": None, "interval": [None, None]}, "not reached"),
        ({"known": False}, "not known"),
        (None, None),
    ],
)
def test_labels_needed_in_a_cell(saving, text):
    assert answer.labels_needed(saving) == text


GAIN, NONE = (0.05, 0.01, 0.09), (0.01, -0.02, 0.04)


@pytest.mark.parametrize(
    ("arm", "difference", "beginning"),
    [
        ({"compute_matched": "simclr"}, GAIN, "The runs are too short"),
        ({"compute_matched": "simclr"}, NONE, None),
        (
            {"weights": "truth"},
            GAIN,
            "The study can see a gain: its positive control gains c − random = +0.050 [+0.010",
        ),
        ({"weights": "truth"}, NONE, "The study is insensitive"),
        ({"weights": "permuted(simclr)"}, GAIN, "The negative control gains, too"),
        ({"weights": "permuted(simclr)"}, NONE, None),
        (
            {"teacher": {"control": "shuffled"}},
            GAIN,
            "The teacher's boxes on other images gain, too (c − random = +0.050",
        ),
        ({"teacher": {"control": "shuffled"}}, NONE, "The teacher's boxes on other images show no gain"),
        ({"teacher": {"control": "labeled"}}, GAIN, "The teacher's schedule gains without unlabeled images, too"),
        ({"teacher": {"control": "labeled"}}, NONE, None),
    ],
)
def test_controls_limit_the_answer(arm, difference, beginning):
    results = study(arms={"c": arm}, pretraining={"truth": {"method": "supervised"}})
    lines = answer.trust(results, [], [row(difference=difference, arm="c")])
    assert [line[: len(beginning)] for line in lines] == [beginning] if beginning else lines == []


def test_what_could_have_been_seen_is_beside_every_difference():
    one, two = (answer.trust(study(seeds), [row()], []) for seeds in ((0,), (0, 1)))
    assert one[0].startswith("One seed: the intervals cover the choice of test images")
    assert two == [
        "A true difference simclr − random below 0.060 in AP50 would often be missed: that is what this study's "
        "seeds and images detect with 80 % power."
    ]
