"""Which boxes can be used, and when so many cannot that their unit or order must be another.

Nothing is repaired silently: a bad box is left out and counted, and where a large part of the boxes is bad, the labels
are refused with the likely reason (docs/decisions/013-bad-rows.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from d2_cxr.counted import counted
from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.label_table import CORNERS
from d2_cxr.labels.problems import Problems, place_of

Sizes = Mapping[str, tuple[float, float]]

LARGE_SHARE, LARGE_MIN = 0.2, 3  # more than this part of the boxes, and at least so many: refused, not left out
# Width and height look swapped if this many boxes extend this far (fraction of the side) beyond their image.
_SWAPPED_MIN, _MARGIN = 3, 0.02
_CORNER_MIN, _CORNER_SHARE = 20, 0.34  # so many boxes, all of them within this part of width and height
_BAD_KINDS = ("not_a_number", "reversed", "no_area", "share_of_side", "outside")
_REASONS = {
    "not_a_number": "these are no numbers",
    "reversed": "these look like x, y, width, height in columns of corners, or maxima in the columns of minima",
    "no_area": "these boxes have no width or no height",
    "share_of_side": "these look like fractions of the side; multiply x by the image's width and y by its height",
    "outside": "these look like boxes of images in another size",
}


def usable_boxes(rows: pd.DataFrame, sizes: Sizes | None, problems: Problems, path: str | Path) -> pd.DataFrame:
    """Return the boxes that can be used; the others are counted in `problems`.

    Args:
        rows: of a label table, with class_name matched: NO_FINDING, or None for an extra class.
        sizes: image_name -> (width, height) in pixels, where the labels give them.
        problems: counts, which this changes.
        path: what an error names.

    Returns:
        image_name, class_name, reader_id, x_min, y_min, x_max, y_max (source pixels) and row, in file order.

    Raises:
        ValueError: no box, or too few of them, can be used; or width and height look swapped.
    """
    rows = rows[rows["class_name"] != NO_FINDING]
    rows = findings = problems.refuse(rows, rows["class_name"].isna(), "extra_class")
    blank = int((rows[CORNERS].isna().any(axis=1) & (rows["given"] == "")).sum())  # a finding without a place
    rows = problems.refuse(rows, rows[CORNERS].isna().any(axis=1), "not_a_number")
    rows = problems.refuse(rows, (rows["x_max"] < rows["x_min"]) | (rows["y_max"] < rows["y_min"]), "reversed")
    rows = problems.refuse(rows, (rows["x_max"] == rows["x_min"]) | (rows["y_max"] == rows["y_min"]), "no_area")
    rows = problems.refuse(rows, rows[CORNERS].ge(0).all(axis=1) & rows[CORNERS].le(1).all(axis=1), "share_of_side")
    _refuse_large_share(findings, blank, problems, path)
    check_extent(rows, sizes, path)
    inside, cut = _place(rows, sizes)
    problems.count(rows, ~inside, "outside")
    problems.count(rows, cut, "partly_outside")
    _refuse_large_share(findings, blank, problems, path)
    rows, _ = cut_to_images(rows, sizes)
    rows = problems.refuse(rows, rows.duplicated(["image_name", "class_name", "reader_id", *CORNERS]), "duplicate")
    return rows[["image_name", "class_name", "reader_id", *CORNERS, "row"]].reset_index(drop=True)


def cut_to_images(boxes: pd.DataFrame, sizes: Sizes | None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out boxes wholly outside their image and cut those that reach beyond it; both are counted.

    Args:
        boxes: with image_name and corners in the pixels that `sizes` counts.
        sizes: image_name -> (width, height); an image without a size, or None, is bounded by 0 on two sides only.

    Returns:
        the boxes that remain, and {"outside": left out, "partly_outside": cut}.
    """
    inside, changed = _place(boxes, sizes)
    if changed.any():
        corners = np.clip(boxes[CORNERS].to_numpy(np.float64), 0, _limits(boxes["image_name"], sizes))
        boxes = boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))
    return boxes[inside].reset_index(drop=True), {"outside": int((~inside).sum()), "partly_outside": int(changed.sum())}


