"""Image ids (and their patients) -> train, val and test, and the fraction of train that keeps its labels.

`published` is the paper's: images in order of first appearance among the finding rows, cut 70/10/20. The file's rows
are shuffled, so images with many boxes come first and the published split is not random (docs/paper.md). `stratified`
and the nested fractions are seeded and keep a patient's images together. Random orders come from sha256, not from a
random generator, so that a seed means the same images on every machine and under every version of numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

Split = dict[str, list[str]]


def published_split(finding_image_ids: Sequence[str]) -> Split:
    """Cut images, in order of first appearance among the finding rows, into train, val and test: 3075/440/879 of 4394.

    Repeated ids count once.
    """
    return _cut(list(dict.fromkeys(finding_image_ids)))


def stratified_split(
    image_names: Sequence[str], labels: np.ndarray, seed: int, patients: Mapping[str, str] | None = None
) -> Split:
    """Split 70/10/20 so that each class has about that fraction in each part (Sechidis et al. 2011).

    Args:
        image_names: N images.
        labels: (N, C) bool, the classes on each image.
        seed: of the split and of the order within each part.
        patients: image -> patient; a patient's images stay together, stratified on the union of their labels. Images
            without a patient are separate.

    Returns:
        the parts, each in a seeded random order with a patient's images adjacent; fractions are cut from that order.
    """
    if not len(image_names):
        return {"train": [], "val": [], "test": []}
    labels = np.asarray(labels, dtype=bool).reshape(len(image_names), -1)
    groups = _groups(image_names, patients, seed)
    united = _united(groups, image_names, labels)
    rest, test = _stratified_cut(np.arange(len(groups)), united, 0.2, seed)
    train, val = _stratified_cut(rest, united[rest], 0.125, seed)  # an eighth of the remaining 80 % is 10 %
    parts = {"train": train, "val": val, "test": test}
    return {name: [image for index in chosen for image in groups[index]] for name, chosen in parts.items()}


def stratified_cut(
    image_names: Sequence[str], labels: np.ndarray, share: float, seed: int, patients: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Return (rest, chosen) with about `share` of the images' groups and of each class in `chosen`.

    Args:
        image_names: N images.
        labels: (N, C) bool, the classes on each image.
        share: from 0 to 1.
        seed: of the cut.
        patients: image -> patient; a patient's images stay together.
    """
    groups = _groups(image_names, patients, seed)
    united = _united(groups, image_names, np.asarray(labels, dtype=bool).reshape(len(image_names), -1))
    both = _stratified_cut(np.arange(len(groups)), united, share, seed)
    rest, chosen = ([image for index in units for image in groups[index]] for units in both)
    return rest, chosen


def in_order(image_names: Sequence[str], patients: Mapping[str, str] | None, seed: int) -> list[str]:
    """Return the images in a seeded order with a patient's images adjacent."""
    return [image for group in _groups(image_names, patients, seed) for image in group]


def random_split(
    image_names: Sequence[str], seed: int, patients: Mapping[str, str] | None = None, follow: Split | None = None
) -> Split:
    """Split images without labels 70/10/20 at random, a patient's images together, whatever the order they come in.

    Args:
        image_names: images, for example those without findings.
        seed: of the order.
        patients: image -> patient.
        follow: a split of other images of the same patients, whose part their images must share: a patient with a test
            image has no image in train. The fractions then apply to the images of the other patients.
    """
    known = patients or {}
    home = {known[image]: part for part, images in (follow or {}).items() for image in images if image in known}
    groups = _groups(image_names, patients, seed)
    bound = [home.get(known[group[0]]) if group[0] in known else None for group in groups]
    free = [group for group, part in zip(groups, bound, strict=True) if part is None]
    images = [image for group in free for image in group]
    starts = np.cumsum([0, *map(len, free)])
    sizes = _sizes(len(images))
    first, second = (_nearest_start(starts, cut) for cut in (sizes[0], sizes[0] + sizes[1]))
    split = {"train": images[:first], "val": images[first:second], "test": images[second:]}
    for group, part in zip(groups, bound, strict=True):
        if part is not None:
            split[part] += group
    return split


def labeled_count(num_images: int, percent_labeled: int) -> int:
    """Return how many of `num_images` keep labels, in integers: 614 or 615 of 3075 must not hang on a rounding error.

    Raises:
        ValueError: the percentage is not a whole number from 0 to 100.
    """
    if percent_labeled != int(percent_labeled) or not 0 <= percent_labeled <= 100:
        raise ValueError(f"percent_labeled {percent_labeled} is not a whole number from 0 to 100")
    return num_images * int(percent_labeled) // 100


