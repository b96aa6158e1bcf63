"""Label Studio's JSON export (https://labelstud.io/guide/export): a list of tasks.

`annotations[].result[].value` has x, y, width, height (and rotation about the upper left corner) in percent of
original_width and original_height, or the points of a polygon; `completed_by` is the reader. Label Studio refuses
annotators that are not among its users, so in our tasks the readers stand in `data.readers`: annotation 1 is the first
one's, and Label Studio keeps that number as `import_id`. An annotation without a result is a reading without findings;
a task without an annotation, or only a cancelled one, is unknown. A choice is a class without a place. `predictions`
are a model's and are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from d2_cxr import artifacts
from d2_cxr.image_name import SUFFIXES
from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.formats.documents import Size, SizeOf, box_of_points, entries
from d2_cxr.labels.label_table import numbers

NAME = "label_studio"
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels", "choices", "brushlabels", "keypointlabels")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the name of an uploaded file


def is_format(document: object) -> bool:
    """Whether a JSON document is a list of Label Studio's tasks."""
    return isinstance(document, list) and bool(document) and isinstance(document[0], dict) and "data" in document[0]


def read(path: Path, size_of: SizeOf | None = None) -> tuple[list[dict], list[str]]:
    """Return the rows of a file; the export has no list of classes, so that of a classes.txt next to it is used.

    Raises:
        ValueError: a task has no image, or a result no label.
    """
    rows: list[dict] = []
    for number, task in enumerate(artifacts.read_json(path), start=1):
        place = f"{path.name}, task {task.get('id', number) if isinstance(task, dict) else number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise ValueError(f"{path}: {place} has no data; export as JSON, not as JSON-MIN")
        image = image_of(task["data"])
        if image is None:
            raise ValueError(f"{path}: {place} names no image in data")
        for annotation in entries(task, "annotations"):
            if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
                rows += _annotation_rows(annotation, _reader(annotation, task["data"]), image, place, size_of)
    return rows, []


def image_of(data: Mapping) -> str | None:
    """Return the image of a task: a file name without the store's prefix, or a path."""
    texts = [data.get("image"), *data.values()]
    found = next((t for t in texts if isinstance(t, str) and t.casefold().split("?")[0].endswith(SUFFIXES)), None)
    found = found or next((text for text in texts if isinstance(text, str)), None)
    if found is None:
        return None
    path = unquote(found.split("?d=", 1)[-1].split("?")[0])
    folder, _, name = path.rpartition("/")
    return _UPLOADED.sub("", name) if "/upload/" in f"{folder}/" else path


def _reader(annotation: Mapping, data: Mapping) -> str | None:
    number = annotation.get("import_id", annotation.get("id"))
    listed = data.get("readers")
    if isinstance(listed, list) and isinstance(number, int) and 1 <= number <= len(listed):
        return listed[number - 1] and str(listed[number - 1])
    reader = annotation.get("completed_by")
    reader = reader.get("email") or reader.get("id") if isinstance(reader, dict) else reader
    return None if reader is None else str(reader)


def _annotation_rows(
    annotation: Mapping, reader: str | None, image: str, place: str, size_of: SizeOf | None
) -> Iterator[dict]:
    known = {"image_name": image, "reader_id": reader}
    results = [entry for entry in entries(annotation, "result") if isinstance(entry, dict)]
    labeled = [(entry, name) for entry in results for name in _names(entry)]
    for entry, name in labeled:
        size = _size(entry, image, size_of)
        row = {"class_name": name, "place": f"{place}, result {entry.get('id', '')}".rstrip()}
        yield known | row | ({"width": size[0], "height": size[1]} if size else {}) | _corners(entry, size)
    if not results:
        yield known | {"class_name": NO_FINDING, "place": place}


def _names(entry: Mapping) -> list[str]:
    value = entry.get("value")
    if not isinstance(value, dict):
        return []
    found: list = next((value[key] for key in _LABELS if isinstance(value.get(key), list)), [])
    return [str(name) for name in found]


def _size(entry: Mapping, image: str, size_of: SizeOf | None) -> Size | None:
    width, height = entry.get("original_width"), entry.get("original_height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return width, height
    return size_of(image) if size_of else None


def _corners(entry: Mapping, size: Size | None) -> dict:
    value = entry["value"]
    if "choices" in value:
        return {}
    if size is None:
        return {"given": "percent of an image whose size is not known"}
    if isinstance(value.get("points"), list):
        try:
            points = [(float(x) * size[0] / 100, float(y) * size[1] / 100) for x, y in value["points"]]
        except (TypeError, ValueError, OverflowError):
            return {"given": "points that are no numbers"}
        return {"corners": box_of_points(points)}
    if "radiusX" in value:
        (x, y, rx, ry), given = numbers([value.get(key) for key in ("x", "y", "radiusX", "radiusY")])
        x, y, width, height = x - rx, y - ry, 2 * rx, 2 * ry
    else:
        (x, y, width, height), given = numbers([value.get(key) for key in ("x", "y", "width", "height")])
    sides = [size[0] / 100, size[1] / 100]
    box = [x * sides[0], y * sides[1], width * sides[0], height * sides[1]]
    return {"corners": _around(box, numbers([value.get("rotation") or 0] * 4)[0][0]), "given": given}


def _around(xywh: list[float], degrees: float) -> list[float]:
    """Return the upright box around one that is turned clockwise about its upper left corner."""
    x, y, width, height = xywh
    if not degrees:
        return [x, y, x + width, y + height]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    edges = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
    return box_of_points([(x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx, dy in edges])
