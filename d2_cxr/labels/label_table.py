"""The one table that every annotation format is read into, before any row is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pandas as pd

CORNERS = ["x_min", "y_min", "x_max", "y_max"]
CONSENSUS = "consensus"  # the reader of labels that name no reader
_DECIMALS = 6  # of a pixel: the same box in two formats is the same number
COLUMNS = ["image_name", "class_name", "reader_id", *CORNERS, "given", "place"]


@dataclass(frozen=True)
class LabelTable:
    """Rows of labels as a format gives them.

    Attributes:
        rows: image_name, class_name, reader_id (None where the cell is empty), x_min, y_min, x_max, y_max (float64,
            source pixels, NaN where the row has no such number), given (the corners as written where one of them is no
            number, else ""), place ("line 5", "a.xml, object 2") and row (int from 0, their order); where the format
            has them, class_id, patient_id and width, height or dim0, dim1 (text or number, not checked).
        format_name: name of the format.
        card: module with CLASS_NAMES, EXTRA_CLASS_NAMES and ALIASES, or None where the file itself lists its classes.
        consensus: the format names no reader.
        class_names: the file's own list in the order of its ids; () where it has none.
    """

    rows: pd.DataFrame
    format_name: str
    card: ModuleType | None = None
    consensus: bool = False
    class_names: tuple[str, ...] = ()


def table_of(rows: Iterable[Mapping], format_name: str, class_names: Sequence[str]) -> LabelTable:
    """Return the label table of rows that a parser found; a consensus where no row names a reader.

    Args:
        rows: image_name, class_name, place, and where known corners (four numbers), reader_id, width, height, split,
            patient_id; a row without corners is a finding, or "No finding", without a place in the image.
        format_name: of the parser.
        class_names: in the order of the file's ids.
    """
    frame = pd.DataFrame([_row(row) for row in rows])
    if frame.empty:
        frame = pd.DataFrame(columns=COLUMNS)
    frame[CORNERS] = frame[CORNERS].astype(np.float64).round(_DECIMALS)  # what is left of shares and percentages
    frame["row"] = np.arange(len(frame))
    consensus = not frame["reader_id"].notna().any()
    if consensus:
        frame["reader_id"] = CONSENSUS
    return LabelTable(frame, format_name, None, consensus, tuple(class_names))


def numbers(values: Sequence) -> tuple[list[float], str]:
    """Return four finite floats and "", or NaN for each that is none and the four as written."""
    parsed = [number(value) for value in values]
    if len(parsed) == 4 and not any(np.isnan(parsed)):
        return parsed, ""
    return [np.nan] * 4, " ".join(str(value) for value in values)[:80]


def _row(row: Mapping) -> dict:
    corners, given = numbers(row["corners"]) if row.get("corners") is not None else ([np.nan] * 4, "")
    rest = {key: value for key, value in row.items() if key != "corners"}
    return {"reader_id": None, **rest, **dict(zip(CORNERS, corners, strict=True)), "given": row.get("given") or given}


def number(value: object) -> float:
    """Return a finite number, NaN for anything else that a cell may hold."""
    if isinstance(value, bool):
        return np.nan
    try:
        read = float(value)  # type: ignore[arg-type]  # anything that a file may hold
    except (TypeError, ValueError, OverflowError):  # a whole number of 400 digits is not a float
        return np.nan
    return read if np.isfinite(read) else np.nan