def check_extent(boxes: pd.DataFrame, sizes: Sizes | None, path: str | Path) -> None:
    """Raise where the boxes as a whole do not fit their images: another size, another order of numbers, or percent.

    Args:
        boxes: with image_name and corners in the pixels that `sizes` counts.
        sizes: image_name -> (width, height); images without a size are ignored.
        path: what the error names.

    Raises:
        ValueError: many boxes reach beyond their image, or all lie in its upper left corner; gives the likely reason.
    """
    boxes = boxes[boxes["image_name"].isin((sizes or {}).keys())]
    if boxes.empty:
        return
    limits, corners = _limits(boxes["image_name"], sizes), boxes[CORNERS].to_numpy(np.float64)
    _refuse_swapped_sizes(corners, limits * (1 + _MARGIN), path)
    beyond = (corners > limits * (1 + _MARGIN)).any(axis=1) | (corners < -limits * _MARGIN).any(axis=1)
    if beyond.sum() >= LARGE_MIN and beyond.sum() > LARGE_SHARE * len(boxes):
        number = counted(beyond.sum(), "box", of=len(boxes))
        raise ValueError(
            f"{path}: {number} reach beyond the image: {_why_beyond(corners, limits)} "
            f"(first on image {boxes['image_name'].iloc[int(beyond.argmax())]})"
        )
    reach = (corners[:, 2:] / limits[:, 2:]).max(axis=0)
    if len(boxes) >= _CORNER_MIN and (reach <= _CORNER_SHARE).all():
        raise ValueError(
            f"{path}: all boxes ({len(boxes)}) lie in the upper left {reach[0]:.0%} by {reach[1]:.0%} of their images: "
            "these look like percent of the side, or boxes of images in a smaller size"
        )


def _place(boxes: pd.DataFrame, sizes: Sizes | None) -> tuple[np.ndarray, np.ndarray]:
    """Return two (N,) bool: the box is at least partly inside its image; it must be cut to it."""
    corners = boxes[CORNERS].to_numpy(np.float64)
    cut = np.clip(corners, 0, _limits(boxes["image_name"], sizes))
    inside = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
    return inside, inside & (cut != corners).any(axis=1)


def _limits(image_names: pd.Series, sizes: Sizes | None) -> np.ndarray:
    """Return the greatest x, y, x, y (N, 4) that a box of these images may reach; infinite where no size is known."""
    sizes = sizes or {}
    unbounded = (np.inf, np.inf)
    pairs = np.array([sizes.get(name, unbounded) for name in image_names], dtype=np.float64).reshape(-1, 2)
    return np.hstack([pairs, pairs])


def _refuse_large_share(findings: pd.DataFrame, blank: int, problems: Problems, path: str | Path) -> None:
    """Raise where none, or too few, of the boxes can be used; findings without any corner are not counted."""
    bad = {kind: problems[kind] - blank * (kind == "not_a_number") for kind in _BAD_KINDS}
    boxes, total = len(findings) - blank, sum(bad.values())
    if len(findings) and not boxes:
        raise ValueError(
            f"{path}: none of {counted(len(findings), 'finding')} has a box (first in {place_of(findings.iloc[0])})"
        )
    if total and (total == boxes or (total >= LARGE_MIN and total > LARGE_SHARE * boxes)):
        kind = max(bad, key=bad.__getitem__)
        where = problems.first[kind]
        if kind == "not_a_number":
            unreadable = findings[findings["given"] != ""]
            where = place_of(unreadable.iloc[0])
        reason = _REASONS[kind]
        if kind == "not_a_number" and unreadable["given"].str.contains(r"\d,\d").mean() > 0.5:
            reason = "these look like decimal commas; write 20.5 for 20,5"
        raise ValueError(f"{path}: {counted(total, 'box', of=boxes)} cannot be used: {reason} (first in {where})")


def _refuse_swapped_sizes(corners: np.ndarray, limits: np.ndarray, path: str | Path) -> None:
    """Raise where boxes lie far outside their image and would fit if its width and height changed places.

    In a table with dim0 and dim1 exchanged only the boxes beyond the shorter side show it: about one in thirty.
    """
    beyond = (corners > limits).any(axis=1)
    fit_swapped = beyond & (corners <= limits[:, [1, 0, 3, 2]]).all(axis=1)
    if beyond.sum() >= _SWAPPED_MIN and fit_swapped.sum() >= 0.9 * beyond.sum():
        raise ValueError(
            f"{path}: {counted(beyond.sum(), 'box', of=len(corners))} reach beyond the image, and "
            f"{fit_swapped.sum()} of these fit when width and height change places: the columns look swapped "
            "(dim0 is the height, dim1 the width)"
        )


def _why_beyond(corners: np.ndarray, limits: np.ndarray) -> str:
    maxima = corners[:, 2:] - corners[:, :2]  # what was read as width and height
    if ((maxima > corners[:, :2]) & (maxima <= limits[:, 2:])).all():
        return "these look like corners (x_min, y_min, x_max, y_max) in columns of x, y, width, height"
    return _REASONS["outside"]
