"""Which patient an image belongs to: from the labels, or from a separate table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from d2_cxr.image_name import image_name
from d2_cxr.labels.csv_formats import read_table
from d2_cxr.labels.csv_headers import with_our_headers
from d2_cxr.labels.problems import Problems
from d2_cxr.labels.spelling import one_spelling, similar_names

IN_NAMES = "names"  # in place of a table: an image's name begins with its patient
_HEADERS = {"image_id": "image_name", "image index": "image_name", "image": "image_name", "patient id": "patient_id"}


def read_patients(
    csv_path: str | Path,
    name_of: Callable[[str], str] = image_name,
    columns: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Read image_name -> patient from a table with image_id (or image, Image Index) and patient_id (Patient ID).

    Args:
        csv_path: the table; one patient in several spellings is one (d2_cxr/labels/spelling.py).
        name_of: an image's text in the table -> its name.
        columns: their column -> ours, for those that this table has.

    Raises:
        ValueError: the columns are missing, or an image has two patients.
    """
    table = read_table(csv_path)
    table = table.rename(columns={theirs: ours for theirs, ours in _HEADERS.items() if ours not in table})
    if "image_name" not in table or "patient_id" not in table:
        own = {theirs: ours for theirs, ours in (columns or {}).items() if theirs in table}
        table = with_our_headers(table.rename(columns={"image_name": "image_id"}), csv_path, own)
        table = table.rename(columns={"image_id": "image_name"})
    if "image_name" not in table or "patient_id" not in table:
        raise ValueError(f"{csv_path} has the columns {', '.join(table.columns)}; image_id and patient_id are needed")
    table = table.dropna(subset="image_name")
    return one_patient_an_image(table.assign(image_name=table["image_name"].map(name_of)), csv_path)


def patients_of(
    rows: pd.DataFrame,
    patients_csv: str | Path | None,
    problems: Problems,
    path: str | Path,
    name_of: Callable[[str], str] = image_name,
    columns: Mapping[str, str] | None = None,
) -> dict[str, str] | None:
    """Return image_name -> patient from the second table, else from the rows; None where neither knows patients.

    Raises:
        ValueError: an image has two patients, or image names of the two tables differ in leading zeros or case.
    """
    names = list(rows["image_name"].unique())
    if patients_csv is not None:
        patients = read_patients(patients_csv, name_of, columns)
        _refuse_similar([name for name in names if name not in patients], patients, path, patients_csv)
    elif "patient_id" in rows:
        patients = one_patient_an_image(rows, path, problems)
    else:
        return None
    problems["without_patient"] = sum(name not in patients for name in names)
    return patients


def patients_in_names(names: Iterable[str]) -> dict[str, str]:
    """Return image_name -> the part before its last _ or -: "nih_00000061_012" is of "nih_00000061"."""
    return {name: re.sub(r"[_-][^_-]+$", "", name) for name in names}


def likely_patients(names: Sequence[str]) -> int | None:
    """Return the number of patients that image names seem to hold; None where they look like no PATIENT_IMAGE.

    They do where cutting the last part off joins some images, but no more than a fifth of all into one.
    """
    sizes = Counter(patients_in_names(names).values())
    joined = len(names) - len(sizes)
    if len(sizes) < 3 or joined < 2 or max(sizes.values()) > max(2, len(names) / 5):
        return None
    return len(sizes)


def one_patient_an_image(table: pd.DataFrame, path: str | Path, problems: Problems | None = None) -> dict[str, str]:
    """Return image_name -> patient of a table with both columns; rows without a patient are ignored.

    Raises:
        ValueError: an image has two patients.
    """
    patients, respelled = one_spelling(table["patient_id"].astype(object))
    if problems is not None:
        problems.count(table, respelled, "respelled")
    pairs = table[["image_name"]].assign(patient_id=patients).dropna().drop_duplicates()
    twice = pairs["image_name"].duplicated()
    if twice.any():
        raise ValueError(f"{path}: image {pairs['image_name'][twice].iloc[0]} belongs to two patients")
    return dict(zip(pairs["image_name"], pairs["patient_id"], strict=True))


def _refuse_similar(unknown: list[str], patients: Iterable[str], path: str | Path, patients_csv: str | Path) -> None:
    pairs = similar_names(unknown, patients)
    if pairs:
        raise ValueError(
            f"{patients_csv} has no patient for image {pairs[0][0]!r} of {path}, but for {pairs[0][1]!r}: leading "
            f"zeros, spaces or case differ ({len(pairs)} such images); use one spelling in both files"
        )
