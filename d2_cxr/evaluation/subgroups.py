"""Metrics within subgroups of images, e.g. within AP and within PA views.

Bedside images are taken AP and show more findings, so a model that only recognizes the projection already separates
images with findings from negative ones. Within one projection that shortcut does not help (Zech et al. 2018,
https://doi.org/10.1371/journal.pmed.1002683). A subgroup is a mask on the image weights: nothing is matched again.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2_cxr.counted import counted
from d2_cxr.evaluation import estimates, froc
from d2_cxr.evaluation.matching import Matches

METRICS = (
    *("image_auroc", "image_auroc_mean", "AP50", "AP40_vinbigdata"),
    *(f"froc_sens_at_{rate}" for rate in froc.RATE_NAMES),
)
MAX_SUBGROUPS = 20  # more are a number or an id


@dataclass(frozen=True)
class Grouping:
    """A column of a table of images: value by image name, "" where the table leaves it empty."""

    column: str
    value_of: Mapping[str, str]


def read_grouping(argument: str) -> Grouping:
    """Read `CSV:COLUMN`, a table with the columns image_id and COLUMN; an image may have several rows that agree.

    Raises:
        FileNotFoundError, ValueError: no such file or column, or rows that contradict each other.
    """
    path, _, column = argument.rpartition(":")
    if not path or not column:
        raise ValueError(f"--subgroups takes CSV:COLUMN, e.g. images.csv:view, not {argument!r}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing; --subgroups takes CSV:COLUMN, e.g. images.csv:view")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        names = rows.fieldnames or []
        missing = [name for name in ("image_id", column) if name not in names]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
        return Grouping(column, _values(rows, column, path))


def _values(rows: csv.DictReader, column: str, path: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for row in rows:
        image, value = row["image_id"], (row[column] or "").strip()
        if values.setdefault(image, value) != value:
            raise ValueError(f"{path} has two values of {column} for image {image}: {values[image]!r}, {value!r}")
    return values


def members(matches: Matches, grouping: Grouping) -> dict[str, np.ndarray]:
    """Return the images (F,) bool of each value of the column, in order of values; images without a value to none.

    Raises:
        ValueError: the table lacks evaluated images, or its column has no or too many values.
    """
    names = matches.image_names.tolist()
    missing = [name for name in names if name not in grouping.value_of]
    if missing:
        lacked = counted(len(missing), "evaluated image", of=len(names))
        raise ValueError(f"--subgroups: the table lacks {lacked}, first {missing[0]}")
    values = np.array([grouping.value_of[name] for name in names])
    distinct = sorted(set(values.tolist()) - {""})
    if not distinct:
        raise ValueError(f"--subgroups: column {grouping.column} is empty for all {len(names)} evaluated images")
    if len(distinct) > MAX_SUBGROUPS:
        raise ValueError(
            f"--subgroups: column {grouping.column} has {len(distinct)} values on the evaluated images, at most "
            f"{MAX_SUBGROUPS} are allowed; give a column with wider ranges"
        )
    return {value: values == value for value in distinct}


def by_subgroup(matches: Matches, weights: np.ndarray, grouping: Grouping) -> dict:
    """Describe METRICS within each subgroup.

    Args:
        weights: (F, 1 + B), the original sample first; resamples are those of all images, so that the size of a
            subgroup varies.

    Returns:
        column, num_images_without_value, subgroups {value: num_images, num_findings_images, num_negative_images,
        metrics}.

    Raises:
        ValueError: as `members`.
    """
    masks = members(matches, grouping)
    grouped = np.any(list(masks.values()), axis=0)
    return {
        "column": grouping.column,
        "num_images_without_value": int((~grouped).sum()),
        "subgroups": {value: _subgroup(matches, weights, mask) for value, mask in masks.items()},
    }


def _subgroup(matches: Matches, weights: np.ndarray, mask: np.ndarray) -> dict:
    computed = estimates.computation(matches, weights * mask[:, None])
    names = [name for name in estimates.defined_overall(matches) if name in METRICS]
    return {
        "num_images": int(mask.sum()),
        "num_findings_images": int((mask & ~matches.image_negative).sum()),
        "num_negative_images": int((mask & matches.image_negative).sum()),
        "metrics": {name: estimates.overall_estimate(computed, name) for name in names},
    }
