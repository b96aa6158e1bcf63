"""A given split: by a column, by the labels' own files, by a held-out site, year or fold, as in an earlier set, or all
in one part.

The rules of every split hold: a patient is in one part, and a part is an order from which label fractions are cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from d2_cxr.counted import counted
from d2_cxr.image_name import image_name
from d2_cxr.labels.annotations import Annotations
from d2_cxr.labels.csv_formats import read_table
from d2_cxr.labels.part_names import part_of
from d2_cxr.labels.spelling import natural_order
from d2_cxr.labels.splits import Split, in_order, label_matrix, stratified_cut

logger = logging.getLogger(__name__)

COLUMN = "split"
FOLD = "fold"
FILES = "files"  # the rule where the labels lie in a file or folder per part
_IMAGE_HEADERS = ("image_id", "image_name", "image index", "image", "patientid")  # the last is RSNA's name of an image


def choose_parts(
    labels: Annotations,
    csv_paths: Sequence[str | Path],
    rule: str | None,
    split_by: str | None,
    patients: Mapping[str, str] | None,
    seed: int,
    name_of: Callable[[str], str] = image_name,
) -> tuple[dict[str, str], str] | None:
    """Return image -> train, val or test for every labeled image, and the rule; None: the stratified split.

    Args:
        labels: whose images with and without findings are split.
        csv_paths: tables whose columns count, the first that has the column.
        rule: "given" (a column `split`, or a file of labels per part), "all-train", "all-test", "stratified", or None:
            given where there is such a column or such files, else stratified.
        split_by: "COLUMN=VALUE,VALUE": images with one of these values are test; or "COLUMN", which says train, val,
            test. The fold after those of "fold=VALUE" is val.
        patients: image -> patient.
        seed: of what is left to chance.
        name_of: an image's text in a table -> its name.

    Raises:
        ValueError: no such column, an image without a value, or a patient in two parts.
    """
    images = [*labels.finding_ids, *labels.negative_ids]
    if rule in ("all-train", "all-test"):
        return dict.fromkeys(images, rule.removeprefix("all-")), rule
    column, _, test_values = (split_by or COLUMN).partition("=")
    found = [read_column(path, column, name_of) for path in csv_paths if rule != "stratified" or split_by]
    values = next((column_values for column_values in found if column_values is not None), None)
    if values is None:
        if labels.parts and rule != "stratified" and not split_by:
            refuse_divided_patients(labels.parts, patients)
            return {image: labels.parts[image] for image in images}, FILES
        if split_by or rule == "given":
            looked = f"looked in {', '.join(map(str, csv_paths))}" if csv_paths else "there is no CSV table"
            raise ValueError(f"no column {column} next to a column of image names: {looked}")
        return None
    if column.casefold() == FOLD and not has_parts(values):
        return parts_by_fold(images, values, test_values.split(","), patients), f"by {split_by}"
    if test_values:
        matrix = label_matrix(images, labels.boxes, labels.class_names)
        chosen = test_values.split(",")
        return parts_by_value(images, matrix, values, column, chosen, patients, seed), f"by {split_by}"
    if not (split_by or rule) and not has_parts(values):
        logger.warning("the column %s has values other than train, val and test: it is not used", column)
        return None
    return parts_of_images(images, values, column, patients), f"column {column}"


def read_column(csv_path: str | Path, column: str, name_of: Callable[[str], str] = image_name) -> dict[str, str] | None:
    """Return image_name -> value of a column of a CSV; rows without a value are ignored. None: no such column.

    Raises:
        ValueError: an image has two values.
    """
    table = read_table(csv_path)
    images = next((header for header in _IMAGE_HEADERS if header in table.columns), None)
    if column.casefold() not in table.columns or images is None:
        return None
    rows = table[[images, column.casefold()]].dropna().drop_duplicates()
    values: dict[str, str] = {}
    for image, value in zip(rows[images].map(name_of), rows[column.casefold()].str.strip(), strict=True):
        if values.setdefault(image, value) != value:
            raise ValueError(f"{csv_path}: image {image} has two values of {column}: {values[image]!r} and {value!r}")
    return values


def parts_of_images(
    images: Sequence[str], values: Mapping[str, str], column: str, patients: Mapping[str, str] | None
) -> dict[str, str]:
    """Return image -> train, val or test, where a column says so for every image.

    Raises:
        ValueError: an image has no part or another word, or a patient has images in two parts; names the first.
    """
    _require_values(images, values, column)
    unknown = next((image for image in images if part_of(values[image]) is None), None)
    if unknown is not None:
        raise ValueError(f"image {unknown}: {column} is {values[unknown]!r}, which is not one of train, val, test")
    parts = {image: part_of(values[image]) or "" for image in images}
    refuse_divided_patients(parts, patients)
    return parts


def parts_by_value(
    images: Sequence[str],
    labels: np.ndarray,
    values: Mapping[str, str],
    column: str,
    test_values: Iterable[str],
    patients: Mapping[str, str] | None,
    seed: int,
) -> dict[str, str]:
    """Return image -> part: images with one of `test_values` are test, the others train and val as 7 to 1.

    Args:
        images: N names.
        labels: (N, C) bool, the classes on each image; val has about an eighth of each.
        values: image -> value of the column.
        column: its name, for errors.
        test_values: for example the site that is held out.
        patients: image -> patient.
        seed: of train and val.

    Raises:
        ValueError: a value that no image has, an image without a value, or a patient in test and elsewhere.
    """
    wanted = {value.strip().casefold() for value in test_values}
    _require_values(images, values, column)
    known = {image: values[image].casefold() for image in images}
    _require_known(wanted, {values[image] for image in images}, column)
    parts = {image: "test" if known[image] in wanted else "rest" for image in images}
    refuse_divided_patients(parts, patients)
    rest = [index for index, image in enumerate(images) if parts[image] == "rest"]
    val = stratified_cut([images[index] for index in rest], labels[rest], 0.125, seed, patients)[1]
    return {image: "val" if image in val else part.replace("rest", "train") for image, part in parts.items()}


def parts_by_fold(
    images: Sequence[str], values: Mapping[str, str], test_folds: Sequence[str], patients: Mapping[str, str] | None
) -> dict[str, str]:
    """Return image -> part: images of `test_folds` are test, of the fold after the last of them val, of others train.

    Args:
        images: N names.
        values: image -> fold, in any words; 2 comes before 10, and the first after the last.
        test_folds: at least one.
        patients: image -> patient.

    Raises:
        ValueError: an unknown fold, an image without one, no fold left to train on, or a patient in two parts.
    """
    _require_values(images, values, FOLD)
    folds = sorted({values[image].casefold() for image in images}, key=natural_order)
    test = {fold.strip().casefold() for fold in test_folds if fold.strip()}
    if not test:
        raise ValueError(f"--split-by {FOLD} needs the fold to test on, e.g. --split-by {FOLD}={folds[0]}")
    _require_known(test, folds, FOLD)
    last = max(folds.index(fold) for fold in test)
    rest = [fold for fold in folds[last + 1 :] + folds[:last] if fold not in test]
    if len(rest) < 2:
        raise ValueError(
            f"{counted(len(folds), 'fold leaves', 'folds leave')} none for val and train beside {FOLD} "
            f"{', '.join(sorted(test))}"
        )
    part = dict.fromkeys(rest, "train") | {rest[0]: "val"} | dict.fromkeys(test, "test")
    parts = {image: part[values[image].casefold()] for image in images}
    refuse_divided_patients(parts, patients)
    return parts


def parts_like(
    images: Iterable[str], held_out: Mapping[str, str], patients: Mapping[str, str] | None
) -> dict[str, str]:
    """Return image -> part: held-out images stay so, with all other images of their patients; the others are train.

    Args:
        images: the labeled images.
        held_out: image -> val or test, of an earlier set.
        patients: image -> patient.

    Raises:
        ValueError: a patient has images in val and in test of the earlier set.
    """
    known = patients or {}
    by_patient = {known[image]: part for image, part in held_out.items() if image in known}
    parts = {image: held_out.get(image) or by_patient.get(known.get(image, ""), "train") for image in images}
    refuse_divided_patients(parts, patients)
    return parts


def given_split(
    images: Iterable[str], parts: Mapping[str, str], seed: int, patients: Mapping[str, str] | None
) -> Split:
    """Return train, val and test, each in a seeded order with a patient's images adjacent."""
    images = list(images)
    return {
        part: in_order([image for image in images if parts[image] == part], patients, seed)
        for part in ("train", "val", "test")
    }


