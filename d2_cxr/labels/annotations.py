"""Every annotation table -> one form. Columns go by name, and this is the one place where boxes are refused.

The layouts are told apart by their headers: Kaggle's VinBigData table (image_id, class_name, class_id, rad_id,
corners), PhysioNet's VinDr-CXR (the same without class_id; its test table has no rad_id: a consensus), RSNA's and
NIH's (x, y, width, height). Any of the first three may carry `width, height` or `dim0, dim1` (dim0 is the *height*)
and `patient_id`. Nothing is repaired silently: PROBLEMS states what happens to each kind of bad row, and every kind
is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from d2_cxr import artifacts
from d2_cxr.image_name import image_name
from d2_cxr.labels.class_names import NO_FINDING, match_to_card, names_of_table
from d2_cxr.labels.csv_formats import (
    CORNERS,
    Flavor,
    class_ids,
    find_flavor,
    pick_columns,
    read_table,
)

logger = logging.getLogger(__name__)

PROBLEMS = {  # kind -> rule; a row counts once, under the first kind that fits
    "no_reader": "the table has a reader column but this cell is empty: row left out",
    "extra_class": "a class of the full release that was not asked for: box left out, its image is not negative",
    "not_a_number": "a corner is missing or not a number: box left out",
    "reversed": "a maximum lies before its minimum: box left out",
    "no_area": "no width or no height: box left out",
    "outside": "wholly outside the image: box left out",
    "partly_outside": "reaches beyond the image: box kept, cut to the image",
    "duplicate": "the same image, class, reader and corners again: the first is kept",
    "contradiction": "a reader's 'No finding' beside that reader's box on the same image: box kept",
    "without_patient": "images without a patient although others have one: each counts as its own patient",
}

# Width and height look swapped where this many boxes lie this far (share of the side) beyond their image.
_SWAPPED_MIN, _SWAPPED_MARGIN = 3, 0.02


@dataclass(frozen=True)
class Annotations:
    """What a table of annotations says.

    Attributes:
        boxes: image_name, class_name, reader_id (str), x_min, y_min, x_max, y_max (float64, source pixels), row (int, the
            data row of the file from 0); findings with usable boxes only, in file order.
        readings: image_name, reader_id; who read which image, also where nothing was found, in order of first appearance.
        image_names: every image that the table mentions, in order of first appearance.
        negative_ids: the images on which every row says "No finding", in that order. An image with neither a usable box
            nor only such rows is in neither list: something was found there, but where is not known.
        class_names: index = class id.
        sizes: image_name -> (width, height) in pixels where the table gives them, else None.
        patients: image_name -> patient where the table or the second table gives them, else None.
        consensus: the table has no reader column; its boxes are not to be fused.
        problems: kind of PROBLEMS -> number of rows (images for `without_patient`).
        flavor: name of the layout.
        sha256: of the file as it lies on disk.
    """

    boxes: pd.DataFrame
    readings: pd.DataFrame
    image_names: list[str]
    negative_ids: list[str]
    class_names: tuple[str, ...]
    sizes: dict[str, tuple[float, float]] | None
    patients: dict[str, str] | None
    consensus: bool
    problems: dict[str, int]
    flavor: str
    sha256: str
    finding_ids: list[str] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "finding_ids", list(dict.fromkeys(self.boxes["image_name"])))


def read_annotations(
    csv_path: str | Path, class_names: str | Sequence[str] | None = None, patients_csv: str | Path | None = None
) -> Annotations:
    """Read a table of annotations in any of the known layouts; `.gz` and `.zip` are opened too.

    Args:
        csv_path: the table.
        class_names: None or "card": the names of the layout's card (VinDr-CXR's 14, RSNA's 1, NIH's 8); "extended":
            those and the card's extra ones; "from-csv": the names found; or a sequence of names.
        patients_csv: a second table with image_id (or image, Image Index) and patient_id (or Patient ID).

    Raises:
        ValueError: the layout, a class name or a size is not understood; names file, value and way out in one line.
        FileNotFoundError: no such file.
    """
    table = read_table(csv_path)
    flavor = find_flavor(table, csv_path)
    columns = pick_columns(table, flavor, csv_path)
    problems = dict.fromkeys(PROBLEMS, 0)
    matched, classes = _match_classes(columns, flavor, class_names, csv_path)
    columns["class_name"] = matched
    columns = _refuse(columns, columns["reader_id"].isna(), "no_reader", problems)
    sizes, patients = _sizes(columns), _patients(columns, patients_csv, problems, csv_path)
    boxes = _usable_boxes(columns, sizes, problems, csv_path)
    _count_contradictions(columns, boxes, problems)
    _log_problems(problems, csv_path)
    return Annotations(
        boxes=boxes,
        readings=columns[["image_name", "reader_id"]].drop_duplicates(ignore_index=True),
        image_names=list(dict.fromkeys(columns["image_name"])),
        negative_ids=_negative_ids(columns),
        class_names=classes,
        sizes=sizes,
        patients=patients,
        consensus=flavor.is_consensus,
        problems=problems,
        flavor=flavor.name,
        sha256=artifacts.sha256_file(csv_path),
    )


def cut_to_images(
    boxes: pd.DataFrame, sizes: Mapping[str, tuple[float, float]] | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out boxes wholly outside their image and cut those that reach beyond it; both are counted.

    Args:
        boxes: with image_name and corners in the pixels that `sizes` counts.
        sizes: image_name -> (width, height); an image without a size, or None, is bounded by 0 on two sides only.

    Returns:
        the boxes that remain, and {"outside": left out, "partly_outside": cut}.
    """
    limits = _limits(boxes["image_name"], sizes)
    corners = boxes[CORNERS].to_numpy(np.float64)
    cut = np.clip(corners, 0, limits)
    inside = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
    changed = inside & (cut != corners).any(axis=1)
    if changed.any():
        boxes = boxes.assign(**dict(zip(CORNERS, cut.T, strict=True)))
    return boxes[inside].reset_index(drop=True), {"outside": int((~inside).sum()), "partly_outside": int(changed.sum())}


