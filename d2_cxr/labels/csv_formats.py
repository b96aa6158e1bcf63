"""Annotation tables as CSV, recognized by their headers -> the label table.

Columns are recognized by name: Kaggle's VinBigData table (image_id, class_name, class_id, rad_id, corners), PhysioNet's
VinDr-CXR (the same without class_id; its test table has no rad_id: a consensus), RSNA's and NIH's (x, y, width,
height). Any of the first three may have `width, height` or `dim0, dim1` (dim0 is the *height*) and `patient_id`.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from d2_cxr.boxes import xywh_to_xyxy
from d2_cxr.labels import class_names, csv_headers, nih_bbox, rsna_pneumonia, vindr_cxr
from d2_cxr.labels.label_table import CONSENSUS, CORNERS, LabelTable
from d2_cxr.labels.problems import Problems


@dataclass(frozen=True)
class CsvFormat:
    """A layout of columns: our name -> its header (lower case), and the card whose class names it uses."""

    name: str
    columns: Mapping[str, str]
    card: ModuleType

    @property
    def is_xywh(self) -> bool:
        """Boxes are x, y, width, height."""
        return "x" in self.columns

    @property
    def is_consensus(self) -> bool:
        """The layout names no reader."""
        return "reader_id" not in self.columns


_VINDR = {"image_name": "image_id", **{name: name for name in ("class_name", *CORNERS)}}
_RSNA = {
    "image_name": "patientid",
    "target": "target",
    "x": "x",
    "y": "y",
    "box_width": "width",
    "box_height": "height",
}
_NIH = {"image_name": "image index", "class_name": "finding label"}
_NIH |= {"x": "bbox [x", "y": "y", "box_width": "w", "box_height": "h]"}  # the header's list splits at its commas

CSV_FORMATS = (  # the first whose headers are all present
    CsvFormat("kaggle", {**_VINDR, "class_id": "class_id", "reader_id": "rad_id"}, vindr_cxr),
    CsvFormat("physionet_train", {**_VINDR, "reader_id": "rad_id"}, vindr_cxr),
    CsvFormat("physionet_test", _VINDR, vindr_cxr),
    CsvFormat("rsna", _RSNA, rsna_pneumonia),
    CsvFormat("nih", _NIH, nih_bbox),
)
_BLANK = {"", "nan", "na", "n/a", "none", "null"}  # of an id, in lower case


def read_csv(csv_path: str | Path, problems: Problems, columns: Mapping[str, str] | None = None) -> LabelTable:
    """Read a table of annotations in one of CSV_FORMATS; `.gz` and `.zip` are opened too.

    Args:
        csv_path: the table.
        problems: counts, which this changes.
        columns: their column -> ours; columns of common other names are recognized without it (csv_headers.py).

    Raises:
        ValueError: the layout is unknown, or a row names no image or no class; gives file and line.
        FileNotFoundError: no such file.
    """
    table = read_table(csv_path)
    headers = list(table.columns)
    if columns or not any(_fits(csv_format, table) for csv_format in CSV_FORMATS):
        table = csv_headers.with_our_headers(table, csv_path, columns)
    csv_format = find_format(table, csv_path, headers)
    rows = _drop_repeated_headers(_pick_columns(table, csv_format), table, problems)
    for column, meaning in (("image_name", "image id"), ("class_name", "class name")):
        empty = rows[column].isna() | (rows[column].str.strip() == "")
        if empty.any():
            place = rows["place"].iloc[int(empty.argmax())]
            raise ValueError(f"{csv_path}, {place}: the {meaning} is empty or not understood")
    return LabelTable(rows, csv_format.name, csv_format.card, csv_format.is_consensus)


def read_table(csv_path: str | Path) -> pd.DataFrame:
    """Read every cell as text, with headers in lower case; NaN where a cell is empty.

    Commas, semicolons or tabs separate cells; where semicolons do, 12,5 is the number 12.5.

    Raises:
        ValueError: the file is not a table, has no row or two columns of one name.
        FileNotFoundError: no such file.
    """
    empty, separator = ["", "nan", "NaN", "NA"], csv_headers.separator_of(csv_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                csv_path,
                sep=separator,
                dtype=str,
                index_col=False,
                encoding="utf-8-sig",
                keep_default_na=False,
                na_values=empty,
            )
    except FileNotFoundError:
        raise FileNotFoundError(f"{csv_path} does not exist") from None
    except pd.errors.ParserWarning:
        raise ValueError(
            f"{csv_path}: rows have more cells than the header; is there a comma in a number or name without quotes?"
        ) from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{csv_path} is not a CSV table that can be read: {' '.join(str(error).split())}") from error
    table.columns = [str(header).strip().casefold() for header in table.columns]
    if table.columns.has_duplicates:
        raise ValueError(f"{csv_path} has two columns {table.columns[table.columns.duplicated()][0]!r}")
    if table.empty:
        raise ValueError(f"{csv_path} has a header but no row")
    return csv_headers.with_decimal_points(table) if separator == ";" else table


def find_format(table: pd.DataFrame, csv_path: str | Path, written: Sequence[str]) -> CsvFormat:
    """Return the layout of a table by its headers; `written` are those of the file.

    Raises:
        ValueError: none fits; lists what is there and what is missing.
    """
    found = next((csv_format for csv_format in CSV_FORMATS if _fits(csv_format, table)), None)
    if found is not None:
        return found
    missing = [header for header in _VINDR.values() if header not in table.columns]
    there = " ".join(", ".join(written).split())[:300]
    raise ValueError(
        f"{csv_path} has the columns {there}; missing {', '.join(missing)} (with rad_id where "
        "readers are named), or RSNA's patientId, x, y, width, height, Target, or NIH's Image Index, Finding Label, "
        "Bbox [x,y,w,h]; --columns THEIRS=OURS,... says what other columns mean"
    )


def _fits(csv_format: CsvFormat, table: pd.DataFrame) -> bool:
    return set(csv_format.columns.values()) <= set(table.columns)


def _pick_columns(table: pd.DataFrame, csv_format: CsvFormat) -> pd.DataFrame:
    """Return the columns of a label table: image_name and class_name as written."""
    wanted = {**csv_format.columns, "class_id": "class_id", "patient_id": "patient_id", "split": "split"}
    if not csv_format.is_xywh:  # there, width and height are the box's
        wanted |= {name: name for name in ("width", "height", "dim0", "dim1")}
    rows = pd.DataFrame({ours: table[theirs] for ours, theirs in wanted.items() if theirs in table.columns})
    if "target" in rows:
        rows["class_name"] = _class_of_target(rows["target"], csv_format.card.CLASS_NAMES[0])
    for column in {"image_name", "reader_id", "patient_id", "split"} & set(rows):
        rows[column] = rows[column].str.strip().where(~rows[column].str.strip().str.casefold().isin(_BLANK))
    if csv_format.is_consensus:
        rows["reader_id"] = CONSENSUS
    rows["row"] = np.arange(len(rows))
    rows["place"] = [f"line {line}" for line in range(2, len(rows) + 2)]  # lines count from 1, the first is the header
    return _with_corners(rows, csv_format)


def _drop_repeated_headers(rows: pd.DataFrame, table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Leave out rows in which every cell that is not empty holds a header of this table."""
    first = table.iloc[:, 0].str.strip().str.casefold()
    if not first.isin(table.columns).any():  # spares looking at every cell
        return rows
    words = table.apply(lambda column: column.str.strip().str.casefold())
    repeated = (words.isin(table.columns) | words.isna()).all(axis=1)
    return problems.refuse(rows, repeated, "repeated_header")


def _class_of_target(target: pd.Series, class_name: str) -> pd.Series:
    """RSNA's Target: 1 is a box of the one class, 0 nothing found, anything else is not understood (NaN)."""
    return pd.to_numeric(target, errors="coerce").map({1: class_name, 0: class_names.NO_FINDING})


def _with_corners(rows: pd.DataFrame, csv_format: CsvFormat) -> pd.DataFrame:
    four = ["x", "y", "box_width", "box_height"] if csv_format.is_xywh else CORNERS
    numbers = rows[four].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    bad = np.isnan(numbers).any(axis=1)
    rows["given"] = ""
    rows.loc[bad, "given"] = [" ".join(cells).strip()[:80] for cells in rows.loc[bad, four].fillna("").to_numpy()]
    corners = xywh_to_xyxy(numbers) if csv_format.is_xywh else numbers
    return rows.assign(**dict(zip(CORNERS, corners.T, strict=True)))