def refuse_divided_patients(parts: Mapping[str, str], patients: Mapping[str, str] | None) -> None:
    """Raise where a patient has images in two parts: the model would be tested on a patient that it has seen."""
    first: dict[str, str] = {}
    for image, part in parts.items():
        patient = (patients or {}).get(image)
        if patient is not None and parts[first.setdefault(patient, image)] != part:
            other = first[patient]
            raise ValueError(
                f"patient {patient} has images in {parts[other]} ({other}) and in {part} ({image}); a patient belongs "
                "to one part"
            )


def has_parts(values: Mapping[str, str] | None) -> bool:
    """Whether a column contains train, val or test, and nothing else."""
    return bool(values) and all(part_of(value) for value in (values or {}).values())


def _require_values(images: Sequence[str], values: Mapping[str, str], column: str) -> None:
    missing = [image for image in images if image not in values]
    if missing:
        raise ValueError(f"no {column} for {counted(len(missing), 'image', of=len(images))}, first {missing[0]}")


def _require_known(wanted: set[str], found: Iterable[str], column: str) -> None:
    found = sorted(found, key=natural_order)
    absent = wanted - {value.casefold() for value in found}
    if absent or not wanted:
        words = ", ".join(sorted(absent)) or "as none was given"
        raise ValueError(f"no image has {column} {words}; there are {', '.join(found[:10])}")
