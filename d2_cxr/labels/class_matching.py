"""The class of every row of a label table, and the list of classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd

from d2_cxr.counted import counted
from d2_cxr.labels import vindr_cxr
from d2_cxr.labels.box_rules import LARGE_MIN, LARGE_SHARE
from d2_cxr.labels.class_names import NO_FINDING, is_no_finding, match_to_card, name_key, names_of_table
from d2_cxr.labels.label_table import CORNERS, LabelTable
from d2_cxr.labels.problems import Problems, place_of

logger = logging.getLogger(__name__)


def match_classes(
    table: LabelTable,
    class_names: str | Sequence[str] | None,
    negative_names: Sequence[str],
    problems: Problems,
    path: str | Path,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows with class_name matched (NO_FINDING, None for an unrequested extra class), and the classes.

    Args:
        table: as read.
        class_names: see `read_annotations`.
        negative_names: names that mean "No finding".
        problems: counts, which this changes.
        path: what an error names.

    Raises:
        ValueError: an unknown class, a class without a single box, or class ids that contradict the names.
    """
    rows = table.rows
    _check_negative_names(rows, negative_names, path)
    negative = {name_key(name) for name in negative_names}
    found = [name for name in rows["class_name"].unique() if name_key(name) not in negative]
    card = table.card
    classes: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    extra: tuple[str, ...] = ()
    if own_names(table, class_names):
        _refuse_classes_without_box(rows, found, path)
        listed = [name for name in table.class_names if name_key(name) not in negative]
        classes = names_of_table(listed + found, _ids_of(rows, listed))
        _log_merged(found, path)
    elif card and class_names in (None, "card"):
        classes, aliases, extra = card.CLASS_NAMES, card.ALIASES, card.EXTRA_CLASS_NAMES
    elif card and class_names == "extended":
        classes, aliases = card.CLASS_NAMES + card.EXTRA_CLASS_NAMES, card.ALIASES
    elif isinstance(class_names, str):
        raise ValueError(
            f"classes {class_names!r} is not one of 'card', 'extended', 'from-csv'; a list gives own names"
        )
    else:
        classes, aliases = tuple(class_names or ()), card.ALIASES if card else {}
    try:
        matched = match_to_card(list(rows["class_name"].unique()), classes, aliases, extra, negative_names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    rows = rows.assign(class_name=rows["class_name"].map(matched))
    _check_class_ids(rows, card if class_names in (None, "card", "extended") else None, problems, path)
    return rows, tuple(classes)


def own_names(table: LabelTable, class_names: str | Sequence[str] | None) -> bool:
    """Whether the labels' own names are the classes."""
    return class_names == "from-csv" or (table.card is None and class_names in (None, "card"))


def classes_with_boxes(classes: tuple[str, ...], boxes: pd.DataFrame, path: str | Path) -> tuple[str, ...]:
    """Return the classes that have a usable box; the others are named in the log: nothing can be learned of them."""
    boxed = set(boxes["class_name"])
    empty = [name for name in classes if name not in boxed]
    if empty and boxed:
        logger.warning("%s: no usable box of %s: left out of the classes", path, ", ".join(map(repr, empty)))
    return tuple(name for name in classes if name in boxed) if boxed else classes


def _check_negative_names(rows: pd.DataFrame, negative_names: Sequence[str], path: str | Path) -> None:
    keys = rows["class_name"].map({name: name_key(name) for name in rows["class_name"].unique()})
    for name in negative_names:
        named = rows[keys == name_key(name)]
        boxed = named[_has_box(named)]
        if len(boxed):
            raise ValueError(f"{path}: {name!r} cannot mean {NO_FINDING!r}: {place_of(boxed.iloc[0])} has a box")


def _refuse_classes_without_box(rows: pd.DataFrame, found: Sequence[str], path: str | Path) -> None:
    """Raise where no row of a name has a place in its image: such a name says that nothing, or what, is there."""
    boxed = {name_key(name) for name in rows["class_name"][_has_box(rows)].unique()}
    for name in found:
        if name_key(name) not in boxed and not is_no_finding(name):
            named = rows[rows["class_name"] == name]
            raise ValueError(
                f"{path}: none of {counted(len(named), 'row')} {name[:80]!r} has a box "
                f"(first in {named['place'].iloc[0]}); --negative-names {name[:80]!r} if it means "
                f"{NO_FINDING!r}, or name the classes with --classes"
            )


def _has_box(rows: pd.DataFrame) -> pd.Series:
    """Return (N,) bool: the row gives a place: corners that are not empty, all equal, or Kaggle's 0 0 1 1 for none."""
    corners = rows[CORNERS]
    empty = corners.isna().any(axis=1) & (rows["given"] == "")
    point = (corners["x_min"] == corners["x_max"]) & (corners["y_min"] == corners["y_max"])
    return ~(empty | point | (corners == [0, 0, 1, 1]).all(axis=1))


def _ids_of(rows: pd.DataFrame, listed: Sequence[str]) -> dict[str, int] | None:
    """Return class name -> id: the place in the file's own list, or the table's ids where no name has two."""
    if listed:
        return {name: index for index, name in enumerate(listed)}
    if "class_id" not in rows:
        return None
    ids = rows.assign(class_id=pd.to_numeric(rows["class_id"], errors="coerce")).dropna(subset="class_id")
    distinct = ids.drop_duplicates(["class_name", "class_id"])
    if distinct["class_name"].duplicated().any():
        return None
    return dict(zip(distinct["class_name"], distinct["class_id"], strict=True))


def _log_merged(found: Sequence[str], path: str | Path) -> None:
    first: dict[str, str] = {}
    for name in found:
        known = first.setdefault(name_key(name), name)
        if known != name:
            logger.warning("%s: class %r is read as %r", path, name, known)


def _check_class_ids(rows: pd.DataFrame, card: ModuleType | None, problems: Problems, path: str | Path) -> None:
    """Count rows whose class id and name disagree; raise where many do: which of the two is wrong is not known.

    Ids of the table's own are right as long as each belongs to one name. The card's ids are asked where the table uses
    its numbering: ids of VinDr-CXR's list that are not simply 0, 1, 2 … of the names at hand.
    """
    if "class_id" not in rows:
        return
    ids = pd.to_numeric(rows["class_id"], errors="coerce")
    known = rows.assign(class_id=ids)[ids.notna() & rows["class_name"].notna() & (rows["class_name"] != NO_FINDING)]
    right = _card_pairs(known) if card is vindr_cxr else _pairs_of_majority(known)
    bad = [pair not in right for pair in zip(known["class_name"], known["class_id"], strict=True)]
    problems.count(known, bad, "class_id_disagrees")
    if sum(bad) >= LARGE_MIN and sum(bad) > LARGE_SHARE * len(known):
        row = known.iloc[bad.index(True)]
        raise ValueError(
            f"{path}: class id and class name disagree in {counted(sum(bad), 'row', of=len(known))}, "
            f"first in {row['place']}: {row['class_name']!r} has the id {row['class_id']:g}; "
            "correct the wrong column, or take class_id out"
        )


def _pairs_of_majority(known: pd.DataFrame) -> set[tuple[str, float]]:
    """Return one id for each name and one name for each id, those of most rows."""
    pairs = known.groupby(["class_name", "class_id"], sort=False).size().sort_values(ascending=False, kind="stable")
    names: set[str] = set()
    ids: set[float] = set()
    right = set()
    for name, number in pairs.index:
        if name not in names and number not in ids:
            right.add((name, number))
            names.add(name)
            ids.add(number)
    return right


def _card_pairs(known: pd.DataFrame) -> set[tuple[str, float]]:
    own = _pairs_of_majority(known)
    consistent = len(known.drop_duplicates(["class_name", "class_id"])) == len(own)
    numbers = {number for _, number in own}
    if consistent and numbers in (set(range(len(own))), set(range(1, len(own) + 1))):
        return own  # the table's own numbering
    return {(name, float(index)) for index, name in enumerate(vindr_cxr.CLASS_NAMES)} | (
        {pair for pair in own if pair[0] not in vindr_cxr.CLASS_NAMES} if consistent else set()
    )