def published_fraction(
    train_ids: Sequence[str], percent_labeled: int, patients: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Return (labeled, unlabeled): the last images of the training order keep their labels, as in the paper.

    Where patients are known, the cut moves to the next place that divides none; a patient's images must be adjacent.
    """
    cut = len(train_ids) - labeled_count(len(train_ids), percent_labeled)
    if patients:
        owner = [patients.get(image, image) for image in train_ids]
        starts = [0, *(i for i in range(1, len(owner)) if owner[i] != owner[i - 1]), len(owner)]
        cut = _nearest_start(np.array(starts), cut)
    return list(train_ids[cut:]), list(train_ids[:cut])


def nested_fraction(
    train_ids: Sequence[str], percent_labeled: int, seed: int, patients: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Return (labeled, unlabeled), both in the order of `train_ids`; a smaller fraction is part of every larger one.

    The seed orders the patients; their images are taken until the fraction is reached as closely as whole patients
    allow.
    """
    groups = _groups(train_ids, patients, seed)
    starts = np.cumsum([0, *map(len, groups)])
    count = _nearest_start(starts, labeled_count(len(train_ids), percent_labeled))
    labeled = set([image for group in groups for image in group][:count])
    return [image for image in train_ids if image in labeled], [image for image in train_ids if image not in labeled]


def label_matrix(image_names: Sequence[str], boxes: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Return (N, C) bool: which classes have a box on which image.

    Args:
        image_names: N images.
        boxes: table with image_name and class_name; rows of other images are ignored.
        class_names: C names.
    """
    rows = {image_name: index for index, image_name in enumerate(image_names)}
    columns = {name: index for index, name in enumerate(class_names)}
    labels = np.zeros((len(image_names), len(class_names)), dtype=bool)
    for image_name, name in zip(boxes["image_name"], boxes["class_name"], strict=True):
        if image_name in rows:
            labels[rows[image_name], columns[name]] = True
    return labels


def _sizes(num_images: int) -> tuple[int, int, int]:
    """Return how many images 70/10/20 percent are: (3075, 440, 879) of 4394."""
    train = num_images * 70 // 100
    val = -(-num_images * 10 // 100)  # rounded up
    return train, val, num_images - train - val


def _cut(images: list[str]) -> Split:
    train, val, _ = _sizes(len(images))
    return {"train": images[:train], "val": images[train : train + val], "test": images[train + val :]}


def _groups(image_names: Sequence[str], patients: Mapping[str, str] | None, seed: int) -> list[list[str]]:
    """Return the images of each patient, patients in an order that only the seed and their first image's name decide.

    Not the patient's name: a prepared set gives patients other names (numbers), and the order must be the same.
    """
    patients = patients or {}
    groups: dict[tuple[str, str], list[str]] = {}
    for image in sorted(image_names):
        key = ("patient", patients[image]) if image in patients else ("image", image)
        groups.setdefault(key, []).append(image)
    return sorted(groups.values(), key=lambda images: hashlib.sha256(f"{seed}:{images[0]}".encode()).digest())


def _united(groups: list[list[str]], image_names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Return (G, C) bool: which classes are on an image of each group."""
    row = {image_name: index for index, image_name in enumerate(image_names)}
    return np.array([labels[[row[image] for image in images]].any(axis=0) for images in groups])


def _nearest_start(starts: np.ndarray, cut: int) -> int:
    """Return the group boundary nearest to `cut`; of two equally near ones the lower."""
    return int(starts[np.argmin(np.abs(starts - cut))])


def _stratified_cut(units: np.ndarray, labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut units (N,) into (rest, chosen) with about `share` of the units and of each class in `chosen`."""
    num_chosen = max(1, round(len(units) * share))
    if len(units) < 2:
        return units, units[:0]
    from iterstrat.ml_stratifiers import IterativeStratification  # scikit-learn takes a second to import

    shares = np.array([1 - num_chosen / len(units), num_chosen / len(units)])
    fold = IterativeStratification(labels=labels, r=shares, random_state=np.random.RandomState(seed))
    if fold.all() or not fold.any():  # a handful of images: no part stays empty
        fold = np.arange(len(units)) >= len(units) - num_chosen
    return units[fold == 0], units[fold == 1]
