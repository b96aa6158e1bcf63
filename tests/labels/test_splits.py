"""Splits and label fractions: exact sizes, nesting, patients kept together, nothing left to the machine."""

import random
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2_cxr.labels import splits

IMAGES = [f"film{number:03}" for number in range(200)]
PATIENTS = {image: f"patient{number // 3}" for number, image in enumerate(IMAGES)}


def parts_of_patients(split: dict) -> dict[str, set[str]]:
    homes: dict[str, set[str]] = {}
    for part, images in split.items():
        for image in images:
            homes.setdefault(PATIENTS[image], set()).add(part)
    return homes


def test_published_cuts_4394_images_as_the_paper_does():
    images = [str(number) for number in range(4394)]
    split = splits.published_split(images)
    assert [len(split[part]) for part in ("train", "val", "test")] == [3075, 440, 879]
    assert split["train"] + split["val"] + split["test"] == images


def test_published_takes_images_by_first_appearance():
    assert splits.published_split(["b", "a", "b", "c", "a"]) == {"train": ["b", "a"], "val": ["c"], "test": []}


def test_labeled_counts_are_those_of_the_paper():
    counts = [splits.labeled_count(3075, 100 - unlabeled) for unlabeled in range(10, 100, 10)]
    assert counts == [2767, 2460, 2152, 1845, 1537, 1230, 922, 615, 307]
    assert int(3075 * (1 - 0.8)) == 614  # what floating point would give for 615


@pytest.mark.parametrize("percent", [-10, 110, 33.3])
def test_a_percentage_that_is_none_is_refused(percent):
    with pytest.raises(ValueError, match="not a whole number from 0 to 100"):
        splits.labeled_count(10, percent)


def test_the_published_fraction_labels_the_last_images_and_loses_none():
    labeled, unlabeled = splits.published_fraction(list("abcdefghij"), 30)
    assert (labeled, unlabeled) == (list("hij"), list("abcdefg"))


def test_the_published_fraction_divides_no_patient():
    patients = {"a": "1", "b": "1", "c": "1", "d": "2"}
    assert splits.published_fraction(list("abcd"), 50, patients) == (["d"], ["a", "b", "c"])


def test_nested_fractions_contain_each_other_and_keep_the_order():
    previous: set[str] = set()
    for percent in range(10, 101, 10):
        labeled, unlabeled = splits.nested_fraction(IMAGES, percent, seed=3)
        assert previous <= set(labeled)
        assert len(labeled) == 2 * percent
        assert labeled == sorted(labeled)
        assert sorted(labeled + unlabeled) == IMAGES
        previous = set(labeled)


def test_nested_fractions_keep_patients_together():
    for percent in (10, 50, 90):
        labeled, unlabeled = splits.nested_fraction(IMAGES, percent, 0, PATIENTS)
        assert not {PATIENTS[image] for image in labeled} & {PATIENTS[image] for image in unlabeled}
        assert abs(len(labeled) - 2 * percent) <= 1  # a patient has three images


def test_seeds_mean_the_same_images_on_every_machine():
    assert splits.nested_fraction(IMAGES, 2, seed=0)[0] == ["film004", "film072", "film107", "film146"]
    assert splits.random_split(IMAGES[:10], seed=0) == {
        "train": ["film004", "film008", "film003", "film001", "film000", "film009", "film005"],
        "val": ["film002"],
        "test": ["film007", "film006"],
    }


def test_patients_under_other_names_give_the_same_fraction():
    numbers = {image: int(patient.removeprefix("patient")) + 1 for image, patient in PATIENTS.items()}
    assert splits.nested_fraction(IMAGES, 30, 1, numbers) == splits.nested_fraction(IMAGES, 30, 1, PATIENTS)


def test_another_order_of_the_images_gives_the_same_random_split():
    shuffled = random.Random(1).sample(IMAGES, len(IMAGES))
    assert splits.random_split(shuffled, 5, PATIENTS) == splits.random_split(IMAGES, 5, PATIENTS)
    assert splits.random_split(IMAGES, 6, PATIENTS) != splits.random_split(IMAGES, 5, PATIENTS)


