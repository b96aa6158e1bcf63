"""labelme's JSON (https://github.com/wkentaro/labelme): a file an image, shapes of points in pixels.

Rectangles, polygons and circles give the box around them. A flag that is true is a class without a place. A file
without a shape and flag is an image without findings: somebody saved it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.formats.documents import SizeOf, box_of_points, entries

NAME = "labelme"


def is_format(document: object) -> bool:
    """Whether a JSON document is labelme's: shapes of an image."""
    return isinstance(document, Mapping) and "shapes" in document and "imagePath" in document


def read(path: Path, size_of: SizeOf | None = None) -> tuple[list[dict], list[str]]:
    """Return the rows of a file; the format has no list of classes.

    Raises:
        ValueError: a shape has no label.
    """
    document = artifacts.read_json(path)
    image = {
        "image_name": str(document["imagePath"]).replace("\\", "/") or path.stem,
        "width": document.get("imageWidth"),
        "height": document.get("imageHeight"),
    }
    rows = []
    for number, shape in enumerate(entries(document, "shapes"), start=1):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
            raise ValueError(f"{path}: shape {number} has no label")
        place = f"{path.name}, shape {number}"
        rows.append({**image, "class_name": shape["label"], "place": place, **_corners(shape)})
    flags = document.get("flags")
    for name in [name for name, is_set in flags.items() if is_set is True] if isinstance(flags, dict) else []:
        rows.append({**image, "class_name": name, "place": f"{path.name}, flag {name}"})
    return rows or [{**image, "class_name": NO_FINDING, "place": path.name}], []


def _corners(shape: Mapping) -> dict:
    kind = shape.get("shape_type", "polygon")
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return {"given": f"points {shape.get('points')}"[:80]}
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return {"corners": [x - radius, y - radius, x + radius, y + radius]}
    if kind in ("rectangle", "polygon") and len(points) >= 2:
        return {"corners": box_of_points(points)}
    return {"given": f"a {kind} of {counted(len(points), 'point')} is not a box"}
