"""COCO JSON and COCO results as arrays; every value is held to COCO's types here, once.

Images are sorted by their COCO id, those with findings first and negative ones behind, because COCO's evaluation breaks
ties between equal scores by that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from d2_cxr import artifacts
from d2_cxr import boxes as box_math
from d2_cxr.image_name import image_name

KEYS = ("image_id", "category_id", "bbox", "score")
_LARGEST = 1e12  # of any number in a results file; also keeps out NaN and infinity
_OPTIONAL = ("area", "iscrowd", "num_readers")  # of an annotation


@dataclass(frozen=True)
class CocoArrays:
    """Truth and detections of a set of images; F images, G truth boxes, D detections, C classes.

    `image_group` numbers what a bootstrap draws: patients where known, else images. Boxes are XYXY in pixels of the
    prepared image; `*_area` are COCO's (the annotation's own `area`, width x height of a detection).
    `gt_readers` is -1 where unknown.
    """

    class_names: tuple[str, ...]
    image_ids: np.ndarray  # (F,) int64, COCO image ids
    image_names: np.ndarray  # (F,) str, file names without ending
    image_negative: np.ndarray  # (F,) bool
    image_group: np.ndarray  # (F,) int64, 0...
    gt_image: np.ndarray  # (G,) int64, position in image_ids
    gt_class: np.ndarray  # (G,) int64, position in class_names
    gt_boxes: np.ndarray  # (G, 4) float64
    gt_area: np.ndarray  # (G,) float64
    gt_crowd: np.ndarray  # (G,) bool
    gt_readers: np.ndarray  # (G,) int64
    dt_image: np.ndarray  # (D,)
    dt_class: np.ndarray  # (D,)
    dt_boxes: np.ndarray  # (D, 4)
    dt_area: np.ndarray  # (D,)
    dt_score: np.ndarray  # (D,) float64


def read_results(path: Path) -> list[dict]:
    """Read COCO results.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a list of detections, or a value has another type than COCO's; names file and detection.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; --results takes a coco_instances_results.json")
    rows = artifacts.read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path} is not a list of COCO results ({', '.join(KEYS)})")
    require_types(rows, str(path))
    return rows


def to_arrays(
    truth: Mapping,
    results: Sequence[Mapping],
    negative_truth: Mapping | None = None,
) -> CocoArrays:
    """Read COCO truth and COCO results into arrays.

    Args:
        truth: COCO dict of the images with findings.
        results: COCO results (image_id, category_id, bbox XYWH, score) on these images and on the negative ones.
        negative_truth: COCO dict of images without findings (images only).

    Raises:
        ValueError: a value has another type than COCO's, or names an image or class that the truth does not have.
    """
    findings = sorted(truth["images"], key=lambda image: image["id"])
    negatives = sorted(negative_truth["images"], key=lambda image: image["id"]) if negative_truth else []
    images = findings + negatives
    image_of = {image["id"]: index for index, image in enumerate(images)}
    if len(image_of) != len(images):
        raise ValueError("two images of the truth have the same image id; give negative images other ids")
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    class_of = {category["id"]: index for index, category in enumerate(categories)}
    names = [image_name(image.get("file_name", str(image["id"]))) for image in images]
    return CocoArrays(
        class_names=tuple(category["name"] for category in categories),
        image_ids=np.array([image["id"] for image in images], dtype=np.int64),
        image_names=np.array(names, dtype=np.str_),
        image_negative=np.arange(len(images)) >= len(findings),
        image_group=_groups(images),
        **_truth_columns(truth.get("annotations", []), image_of, class_of),
        **_detection_columns(results, image_of, class_of),
    )


