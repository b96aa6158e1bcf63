"""Reading a COCO JSON that may have been written by anybody: its form is checked before a value is used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from d2_cxr import artifacts


def check_coco_file(path: Path) -> None:
    """Check the form of a COCO JSON, once per process and version of the file.

    Raises:
        ValueError: a list is missing, an entry lacks a key or has a value of another kind, a number is not finite, or
            an id is unknown or used twice; names the file and the entry.
    """
    _check(path, path.stat().st_mtime_ns)


def check_readers_file(path: Path) -> None:
    """Check the form of a readers.json: COCO whose images list their readers, and whose annotations name one.

    Raises:
        ValueError: names the file and the entry.
    """
    _check_content(path, _read_image_problem, _readers_box_problem)


@functools.lru_cache(maxsize=256)
def _check(path: Path, written: int) -> None:
    _check_content(path, _image_problem, _annotation_problem)


def _check_content(path: Path, image_problem: Callable[[dict], str], annotation_problem: Callable[[dict], str]) -> None:
    content = artifacts.read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a COCO file: it holds a {type(content).__name__}, not an object")
    images = _ids(path, content, "images", image_problem)
    categories = _ids(path, content, "categories", _category_problem)
    annotations = _ids(path, content, "annotations", annotation_problem)
    for number, entry in annotations.items():
        if entry["image_id"] not in images:
            raise ValueError(f"{path}: annotation {number} has image_id {entry['image_id']}, which is not an image")
        if entry["category_id"] not in categories:
            raise ValueError(
                f"{path}: annotation {number} has category_id {entry['category_id']}, which is not a category"
            )


def _entries(path: Path, content: dict, key: str, problem: Callable[[dict], str]) -> list[dict]:
    """Return a list of entries without a problem."""
    entries = content.get(key, [] if key == "annotations" else None)
    if not isinstance(entries, list):
        raise ValueError(f"{path} is not a COCO file: it has no list {key!r}")
    for index, entry in enumerate(entries):
        wrong = "is not an object" if not isinstance(entry, dict) else problem(entry)
        if wrong:
            raise ValueError(f"{path}: entry {index + 1} of {key!r} {wrong}")
    return entries


def _ids(path: Path, content: dict, key: str, problem: Callable[[dict], str]) -> dict[int, dict]:
    """Return id -> entry of a list."""
    found: dict[int, dict] = {}
    for index, entry in enumerate(_entries(path, content, key, problem)):
        wrong = ""
        if isinstance(entry.get("id"), bool) or not isinstance(entry.get("id"), int):
            wrong = f"has id {repr(entry.get('id'))[:60]}, expected a whole number"
        if not wrong and entry["id"] in found:
            wrong = f"has the id {entry['id']} of an earlier one"
        if wrong:
            raise ValueError(f"{path}: entry {index + 1} of {key!r} {wrong}")
        found[entry["id"]] = entry
    return found


def _image_problem(image: dict) -> str:
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return f"has file_name {repr(image.get('file_name'))[:60]}, expected text"
    sides = [image[key] for key in ("width", "height") if key in image]
    return "" if all(_is_number(side) and side > 0 for side in sides) else f"has the size {sides}"


def _read_image_problem(image: dict) -> str:
    readers = image.get("readers", [])
    if not isinstance(readers, list) or not all(isinstance(reader, str) for reader in readers):
        return f"has readers {str(readers)[:60]!r}, expected a list of names"
    return _image_problem(image)


def _readers_box_problem(annotation: dict) -> str:
    if not isinstance(annotation.get("reader"), str):
        return f"has reader {repr(annotation.get('reader'))[:60]}, expected a name"
    return _annotation_problem(annotation)


def _category_problem(category: dict) -> str:
    return "" if isinstance(category.get("name"), str) else f"has name {repr(category.get('name'))[:60]}, expected text"


def _annotation_problem(annotation: dict) -> str:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"has bbox {str(box)[:100]}, expected four finite numbers (x, y, width, height)"
    if box[2] < 0 or box[3] < 0:
        return f"has bbox {box!r}, whose width or height is negative"
    missing = [key for key in ("image_id", "category_id") if not isinstance(annotation.get(key), int)]
    return f"has {missing[0]} {annotation.get(missing[0])!r}, expected a whole number" if missing else ""


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300  # not NaN; math.isfinite fails on a whole number of 400 digits
