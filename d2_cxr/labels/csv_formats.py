"""The layouts of annotation tables, told apart by their headers, and their columns under our names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from d2_cxr.boxes import xywh_to_xyxy
from d2_cxr.image_name import image_name
from d2_cxr.labels import class_names, nih_bbox, rsna_pneumonia, vindr_cxr

CORNERS = ["x_min", "y_min", "x_max", "y_max"]
CONSENSUS = "consensus"  # the reader of a table without a reader column


@dataclass(frozen=True)
class Flavor:
    """A layout: our column -> its header (lower case), and the card whose class names it uses."""

    name: str
    columns: Mapping[str, str]
    card: ModuleType

    @property
    def is_xywh(self) -> bool:
        return "x" in self.columns

    @property
    def is_consensus(self) -> bool:
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

FLAVOURS = (  # the first whose headers are all present
    Flavor("kaggle", {**_VINDR, "class_id": "class_id", "reader_id": "rad_id"}, vindr_cxr),
    Flavor("physionet_train", {**_VINDR, "reader_id": "rad_id"}, vindr_cxr),
    Flavor("physionet_test", _VINDR, vindr_cxr),
    Flavor("rsna", _RSNA, rsna_pneumonia),
    Flavor("nih", _NIH, nih_bbox),
)


def read_table(csv_path: str | Path) -> pd.DataFrame:
    """Read every cell as text, with headers in lower case; NaN where a cell is empty.

    Raises:
        ValueError: the file is no table, has no row or two columns of one name.
        FileNotFoundError: no such file.
    """
    empty = ["", "nan", "NaN", "NA", "None"]
    try:
        table = pd.read_csv(
            csv_path, dtype=str, index_col=False, encoding="utf-8-sig", keep_default_na=False, na_values=empty
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"{csv_path} does not exist") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{csv_path} is not a CSV table that can be read: {' '.join(str(error).split())}") from error
    table.columns = [str(header).strip().casefold() for header in table.columns]
    if table.columns.has_duplicates:
        raise ValueError(f"{csv_path} has two columns {table.columns[table.columns.duplicated()][0]!r}")
    if table.empty:
        raise ValueError(f"{csv_path} has a header but no row")
    return table


def find_flavor(table: pd.DataFrame, csv_path: str | Path) -> Flavor:
    """Return the layout of a table by its headers.

    Raises:
        ValueError: none fits; lists what is there and what is missing.
    """
    headers = set(table.columns)
    for flavor in FLAVOURS:
        if set(flavor.columns.values()) <= headers:
            return flavor
    missing = [header for header in _VINDR.values() if header not in headers]
    raise ValueError(
        f"{csv_path} has the columns {', '.join(table.columns)}; missing {', '.join(missing)} (with rad_id where "
        "readers are named), or RSNA's patientId, x, y, width, height, Target, or NIH's Image Index, Finding Label, "
        "Bbox [x,y,w,h]"
    )


def pick_columns(table: pd.DataFrame, flavor: Flavor, csv_path: str | Path) -> pd.DataFrame:
    """Return image_name, class_name, reader_id, corners (NaN where no number), row, and class_id, patient_id and sizes where
    the table has them.

    Raises:
        ValueError: a row names no image or no class.
    """
    wanted = {**flavor.columns, "class_id": "class_id", "patient_id": "patient_id"}
    if not flavor.is_xywh:  # there, width and height are the box's
        wanted |= {name: name for name in ("width", "height", "dim0", "dim1")}
    columns = pd.DataFrame({ours: table[theirs] for ours, theirs in wanted.items() if theirs in table.columns})
    if "target" in columns:
        columns["class_name"] = _class_of_target(columns["target"], flavor.card.CLASS_NAMES[0])
    for column, meaning in (("image_name", "image id"), ("class_name", "class name")):
        empty = columns[column].isna() | (columns[column].str.strip() == "")
        if empty.any():  # lines count from 1, and the first is the header
            raise ValueError(f"{csv_path}, line {int(empty.argmax()) + 2}: the {meaning} is empty or not understood")
    columns["image_name"] = columns["image_name"].map(image_name)
    columns["reader_id"] = CONSENSUS if flavor.is_consensus else columns["reader_id"].str.strip()
    columns["row"] = np.arange(len(columns))
    return _with_corners(columns, flavor)


def class_ids(columns: pd.DataFrame) -> dict[str, int] | None:
    """Return class name -> id where the table has ids and no name has two."""
    if "class_id" not in columns:
        return None
    ids = columns.assign(class_id=pd.to_numeric(columns["class_id"], errors="coerce")).dropna(subset="class_id")
    distinct = ids.drop_duplicates(["class_name", "class_id"])
    if distinct["class_name"].duplicated().any():
        return None
    return dict(zip(distinct["class_name"], distinct["class_id"], strict=True))


def _class_of_target(target: pd.Series, class_name: str) -> pd.Series:
    """RSNA's Target: 1 is a box of the one class, 0 nothing found, anything else is not understood (NaN)."""
    return pd.to_numeric(target, errors="coerce").map({1: class_name, 0: class_names.NO_FINDING})


def _with_corners(columns: pd.DataFrame, flavor: Flavor) -> pd.DataFrame:
    four = ["x", "y", "box_width", "box_height"] if flavor.is_xywh else CORNERS
    numbers = columns[four].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    corners = xywh_to_xyxy(numbers) if flavor.is_xywh else numbers
    return columns.assign(**dict(zip(CORNERS, corners.T, strict=True)))
