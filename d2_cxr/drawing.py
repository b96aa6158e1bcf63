"""Boxes on an image: thin frames, legible labels, colors that color-blind readers can distinguish.

Used by prediction overlays, figures, galleries and contact sheets, so that a class has one color everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from d2_cxr.boxes import as_boxes

# Okabe and Ito's palette without black, https://jfly.uni-koeln.de/color/ ; a second, lighter round serves classes 8-14.
_PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_color(index: int) -> tuple[int, int, int]:
    """Return the RGB color of a class index; indices 7 to 13 are lighter shades of 0 to 6, then it starts over."""
    color = np.array(_PALETTE[index % len(_PALETTE)])
    if (index // len(_PALETTE)) % 2:
        color = (color + 255) // 2
    red, green, blue = (int(value) for value in color)
    return red, green, blue


def draw_boxes(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    labels: Sequence[str] | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
    thickness: int | None = None,
    dashed: bool = False,
) -> np.ndarray:
    """Return a copy of an image with boxes and labels drawn.

    Args:
        image: uint8, (H, W) gray or (H, W, 3) RGB.
        boxes_xyxy: (N, 4) in pixels of `image`.
        labels: N short texts, each on a filled strip next to its box, moved so that strips do not cover each other.
        colors: N RGB colors; the first of the palette when left out.
        thickness: line width in pixels; grows with the image when left out.
        dashed: draw the frames dashed (readers' boxes, to distinguish them from a model's).

    Returns:
        uint8 (H, W, 3) RGB.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else np.ascontiguousarray(image).copy()
    boxes = as_boxes(boxes_xyxy)
    colors = list(colors) if colors is not None else [class_color(0)] * len(boxes)
    thickness = thickness or max(1, round(min(canvas.shape[:2]) / 400))
    for box, color in zip(boxes, colors, strict=True):
        _frame(canvas, np.rint(box).astype(int), color, thickness, dashed)
    taken: list[tuple[int, int, int, int]] = []
    for box, label, color in zip(boxes, labels or [], colors, strict=bool(labels)):
        taken.append(_label(canvas, box, label, color, taken))
    return canvas


def contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str] | None = None, columns: int | None = None, tile: int = 256
) -> np.ndarray:
    """Return many images on one dark sheet, uint8 RGB, each in a square of `tile` pixels with its caption below.

    Args:
        images: uint8 arrays (H, W) or (H, W, 3).
        captions: as many texts; cut to the width of a tile.
        columns: tiles a row; about a 3:2 sheet when left out.

    Raises:
        ValueError: there is no image.
    """
    if not len(images):
        raise ValueError("a contact sheet needs at least one image")
    columns = columns or max(1, round((len(images) * 1.5) ** 0.5))
    strip = 20 if captions else 4
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (tile + strip), columns * (tile + 4), 3), 24, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (tile + strip), (index % columns) * (tile + 4)
        small = _fit(image, tile)
        y, x = top + (tile - small.shape[0]) // 2, left + (tile - small.shape[1]) // 2
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
        if captions:
            text = captions[index][: tile // 7]
            cv2.putText(sheet, text, (left + 3, top + tile + 14), _FONT, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
    return sheet


def _fit(image: np.ndarray, tile: int) -> np.ndarray:
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    scale = tile / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def _frame(canvas: np.ndarray, box: np.ndarray, color: tuple[int, int, int], thickness: int, dashed: bool) -> None:
    x0, y0, x1, y1 = (int(value) for value in box)
    if not dashed:
        cv2.rectangle(canvas, (x0, y0), (x1, y1), color, thickness, cv2.LINE_8)
        return
    dash = max(4, 4 * thickness)
    for x in range(x0, x1, 2 * dash):
        for y in (y0, y1):
            cv2.line(canvas, (x, y), (min(x + dash, x1), y), color, thickness)
    for y in range(y0, y1, 2 * dash):
        for x in (x0, x1):
            cv2.line(canvas, (x, y), (x, min(y + dash, y1)), color, thickness)


def _label(canvas, box, text: str, color, taken: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    """Draw a label strip above the box, else inside it, else further down; return the strip (x0, y0, x1, y1)."""
    height, width = canvas.shape[:2]
    scale = max(0.35, min(height, width) / 1100)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, max(1, round(scale)))
    strip_width, strip_height = text_width + 4, text_height + baseline + 2
    x = int(np.clip(round(box[0]), 0, max(0, width - strip_width)))
    y = int(np.clip(round(box[1]) - strip_height, 0, height - strip_height))
    for _ in range(len(taken) + 1):
        hits = [s for s in taken if x < s[2] and s[0] < x + strip_width and y < s[3] and s[1] < y + strip_height]
        if not hits or hits[0][3] + strip_height > height:
            break
        y = hits[0][3]
    cv2.rectangle(canvas, (x, y), (x + strip_width, y + strip_height), color, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 120 else (255, 255, 255)
    cv2.putText(canvas, text, (x + 2, y + text_height + 1), _FONT, scale, ink, max(1, round(scale)), cv2.LINE_AA)
    return (x, y, x + strip_width, y + strip_height)


def encode_png(pixels: np.ndarray) -> bytes:
    """Return (H, W) or (H, W, 3) BGR uint8 as a PNG without metadata."""
    done, content = cv2.imencode(".png", pixels)
    assert done, pixels.shape
    return content.tobytes()


def encode_rgb(pixels: np.ndarray) -> bytes:
    """Return a picture (H, W, 3) RGB uint8, as this file draws it, as a PNG without metadata."""
    return encode_png(np.ascontiguousarray(pixels[..., ::-1]))
