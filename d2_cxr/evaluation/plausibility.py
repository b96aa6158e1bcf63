"""Whether results can be what their file says: each detection once, boxes XYWH in prepared pixels, classes by the JSON.

Results in another convention are evaluated without an error and pass for those of a bad detector. Here they are held
against the images' sizes and against the truth: where another reading of the same numbers fits far better, they are
refused with that reading as the likely reason. What is odd in a few places only is returned in one line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from d2_cxr import boxes as box_math
from d2_cxr.counted import counted
from d2_cxr.evaluation.coco_arrays import CocoArrays

LARGE_SHARE = 0.1  # of detections: refused where it is clear what happened
MOST = 0.5  # of detections: refused even where it is not
FEW_IMAGES = 0.1  # fraction of images without a detection that is usual
MAX_IMAGES = 200  # compared with the truth, evenly spaced
_TOLERANCE = 0.01  # of the side, and one pixel: how far a box may reach beyond the image
_FRACTIONS, _CORNERS = "fractions of the side", "corners (x_min, y_min, x_max, y_max)"
_ODD = np.random.default_rng(0).integers(2**63, size=7, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_MANY = 20  # detections or truth boxes: enough for a judgment on them alone


@dataclass(frozen=True)
class _Reading:
    """What the four numbers of every box may be meant as."""

    name: str
    boxes: np.ndarray  # (D, 4) XYXY in prepared pixels, if so
    possible: bool  # all of them have positive sides and lie inside of the image


def find_problems(
    arrays: CocoArrays, images: Sequence[Mapping], results: Sequence[Mapping], categories: Sequence[Mapping]
) -> list[str]:
    """Hold results against images and truth.

    Args:
        arrays: truth and results, detections in the order of `results`.
        images: COCO images in the order of `arrays.image_ids`: width, height, source_width, source_height.
        results: COCO results, of which `category_name` or `class_name` is compared with the category where it is there.
        categories: COCO categories.

    Returns:
        What is odd in a few places, one line each.

    Raises:
        ValueError: a large fraction of the results is not as COCO defines them; gives the likely reason.
    """
    if len(arrays.dt_image) == 0:
        return ["results: there is no detection at all"]
    checks = (_repeated(arrays), _misnamed(results, categories), _misplaced(arrays, images), _misnumbered(arrays))
    return [problem for problem in (*checks, _unanswered(arrays)) if problem]


def _repeated(arrays: CocoArrays) -> str | None:
    """Raise if many results are in the file twice."""
    columns = [arrays.dt_image, arrays.dt_class, arrays.dt_score, *arrays.dt_boxes.T]
    key = np.zeros(len(arrays.dt_image), dtype=np.uint64)  # equal for equal detections
    for column, odd in zip(columns, _ODD, strict=True):
        key += np.ascontiguousarray(column, dtype=np.float64).view(np.uint64) * odd
    order = np.argsort(key, kind="stable")  # of equal detections, the first of the file comes first
    behind = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    again, before = order[1:][behind], order[:-1][behind]
    equal = np.all([column[again] == column[before] for column in columns], axis=0)
    again, before = again[equal], before[equal]
    if len(again) == 0:
        return None
    first, number = int(again.argmin()), len(key)
    line = (
        f"results: {counted(len(again), 'detection', of=number)} repeated (same image, class, box and score), "
        f"first detection {again[first]}, equal to detection {before[first]}"
    )
    if len(again) >= LARGE_SHARE * number:
        raise ValueError(f"{line}; were the files of several processes merged? Write every detection only once")
    return line


def _misnamed(results: Sequence[Mapping], categories: Sequence[Mapping]) -> str | None:
    """Refuse results whose class name contradicts their category_id."""
    names = {category["id"]: category["name"] for category in categories}
    wrong = [
        (number, key)
        for key in ("category_name", "class_name")
        for number, row in enumerate(results)
        if key in row and row[key] != names[row["category_id"]]
    ]
    if not wrong:
        return None
    number, key = wrong[0]
    row = results[number]
    line = (
        f"results: {key} contradicts category_id in {counted(len(wrong), 'detection', of=len(results))}, "
        f"first detection {number}: {str(row[key])[:40]!r}, "
        f"but category {row['category_id']} is {names[row['category_id']]!r}"
    )
    if len(wrong) >= LARGE_SHARE * len(results):
        raise ValueError(f"{line}; number classes as the categories of the set's JSON do")
    return line


def _misplaced(arrays: CocoArrays, images: Sequence[Mapping]) -> str | None:
    """Refuse boxes that are corners, centers, fractions of the side or in source pixels; count those outside."""
    sides = _sides(images, "width", "height")[arrays.dt_image]
    outside = ~_inside(arrays.dt_boxes, sides)
    share, number = outside.mean(), len(outside)
    for reading in _readings(arrays, images, sides):
        if _fits_better(arrays, reading, share):
            raise ValueError(
                f"results: boxes look like {reading.name}, first detection 0: "
                f"{np.round(box_math.xyxy_to_xywh(arrays.dt_boxes[:1])[0], 3).tolist()}; "
                "COCO results hold x, y, width, height in pixels of the prepared image"
            )
    if not outside.any():
        return None
    first = int(np.flatnonzero(outside)[0])
    line = (
        f"results: {counted(outside.sum(), 'box', of=number)} beyond the prepared image, first detection "
        f"{first}: {np.round(box_math.xyxy_to_xywh(arrays.dt_boxes[[first]])[0], 1).tolist()} on "
        f"{' x '.join(f'{side:g}' for side in sides[first])} pixels"
    )
    if share >= MOST:
        raise ValueError(f"{line}; COCO results hold x, y, width, height in pixels of the prepared image")
    return line


def _readings(arrays: CocoArrays, images: Sequence[Mapping], sides: np.ndarray) -> list[_Reading]:
    raw = box_math.xyxy_to_xywh(arrays.dt_boxes)
    scale = (_sides(images, "width", "height") / _sides(images, "source_width", "source_height"))[arrays.dt_image]
    half = np.concatenate([raw[:, :2] - raw[:, 2:] / 2, raw[:, :2] + raw[:, 2:] / 2], axis=1)
    candidates = [(_FRACTIONS, raw), (_CORNERS, raw), ("center, width and height", half)]
    if np.isfinite(scale).all() and not (scale == 1).all():
        candidates.append(("pixels of the source image", arrays.dt_boxes * np.tile(scale, 2)))
    return [
        _Reading(name, boxes, name == _FRACTIONS or bool(_inside(boxes, sides).all())) for name, boxes in candidates
    ]


def _fits_better(arrays: CocoArrays, reading: _Reading, share_outside: float) -> bool:
    """Whether the boxes are more likely meant so, by the images' edges and by the truth."""
    if not reading.possible:
        return False
    if reading.name == _FRACTIONS:
        return bool(box_math.xyxy_to_xywh(arrays.dt_boxes).max() <= 1 + _TOLERANCE)
    if len(np.unique(arrays.dt_boxes @ [1, np.e, np.pi, np.sqrt(2)])) < MOST * len(arrays.dt_boxes):
        return False  # the same boxes on every image, as of a baseline: agreement is chance
    given, other = _agreement(arrays, arrays.dt_boxes), _agreement(arrays, reading.boxes)
    return bool(
        (share_outside >= MOST and other >= given)
        or (share_outside >= LARGE_SHARE and other - given >= 0.05)
        or (other - given >= 0.2 and other >= 2 * given and other >= 0.4)
        or (reading.name == _CORNERS and len(reading.boxes) >= _MANY and other - given >= 0.1)
    )