def _groups(images: list[Mapping]) -> np.ndarray:
    known = [(image["id"], image.get("patient")) for image in images]
    keys = [("image", number) if patient is None else ("patient", str(patient)) for number, patient in known]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _truth_columns(annotations: Sequence[Mapping], image_of: Mapping, class_of: Mapping) -> dict[str, np.ndarray]:
    require_types(annotations, "truth", noun="box")
    xywh = box_math.as_boxes([row["bbox"] for row in annotations])
    images, classes = _positions(annotations, image_of, class_of, "truth: box")
    own_area = xywh[:, 2] * xywh[:, 3]
    areas = [box.get("area", own) for box, own in zip(annotations, own_area.tolist(), strict=True)]
    return {
        "gt_image": images,
        "gt_class": classes,
        "gt_boxes": box_math.xywh_to_xyxy(xywh),
        "gt_area": np.array(areas, dtype=np.float64),
        "gt_crowd": np.array([bool(box.get("iscrowd", 0)) for box in annotations], dtype=bool),
        "gt_readers": np.array([box.get("num_readers", -1) for box in annotations], dtype=np.int64),
    }


def _detection_columns(results: Sequence[Mapping], image_of: Mapping, class_of: Mapping) -> dict[str, np.ndarray]:
    require_types(results, "results")
    xywh = box_math.as_boxes([row["bbox"] for row in results])
    images, classes = _positions(results, image_of, class_of, "results: detection")
    return {
        "dt_image": images,
        "dt_class": classes,
        "dt_boxes": box_math.xywh_to_xyxy(xywh),
        "dt_area": xywh[:, 2] * xywh[:, 3],
        "dt_score": np.array([row["score"] for row in results], dtype=np.float64),
    }


def _positions(
    rows: Sequence[Mapping], image_of: Mapping, class_of: Mapping, what: str
) -> tuple[np.ndarray, np.ndarray]:
    images = [image_of.get(row["image_id"], -1) for row in rows]
    if -1 in images:
        number = images.index(-1)
        raise ValueError(f"{what} {number}: image_id {rows[number]['image_id']} is not the id of an evaluated image")
    classes = [class_of.get(row["category_id"], -1) for row in rows]
    if -1 in classes:
        raise ValueError(_unknown_category(rows, classes.index(-1), class_of, what))
    return np.array(images, dtype=np.int64), np.array(classes, dtype=np.int64)


def _unknown_category(rows: Sequence[Mapping], number: int, class_of: Mapping, what: str) -> str:
    line = f"{what} {number}: category_id {rows[number]['category_id']} is not one of {sorted(class_of)}"
    if {row["category_id"] for row in rows} <= set(range(len(class_of))):
        line += "; classes seem to be numbered from 0, COCO results hold the category ids of the set's JSON"
    return line


def require_types(rows: Sequence[Mapping], what: str, noun: str = "detection") -> None:
    """Raise ValueError unless every row has COCO's keys with values of COCO's types.

    Args:
        rows: COCO results, or COCO annotations (then without `score`).
        what: the file or "results", for the message.
        noun: what a row is called in the message, which counts rows from 0.
    """
    keys = KEYS if noun == "detection" else KEYS[:-1]
    if not isinstance(rows, Sequence):
        raise ValueError(f"{what}: {_shown(rows)} is not a list of {noun}s")
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
        score, others = np.array(scores, np.float64), np.array(optional, np.float64)
    except (KeyError, TypeError, OverflowError):
        return False
    finite = (np.abs(xywh) < _LARGEST).all() and (np.abs(others) < _LARGEST).all()
    return bool(finite and (xywh[:, 2:] >= 0).all() and ((score >= 0) & (score <= 1)).all())


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


def _score_mistake(score: Any) -> str | None:
    if isinstance(score, float) and not np.isfinite(score):
        return f"score is {score}; evaluate a model that did not diverge"
    if not _is_number(score):
        return f"score is {_shown(score)}, not a number"
    return None if 0 <= score <= 1 else f"score is {score:g}, outside 0 to 1"


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and bool(-_LARGEST < value < _LARGEST)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "null" if value is None else repr(value)[:60]
