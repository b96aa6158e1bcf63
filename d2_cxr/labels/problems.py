"""The kinds of rows that cannot be used as they are, what happens to each, and their counts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

PROBLEMS = {  # kind -> rule; a row counts once, under the first kind that fits
    "repeated_header": "the header again, as where two tables were joined: row left out",
    "no_reader": "the table has a reader column but this cell is empty: row left out",
    "extra_class": "a class of the full release that was not asked for: box left out, its image is not negative",
    "class_id_disagrees": "the class id contradicts the class name of other rows: the name is used",
    "not_a_number": "a corner is missing or not a number: box left out",
    "reversed": "a maximum lies before its minimum: box left out",
    "no_area": "no width or no height: box left out",
    "share_of_side": "all four corners lie between 0 and 1, fractions of the side instead of pixels: box left out",
    "outside": "wholly outside the image: box left out",
    "partly_outside": "reaches beyond the image: box kept, cut to the image",
    "duplicate": "the same image, class, reader and corners again: the first is kept",
    "contradiction": "a reader's 'No finding' although the reader drew a box on the same image: box kept",
    "respelled": "a reader or patient in another spelling (case, spaces, 3.0 or 03 for 3): read as the first spelling",
    "without_patient": "images without a patient although others have one: each counts as its own patient",
}

# What a strict preparation does not accept: labels that were lost, or of which nobody knows what they mean.
LEFT_OUT = ("no_reader", "class_id_disagrees", "not_a_number", "reversed", "no_area", "share_of_side", "outside")


class Problems(dict[str, int]):
    """Kind of PROBLEMS -> number of rows (images for `without_patient`), and where each kind first occurs."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(PROBLEMS, 0))
        self.first: dict[str, str] = {}

    def refuse(self, rows: pd.DataFrame, bad: pd.Series | np.ndarray, kind: str) -> pd.DataFrame:
        """Return the rows without those where `bad` (N,) bool holds, which are counted under `kind`."""
        bad = np.asarray(bad, dtype=bool)
        self.count(rows, bad, kind)
        return rows[~bad] if bad.any() else rows

    def count(self, rows: pd.DataFrame, bad: pd.Series | np.ndarray, kind: str) -> None:
        """Count the rows where `bad` (N,) bool holds under `kind`, and keep the place of the first."""
        bad = np.asarray(bad, dtype=bool)
        if bad.any():
            self[kind] += int(bad.sum())
            self.first.setdefault(kind, place_of(rows.iloc[int(bad.argmax())]))

    def log(self, path: str | Path) -> None:
        """Write one warning for each kind that occurs."""
        for kind, number in self.items():
            if number:
                first = f"; first in {self.first[kind]}" if kind in self.first else ""
                logger.warning("%s: %d x %s (%s)%s", path, number, kind, PROBLEMS[kind], first)


def place_of(row: pd.Series) -> str:
    """Return the place of a row and its corners as written if one is not a number: "line 2: '20,5 30,5 70,5 90,5'"."""
    return f"{row['place']}: {row['given']!r}" if row.get("given") else str(row["place"])
