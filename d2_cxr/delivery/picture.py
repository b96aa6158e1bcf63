"""An image as it is meant to be seen, with boxes: overlays of predictions and key images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from d2_cxr.dicom.image_files import read_image
from d2_cxr.dicom.preprocess import Preprocess, box_map, prepare_image
from d2_cxr.drawing import draw_boxes

SIZE = 1024  # pixels of the longer side at most


def draw_on_image(
    path: str | Path, boxes_xyxy: np.ndarray | Sequence, labels: Sequence[str], colors: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Return an image file with boxes and labels drawn, (h, w, 3) uint8 RGB, no side above 1024 pixels.

    Args:
        path: DICOM, PNG or JPEG.
        boxes_xyxy: (N, 4) in the file's own pixels.
        labels, colors: N of each.

    Raises:
        ImageError: the file cannot be shown.
    """
    stored = read_image(path, min_size=SIZE)
    width, height = stored.source_width, stored.source_height
    size = min(SIZE, max(width, height, 256))
    rules = Preprocess(size=size, resize="letterbox", equalize="none")
    return draw_on_prepared(prepare_image(stored, rules)[0], (width, height), rules, boxes_xyxy, labels, colors)


def draw_on_prepared(
    image: np.ndarray,
    source_size: tuple[int, int],
    rules: Preprocess,
    boxes_xyxy: np.ndarray | Sequence,
    labels: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
) -> np.ndarray:
    """Return a letterboxed image, cut to its picture, with boxes and labels drawn: (h, w, 3) uint8 RGB.

    Args:
        image: (size, size) uint8, prepared with the rules.
        source_size: width and height of the source file, pixels.
        rules: of its preparation.
        boxes_xyxy: (N, 4) in the source file's own pixels.
        labels, colors: N of each.
    """
    width, height = source_size
    to_image = box_map(width, height, rules)
    left, top, right, bottom = to_image.forward(np.array([[0, 0, width, height]]))[0].round().astype(int)
    boxes = to_image.forward(np.asarray(boxes_xyxy)) - [left, top, left, top]
    return draw_boxes(np.ascontiguousarray(image[top:bottom, left:right]), boxes, labels, colors)