def _match_classes(columns, flavor: Flavor, class_names, csv_path: str | Path) -> tuple[pd.Series, tuple[str, ...]]:
    found = list(columns["class_name"].unique())
    card = flavor.card
    if class_names in (None, "card"):
        classes, aliases, extra = card.CLASS_NAMES, card.ALIASES, card.EXTRA_CLASS_NAMES
    elif class_names == "extended":
        classes, aliases, extra = card.CLASS_NAMES + card.EXTRA_CLASS_NAMES, card.ALIASES, ()
    elif class_names == "from-csv":
        classes, aliases, extra = names_of_table(found, class_ids(columns)), {}, ()
    elif isinstance(class_names, str):
        raise ValueError(f"classes {class_names!r} is none of 'card', 'extended', 'from-csv'; a list gives own names")
    else:
        classes, aliases, extra = tuple(class_names), card.ALIASES, ()
    try:
        matched = match_to_card(found, classes, aliases, extra)
    except ValueError as error:
        raise ValueError(f"{csv_path}: {error}") from None
    return columns["class_name"].map(matched), tuple(classes)


def _refuse(rows: pd.DataFrame, bad, kind: str, problems: dict[str, int]) -> pd.DataFrame:
    """Leave the rows out where `bad` (bool, one a row) holds, and count them under `kind`."""
    bad = np.asarray(bad, dtype=bool)
    problems[kind] += int(bad.sum())
    return rows[~bad] if bad.any() else rows


def _usable_boxes(columns: pd.DataFrame, sizes, problems: dict[str, int], csv_path: str | Path) -> pd.DataFrame:
    rows = columns[columns["class_name"] != NO_FINDING]
    rows = _refuse(rows, rows["class_name"].isna(), "extra_class", problems)
    rows = _refuse(rows, rows[CORNERS].isna().any(axis=1), "not_a_number", problems)
    rows = _refuse(rows, (rows["x_max"] < rows["x_min"]) | (rows["y_max"] < rows["y_min"]), "reversed", problems)
    rows = _refuse(rows, (rows["x_max"] == rows["x_min"]) | (rows["y_max"] == rows["y_min"]), "no_area", problems)
    _refuse_swapped_sizes(rows, sizes, csv_path)
    rows, counts = cut_to_images(rows, sizes)
    for kind, count in counts.items():
        problems[kind] += count
    rows = _refuse(rows, rows.duplicated(["image_name", "class_name", "reader_id", *CORNERS]), "duplicate", problems)
    return rows[["image_name", "class_name", "reader_id", *CORNERS, "row"]].reset_index(drop=True)