def test_random_split_keeps_patients_together():
    split = splits.random_split(IMAGES, 0, PATIENTS)
    assert all(len(homes) == 1 for homes in parts_of_patients(split).values())
    assert sorted(chain.from_iterable(split.values())) == IMAGES
    assert [len(split[part]) for part in ("train", "val", "test")] == pytest.approx([140, 20, 40], abs=2)


def test_negative_images_follow_the_findings_of_their_patient():
    with_findings = IMAGES[::3]  # every patient's first image
    found = splits.stratified_split(with_findings, np.ones((len(with_findings), 1)), 0, PATIENTS)
    negative = splits.random_split(sorted(set(IMAGES) - set(with_findings)), 0, PATIENTS, follow=found)
    together = {part: found[part] + negative[part] for part in found}
    assert all(len(homes) == 1 for homes in parts_of_patients(together).values())
    assert sorted(chain.from_iterable(together.values())) == IMAGES


def test_stratified_gives_each_class_its_share():
    labels = np.zeros((200, 3), dtype=bool)
    labels[:100, 0] = labels[90:130, 1] = labels[::20, 2] = True  # 100, 40 and 10 images
    split = splits.stratified_split(IMAGES, labels, seed=0)
    place = {image: index for index, image in enumerate(IMAGES)}
    counts = {part: labels[[place[image] for image in images]].sum(axis=0).tolist() for part, images in split.items()}
    assert counts == {"train": [70, 28, 7], "val": [10, 4, 1], "test": [20, 8, 2]}
    assert sorted(chain.from_iterable(split.values())) == IMAGES


def test_stratified_is_seeded_and_indifferent_to_the_order_of_images():
    labels = np.random.default_rng(0).random((200, 4)) < 0.2
    order = random.Random(2).sample(range(200), 200)
    split = splits.stratified_split(IMAGES, labels, 7, PATIENTS)
    assert splits.stratified_split([IMAGES[i] for i in order], labels[order], 7, PATIENTS) == split
    assert splits.stratified_split(IMAGES, labels, 8, PATIENTS) != split


def test_stratified_keeps_patients_together_on_the_union_of_their_labels():
    labels = np.zeros((200, 1), dtype=bool)
    labels[::9] = True  # one image of every third patient
    split = splits.stratified_split(IMAGES, labels, 0, PATIENTS)
    assert all(len(homes) == 1 for homes in parts_of_patients(split).values())
    positive = {PATIENTS[image] for image, label in zip(IMAGES, labels[:, 0], strict=True) if label}
    in_test = {PATIENTS[image] for image in split["test"]} & positive
    assert (len(positive), len(in_test)) in {(23, 4), (23, 5)}  # a fifth is 4.6


def test_a_patients_images_are_adjacent_so_that_fractions_can_be_cut():
    train = splits.stratified_split(IMAGES, np.ones((200, 1)), 0, PATIENTS)["train"]
    owners = [PATIENTS[image] for image in train]
    changes = sum(a != b for a, b in pairwise(owners))
    assert changes + 1 == len(set(owners))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 30), seed=st.integers(0, 9), grouped=st.booleans())
def test_small_sets_lose_no_image_and_leave_no_part_empty(count, seed, grouped):
    images = IMAGES[:count]
    labels = np.random.default_rng(seed).random((count, 3)) < 0.4
    for split in (
        splits.stratified_split(images, labels, seed, PATIENTS if grouped else None),
        splits.random_split(images, seed, PATIENTS if grouped else None),
        splits.published_split(images),
    ):
        assert sorted(chain.from_iterable(split.values())) == images
    if count >= 3 and not grouped:
        assert all(splits.stratified_split(images, labels, seed).values())


def test_label_matrix_marks_each_class_on_each_image():
    boxes = {"image_name": ["a", "a", "c", "z"], "class_name": ["x", "x", "y", "x"]}
    assert splits.label_matrix(["a", "b", "c"], boxes, ["x", "y"]).tolist() == [
        [True, False],
        [False, False],
        [False, True],
    ]
