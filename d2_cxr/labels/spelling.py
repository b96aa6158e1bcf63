"""One reader, patient or image under several spellings.

Two ids of one column are the same where they are equal after: Unicode form NFKC, no case, runs of spaces as one, no
space but between two digits, no `.0` behind a whole number (a spreadsheet writes 3 as 3.0), no leading zeros in front
of a number that is the whole id or follows letters (03 and 3, R08 and R8).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

_CUT_SHORT = re.compile(r"\d[.,]\d+E\+\d+", re.IGNORECASE)  # 1.2840113619E+17: most digits are gone


def id_key(text: str) -> str:
    """Return what is equal for all spellings of one id: "Dr. No " -> "dr.no", "3.0" and "03" -> "3"."""
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold().strip())
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    return re.sub(r"^([^\W\d]*-?)0+(?=\d+$)", r"\1", text)


def one_spelling(ids: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Give every id the spelling in which it first appears, without a spreadsheet's `.0`.

    Args:
        ids: (N,) text or None.

    Returns:
        the ids (N,), and bool (N,): the id was written otherwise than where it first appears.

    Raises:
        ValueError: an id is a number that a spreadsheet cut short, such as 1.28401E+17.
    """
    first: dict[str, str] = {}
    unified, otherwise = {}, {}  # of every spelling: there are far fewer than ids
    for text in ids.dropna().unique():
        if _CUT_SHORT.fullmatch(text.strip()):
            raise ValueError(f"the id {text.strip()!r} is a number that a spreadsheet cut short; export it as text")
        spelling = first.setdefault(id_key(text), text.strip())
        unified[text] = re.sub(r"^(\d+)\.0+$", r"\1", spelling)
        otherwise[text] = text.strip() != spelling
    written = ids.map(otherwise.__getitem__, na_action="ignore")
    return ids.map(unified.__getitem__, na_action="ignore").astype(object), written.fillna(False).astype(bool)


def natural_order(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts f2 before f10."""
    return [(int(word) if word.isdecimal() else -1, word) for word in re.split(r"(\d+)", text)]


def similar_names(names: Iterable[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Return (name, other) of image names that differ in case, spaces or leading zeros only: a hint, never a match.

    A name that has several such others is left out.
    """
    by_key: dict[str, list[str]] = {}
    for other in others:
        by_key.setdefault(_image_key(other), []).append(other)
    found = [(name, by_key.get(_image_key(name), [])) for name in names]
    return [(name, same[0]) for name, same in found if len(same) == 1 and same[0] != name]


def _image_key(name: str) -> str:
    text = re.sub(r"\s+", "", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"^(\d+)\.0+$", r"\1", text))