def _limits(image_names: pd.Series, sizes) -> np.ndarray:
    """Return the greatest x, y, x, y (N, 4) that a box of these images may reach; infinite where no size is known."""
    sizes = sizes or {}
    unbounded = (np.inf, np.inf)
    pairs = np.array([sizes.get(image_name, unbounded) for image_name in image_names], dtype=np.float64).reshape(-1, 2)
    return np.hstack([pairs, pairs])


def _refuse_swapped_sizes(rows: pd.DataFrame, sizes, csv_path: str | Path) -> None:
    """Raise where boxes lie far outside their image and would fit if its width and height changed places.

    In a table with dim0 and dim1 exchanged only the boxes beyond the shorter side show it: about one in thirty.
    """
    if not sizes:
        return
    limits, corners = _limits(rows["image_name"], sizes) * (1 + _SWAPPED_MARGIN), rows[CORNERS].to_numpy()
    beyond = (corners > limits).any(axis=1)
    fit_swapped = beyond & (corners <= limits[:, [1, 0, 3, 2]]).all(axis=1)
    if beyond.sum() >= _SWAPPED_MIN and fit_swapped.sum() >= 0.9 * beyond.sum():
        raise ValueError(
            f"{csv_path}: {beyond.sum()} of {len(rows)} boxes lie outside their image and {fit_swapped.sum()} of these "
            "fit when width and height change places: the columns look swapped (dim0 is the height, dim1 the width)"
        )


def _sizes(columns: pd.DataFrame) -> dict[str, tuple[float, float]] | None:
    pair = ("dim1", "dim0") if "dim0" in columns and "dim1" in columns else ("width", "height")
    if not all(name in columns for name in pair):
        return None
    images = columns.drop_duplicates("image_name")
    numbers = images[list(pair)].apply(pd.to_numeric, errors="coerce")
    known = (numbers > 0).all(axis=1)
    pairs = numbers[known].to_numpy(np.float64).tolist()
    return {image_name: (w, h) for image_name, (w, h) in zip(images["image_name"][known], pairs, strict=True)}


def _patients(columns, patients_csv, problems: dict[str, int], csv_path: str | Path) -> dict[str, str] | None:
    if patients_csv is not None:
        patients = read_patients(patients_csv)
    elif "patient_id" in columns:
        patients = _one_patient_an_image(columns, csv_path)
    else:
        return None
    problems["without_patient"] = sum(image_name not in patients for image_name in columns["image_name"].unique())
    return patients


def read_patients(csv_path: str | Path) -> dict[str, str]:
    """Read image_name -> patient from a table with image_id (or image, Image Index) and patient_id (Patient ID).

    Raises:
        ValueError: the columns are missing, or an image has two patients.
    """
    table = read_table(csv_path).rename(
        columns={
            "image_id": "image_name",
            "image index": "image_name",
            "image": "image_name",
            "patient id": "patient_id",
        }
    )
    if "image_name" not in table or "patient_id" not in table:
        raise ValueError(f"{csv_path} has the columns {', '.join(table.columns)}; image_id and patient_id are needed")
    table = table.dropna(subset="image_name")
    return _one_patient_an_image(table.assign(image_name=table["image_name"].map(image_name)), csv_path)


def _one_patient_an_image(table: pd.DataFrame, csv_path: str | Path) -> dict[str, str]:
    pairs = table[["image_name", "patient_id"]].dropna().drop_duplicates()
    twice = pairs["image_name"].duplicated()
    if twice.any():
        raise ValueError(f"{csv_path}: image {pairs['image_name'][twice].iloc[0]} belongs to two patients")
    return dict(zip(pairs["image_name"], pairs["patient_id"].str.strip(), strict=True))


def _negative_ids(columns: pd.DataFrame) -> list[str]:
    found = set(columns["image_name"][columns["class_name"] != NO_FINDING])
    return [image_name for image_name in dict.fromkeys(columns["image_name"]) if image_name not in found]


def _count_contradictions(columns: pd.DataFrame, boxes: pd.DataFrame, problems: dict[str, int]) -> None:
    nothing = columns[columns["class_name"] == NO_FINDING]
    drawn = set(zip(boxes["image_name"], boxes["reader_id"], strict=True))
    problems["contradiction"] = sum(
        pair in drawn for pair in zip(nothing["image_name"], nothing["reader_id"], strict=True)
    )


def _log_problems(problems: dict[str, int], csv_path: str | Path) -> None:
    for kind, count in problems.items():
        if count:
            logger.warning("%s: %d x %s (%s)", csv_path, count, kind, PROBLEMS[kind])
