"""YOLO text files (https://docs.ultralytics.com/datasets/detect/): a file an image, a line a box.

A line is `class x_center y_center width height`, fractions of the image's sides; class is an index into `names` of
data.yaml (or the lines of classes.txt). A line with a polygon, `class x y x y x y …`, gives the box around it; a sixth
number, the score of a prediction, is ignored. An empty file is an image without findings; an image without a file
is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.formats.documents import Size, SizeOf, box_of_points

NAME = "yolo"
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt")
_NO_LABELS = {*_NAME_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "requirements.txt"}
_TOLERANCE = 1e-3  # of a fraction: writers round


def label_files(folder: Path) -> list[Path]:
    """Return the text files below a folder that hold labels."""
    found = sorted(folder.rglob("*.txt"))
    return [path for path in found if path.name not in _NO_LABELS and not path.name.casefold().startswith("readme")]


def class_list(folder: Path) -> list[str] | None:
    """Return the class names of a folder in the order of their indices, None where no file gives them.

    Raises:
        ValueError: data.yaml cannot be read or has no names.
    """
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a month 13, no UTF-8
            raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            if set(names) != set(range(len(names))):
                raise ValueError(f"{path}: the keys of names are not 0 to {len(names) - 1}")
            names = [names[index] for index in range(len(names))]
        if isinstance(names, list) and names:
            return [str(name) for name in names]
    for name in _NAME_FILES:
        if (folder / name).is_file():
            return [line.strip() for line in _lines(folder / name) if line.strip()]
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None


def parts_of(folder: Path, sources: Iterable[str]) -> dict[str, str]:
    """Return label folder -> part for those that the keys train, val and test of data.yaml name by their images.

    A folder under two keys is in no part: many a data.yaml repeats train as val.

    Args:
        folder: of data.yaml.
        sources: folders with labels below it, as `read_folder` names them: "train" for labels/train or train/labels.
    """
    found: dict[str, set[str]] = {source: set() for source in sources}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for part in ("train", "val", "test"):
            values = content.get(part) if isinstance(content, dict) else None
            for value in values if isinstance(values, list) else [values]:
                words = [word for word in str(value or "").split("/") if word not in ("", ".", "..", "images")]
                for source in found:
                    tail = source.split("/")[-len(words) :] if words else None
                    if tail == words[-len(tail or ()) :]:
                        found[source].add(part)
    return {source: parts.pop() for source, parts in found.items() if len(parts) == 1}


def read_folder(folder: Path, size_of: SizeOf | None = None) -> tuple[list[dict], list[str]]:
    """Return the rows of every label file below a folder, with `source`, and its class names.

    Raises:
        ValueError: the names or sizes are missing, or a line has an index that no name has.
    """
    names = class_list(folder)
    if names is None:
        raise ValueError(
            f"{folder} has neither data.yaml with names nor classes.txt, so "
            "the class numbers have no names; add one of them"
        )
    if size_of is None:
        raise ValueError(f"{folder}: boxes are fractions of the side: the images are needed for their sizes (--images)")
    rows = []
    for path in label_files(folder):
        parts = [part for part in path.parent.relative_to(folder).parts if part != "labels"]
        for row in _file_rows(path, folder, names, size_of):
            rows.append(row | {"source": "/".join(parts)})
    return rows, names


def _file_rows(path: Path, folder: Path, names: list[str], size_of: SizeOf) -> list[dict]:
    relative, image = path.relative_to(folder), path.name[: -len(path.suffix)]
    size = size_of(image)
    known = {"width": size[0], "height": size[1]} if size else {"width": None, "height": None}
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            place = f"{relative}, line {number}"
            row = {"image_name": image, "class_name": _class_name(line, names, folder, place), "place": place}
            rows.append(row | known | _corners(line.split()[1:], size, line))
    return rows or [{"image_name": image, "class_name": NO_FINDING, "place": str(relative), **known}]


def _class_name(line: str, names: list[str], folder: Path, place: str) -> str:
    index = line.split()[0]
    if not index.isdecimal() or len(index) > 9 or int(index) >= len(names):
        raise ValueError(f"{folder}: {place}: {index[:40]!r} is not a class number from 0 to {len(names) - 1}")
    return names[int(index)]


def _corners(words: list[str], size: Size | None, line: str) -> dict:
    try:
        shares = [float(word) for word in words]
    except ValueError:
        return {"given": line[:80]}
    if size is None:
        return {"given": f"{line[:60]} (no image of this name, so no size)"}
    if not all(-_TOLERANCE <= share <= 1 + _TOLERANCE for share in shares):
        return {"given": f"{line[:60]} (not fractions of the side)"}
    if len(shares) in (4, 5):
        x, y, width, height = shares[:4]
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    elif len(shares) >= 6 and len(shares) % 2 == 0:
        corners = box_of_points(list(zip(shares[::2], shares[1::2], strict=True)))
    else:
        return {"given": line[:80]}
    return {"corners": [share * side for share, side in zip(corners, (*size, *size), strict=True)]}
