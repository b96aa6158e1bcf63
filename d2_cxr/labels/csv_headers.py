"""Tables as other people write them: other names of columns, semicolons or tabs, decimal commas."""

from __future__ import annotations

import gzip
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

logger = logging.getLogger(__name__)

# Our column (Kaggle's name of it) -> what others call it, in lower case. Only a name that means one thing is here:
# `width` may be the image's or the box's, `x` a corner or a center.
ALIASES: dict[str, tuple[str, ...]] = {
    "image_id": ("image_name", "filename", "file_name", "file", "image", "image_file", "image_path", "path"),
    "class_name": ("label", "class", "category", "finding", "label_name", "category_name"),
    "rad_id": ("reader_id", "reader", "annotator", "radiologist", "rater"),
    "x_min": ("xmin", "x1", "left"),
    "y_min": ("ymin", "y1", "top"),
    "x_max": ("xmax", "x2", "right"),
    "y_max": ("ymax", "y2", "bottom"),
    "patient_id": ("patient id", "patient", "subject_id", "subject"),
}
_SEPARATORS = (",", ";", "\t")


def read_columns(text: str) -> dict[str, str]:
    """Return their column -> ours of a command line's "label=class_name,filename=image_id".

    Raises:
        ValueError: an entry is not a THEIRS=OURS, or ours is not a column that is read.
    """
    columns = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        theirs, _, ours = (part.strip().casefold() for part in entry.partition("="))
        if not theirs or ours not in (*ALIASES, "class_id", "split", "width", "height"):
            raise ValueError(f"--columns {entry}: give THEIRS=OURS, where OURS is one of {', '.join(ALIASES)}")
        columns[theirs] = ours
    return columns


def with_our_headers(table: pd.DataFrame, path: str | Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a table whose columns have our names: those given, then those of ALIASES where ours is missing.

    Args:
        table: headers in lower case.
        path: of the table, for messages.
        columns: their column -> ours.

    Raises:
        ValueError: a given column is not there, or two columns could be the same one.
    """
    wanted = dict(columns or {})
    absent = [theirs for theirs in wanted if theirs not in table.columns]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}; it has {', '.join(table.columns)}")
    for ours, names in ALIASES.items():
        found = [name for name in names if name in table.columns and name not in wanted]
        if ours in table.columns or ours in wanted.values() or not found:
            continue
        if len(found) > 1:
            raise ValueError(
                f"{path}: {' and '.join(found)} may both be {ours}; say which: --columns {found[0]}={ours}"
            )
        wanted[found[0]] = ours
    if not wanted:
        return table
    logger.info("%s: read %s", path, ", ".join(f"{theirs} as {ours}" for theirs, ours in wanted.items()))
    return table.drop(columns=[ours for ours in wanted.values() if ours in table.columns]).rename(columns=wanted)


def separator_of(path: str | Path) -> str:
    """Return what separates the cells of a table: a semicolon or tab only where the header has no comma."""
    header = _first_line(path)
    counts = {separator: header.count(separator) for separator in _SEPARATORS}
    return "," if counts[","] else max(counts, key=lambda separator: counts[separator])


def with_decimal_points(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose numbers with a decimal comma (12,5) have a point; for tables separated by semicolons."""
    return table.apply(lambda column: column.str.replace(r"^\s*(-?\d+),(\d+)\s*$", r"\1.\2", regex=True))


def _first_line(path: str | Path) -> str:
    """Return the header line; "" where it cannot be read, which pandas then says."""
    try:
        if str(path).endswith(".zip"):
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
                line = file.readline()
        else:
            with gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as file:
                line = file.readline()
    except (OSError, EOFError, IndexError, zipfile.BadZipFile):
        return ""
    return line.decode("utf-8-sig", errors="replace")
