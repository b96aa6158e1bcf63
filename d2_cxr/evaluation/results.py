"""COCO results: the types of every value, and whether boxes, classes and images can be what COCO means by them.

A results file that is written in another convention gives plausible numbers: boxes as corners, boxes in pixels of the
source image, classes numbered from 0, every detection twice. What is wrong in a large share is refused with the likely
reason; what is wrong in a few places is returned as a problem in one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np

from d2_cxr import artifacts

KEYS = ("image_id", "category_id", "bbox", "score")
_LARGEST = 1e12  # of any number in a results file; also keeps out NaN and infinity
_OPTIONAL = ("area", "iscrowd", "num_readers")  # of an annotation


def read_results(path: Path) -> list[dict]:
    """Read COCO results.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no list of detections, or a value has another type than COCO's; names file and detection.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; --results takes a coco_instances_results.json")
    rows = artifacts.read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path} is no list of COCO results ({', '.join(KEYS)})")
    require_types(rows, str(path))
    return rows


def require_types(rows: Sequence[Mapping], what: str, noun: str = "detection") -> None:
    """Raise ValueError unless every row has COCO's keys with values of COCO's types.

    Args:
        rows: COCO results, or COCO annotations (then without `score`).
        what: the file or "results", for the message.
        noun: what a row is called in the message, which counts rows from 0.
    """
    keys = KEYS if noun == "detection" else KEYS[:-1]
    if not isinstance(rows, Sequence):
        raise ValueError(f"{what}: {_shown(rows)} is no list of {noun}s")
    if _all_right(rows, keys):
        return
    for number, row in enumerate(rows):
        mistake = _mistake(row, keys)
        if mistake:
            raise ValueError(f"{what}: {noun} {number}: {mistake}")


def _all_right(rows: Sequence[Mapping], keys: Sequence[str]) -> bool:
    """Whether all rows are right, looked at by columns: the usual case, in a tenth of the time of row by row."""
    try:
        columns = {key: list(map(itemgetter(key), rows)) for key in keys}
        if not {*map(type, columns["image_id"]), *map(type, columns["category_id"])} <= {int}:
            return False
        boxes, scores = columns["bbox"], columns.get("score", [])
        optional = [] if "score" in keys else [row[key] for key in _OPTIONAL for row in rows if key in row]
        if not ({*map(type, boxes)} <= {list, tuple} and {*map(len, boxes)} <= {4}):
            return False
        if not {*map(type, chain.from_iterable(boxes)), *map(type, scores), *map(type, optional)} <= {int, float}:
            return False
        xywh = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
        scores, optional = np.array(scores, np.float64), np.array(optional, np.float64)
    except (KeyError, TypeError, OverflowError):
        return False
    finite = (np.abs(xywh) < _LARGEST).all() and (np.abs(optional) < _LARGEST).all()
    return bool(finite and (xywh[:, 2:] >= 0).all() and ((scores >= 0) & (scores <= 1)).all())


def _mistake(row: object, keys: Sequence[str]) -> str | None:
    """Say what is wrong with one row; None where nothing is."""
    if not isinstance(row, Mapping):
        return f"it is {_shown(row)}, not an object with {', '.join(keys)}"
    for key in keys:
        if key not in row:
            return f"it has no {key}"
    for key in ("image_id", "category_id"):
        if not _is_number(row[key]) or row[key] != int(row[key]):
            return f"{key} is {_shown(row[key])}, not a whole number"
    for key in () if "score" in keys else _OPTIONAL:
        if key in row and not _is_number(row[key]):
            return f"{key} is {_shown(row[key])}, not a finite number"
    return _box_mistake(row["bbox"]) or (_score_mistake(row["score"]) if "score" in keys else None)


def _box_mistake(box: object) -> str | None:
    if not isinstance(box, (list, tuple, np.ndarray)):
        return f"bbox is {_shown(box)}, not a list of four numbers"
    if len(box) != 4:
        return f"bbox has {len(box)} values, not the four of x, y, width, height"
    for value in box:
        if not _is_number(value):
            return f"bbox holds {_shown(value)}, which is not a finite number"
    if box[2] < 0 or box[3] < 0:
        return f"bbox has a negative width or height, {[float(value) for value in box]}; it is x, y, width, height"
    return None


def _score_mistake(score: object) -> str | None:
    if isinstance(score, float) and not np.isfinite(score):
        return f"score is {score}; evaluate a model that did not diverge"
    if not _is_number(score):
        return f"score is {_shown(score)}, not a number"
    return None if 0 <= score <= 1 else f"score is {score:g}, outside 0 to 1"


def _is_number(value: object) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and bool(-_LARGEST < value < _LARGEST)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "null" if value is None else repr(value)[:60]
