"""COCO JSON, instances (https://cocodataset.org/#format-data): bbox is x, y, width, height in pixels from 0.

Listing an image says that it was annotated: one without an annotation is an image without findings. The files of a
prepared set (docs/formats.md, section 1) name the reader of each annotation and the readers of each image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.formats.documents import SizeOf, box_of_points

NAME = "coco"


def is_format(document: object) -> bool:
    """Whether a JSON document is COCO: images, annotations and categories."""
    return isinstance(document, Mapping) and {"images", "annotations", "categories"} <= document.keys()


def read(path: Path, size_of: SizeOf | None = None) -> tuple[list[dict], list[str]]:
    """Return the rows of a file and its class names in the order of their ids.

    Raises:
        ValueError: an annotation names an image or a category that the file does not list, or the file has none.
    """
    document = artifacts.read_json(path)
    images = {image["id"]: image for image in _entries(document, "images", ("id", "file_name"), path)}
    categories = {entry["id"]: str(entry["name"]) for entry in _entries(document, "categories", ("id", "name"), path)}
    annotations = list(_entries(document, "annotations", ("image_id", "category_id"), path))
    if not annotations:
        raise ValueError(f"{path} lists {counted(len(images), 'image')} and not one annotation")
    rows: dict[int | str, list[dict]] = {key: [] for key in images}
    drawn = set()
    for number, annotation in enumerate(annotations, start=1):
        place = f"{path.name}, annotation {annotation.get('id', number)}"
        image, category = annotation["image_id"], annotation["category_id"]
        if image not in images or category not in categories:
            raise ValueError(
                f"{path}, {place}: image {str(image)[:40]} or category {str(category)[:40]} is not in the file's lists"
            )
        reader = _text(annotation.get("reader"))
        drawn |= {(image, reader), (image, None)}
        row = _image(images[image]) | {"class_name": categories[category], "reader_id": reader, "place": place}
        rows[image].append(row | _corners(annotation))
    for key, image in images.items():
        readers = image.get("readers")
        for reader in map(_text, readers if isinstance(readers, list) and readers else [None]):
            if (key, reader) not in drawn:
                place = f"{path.name}, image {key}"
                rows[key].append(_image(image) | {"class_name": NO_FINDING, "reader_id": reader, "place": place})
    in_order = [row for of_image in rows.values() for row in of_image]
    return in_order, [categories[key] for key in sorted(categories, key=lambda key: (isinstance(key, str), key))]


def _entries(document: Mapping, name: str, keys: tuple[str, ...], path: Path) -> Iterator[dict[str, Any]]:
    entries = document[name]
    if not isinstance(entries, list):
        raise ValueError(f"{path}: {name} is not a list")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str | int) for key in keys):
            raise ValueError(f"{path}: entry {number} of {name} lacks {' or '.join(keys)}")
        yield entry


def _image(image: Mapping) -> dict:
    return {"image_name": str(image["file_name"]), "width": image.get("width"), "height": image.get("height")}


def _corners(annotation: Mapping) -> dict:
    bbox = annotation.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4:
        try:
            x, y, width, height = (float(number) for number in bbox)
        except (TypeError, ValueError, OverflowError):
            return {"given": str(bbox)[:80]}
        return {"corners": [x, y, x + width, y + height]}
    polygons = annotation.get("segmentation")
    if bbox in (None, []) and isinstance(polygons, list) and polygons:
        try:
            points = [(float(p[i]), float(p[i + 1])) for p in polygons for i in range(0, len(p), 2)]
        except (TypeError, ValueError, OverflowError, IndexError):
            return {"given": "segmentation that is no polygon"}
        return {"corners": box_of_points(points)}
    return {"given": f"bbox {bbox}"[:80]}


def _text(reader: object) -> str | None:
    return None if reader is None else str(reader)