def _agreement(arrays: CocoArrays, boxes: np.ndarray) -> float:
    """Mean over the truth boxes of some images of the best IoU with any detection."""
    best = [iou.max(axis=0, initial=0) for _, _, iou in _overlaps(arrays, boxes)]
    return float(np.concatenate(best).mean()) if best else 0.0


def _overlaps(arrays: CocoArrays, boxes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return detections, truth boxes and their IoU of up to MAX_IMAGES images that have both."""
    images = np.intersect1d(arrays.gt_image, arrays.dt_image)
    chosen = images[np.unique(np.linspace(0, len(images) - 1, MAX_IMAGES).astype(int))] if len(images) else images
    found = []
    for image in chosen:
        dt, gt = np.flatnonzero(arrays.dt_image == image), np.flatnonzero(arrays.gt_image == image)
        found.append((dt, gt, box_math.pairwise_iou(boxes[dt], arrays.gt_boxes[gt])))
    return found


def _misnumbered(arrays: CocoArrays) -> str | None:
    """Raise if the classes are those of the truth in another order, as boxes at the same place show."""
    number = len(arrays.class_names)
    confusion = np.zeros((number, number), dtype=np.int64)  # class of the detection, class of the truth box
    for dt, gt, iou in _overlaps(arrays, arrays.dt_boxes):
        scores = np.where(iou >= 0.5, arrays.dt_score[dt][:, None], -1)
        best = scores.argmax(axis=0)
        hit = scores.max(axis=0) >= 0
        np.add.at(confusion, (arrays.dt_class[dt[best[hit]]], arrays.gt_class[gt[hit]]), 1)
    rows, columns = linear_sum_assignment(-confusion)
    total, own, other = confusion.sum(), np.trace(confusion), confusion[rows, columns].sum()
    if total < 5 or own > 0.1 * total or other < 0.7 * total:
        return None
    worst = int((confusion[rows, columns] * (rows != columns)).argmax())
    line = (
        f"results: classes look renumbered: {confusion[rows[worst], columns[worst]]} of {confusion[rows[worst]].sum()} "
        f"boxes of {arrays.class_names[rows[worst]]!r} lie on truth boxes of {arrays.class_names[columns[worst]]!r}, "
        f"and the class is the same in {own} of the {counted(total, 'box')} that agree in place"
    )
    if total >= _MANY:
        raise ValueError(f"{line}; number classes as the categories of the set's JSON do")
    return line


def _unanswered(arrays: CocoArrays) -> str | None:
    without = np.setdiff1d(np.arange(len(arrays.image_ids)), arrays.dt_image)
    if len(without) <= FEW_IMAGES * len(arrays.image_ids):
        return None
    return (
        f"results: no detection on {counted(len(without), 'image', of=len(arrays.image_ids))}, first "
        f"{arrays.image_names[without[0]]}; are results of some images missing?"
    )


def _sides(images: Sequence[Mapping], *keys: str) -> np.ndarray:
    """Return (F, 2) of these keys, NaN where an image lacks one."""
    return np.array([[image.get(key) or np.nan for key in keys] for image in images], dtype=np.float64).reshape(-1, 2)


def _inside(boxes: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Whether boxes (D, 4) have no reversed side and lie in images of (D, 2) pixels; True where a side is unknown."""
    margin = 1 + _TOLERANCE * sides
    wrong = (boxes[:, :2] < -margin) | (boxes[:, 2:] > sides + margin) | (boxes[:, 2:] < boxes[:, :2])
    return np.logical_not(wrong.any(axis=1))
