"""CVAT for images 1.1 (https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/), XML or the ZIP around it.

A box is xtl, ytl, xbr, ybr in pixels; polygons, ellipses and masks give the box around them. A tag is a class without
a place: `<tag label="No finding"/>` marks an image without findings. CVAT lists every image of a task, annotated or
not, so an image without shape and tag is unknown. An attribute `reader` names who drew.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from xml.etree.ElementTree import Element

from d2_cxr.labels.formats.documents import SizeOf, box_of_points, read_member, read_xml
from d2_cxr.labels.label_table import numbers

NAME = "cvat"
_MEMBER = "annotations.xml"
_SHAPES = ("box", "polygon", "ellipse", "mask", "polyline", "points", "skeleton", "cuboid", "tag")


def is_format(root: Element) -> bool:
    """Whether an XML document is CVAT's for images or videos."""
    return root.tag == "annotations" and (root.find("image") is not None or root.find("track") is not None)


def is_archive(path: Path) -> bool:
    """Whether a ZIP holds CVAT's annotations.xml.

    Raises:
        ValueError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _MEMBER in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise ValueError(f"{path} is a damaged ZIP archive: {error}") from None


def read(path: Path, size_of: SizeOf | None = None) -> tuple[list[dict], list[str]]:
    """Return the rows of a file and its labels in their order.

    Raises:
        ValueError: the file holds a video's tracks, or a shape has no label.
    """
    content = read_member(path, _MEMBER) if zipfile.is_zipfile(path) else path.read_bytes()
    root = read_xml(content, path)
    if root.find("track") is not None:
        raise ValueError(f"{path} holds tracks of a video; export the task as 'CVAT for images 1.1'")
    rows = []
    for image in root.findall("image"):
        known = {"image_name": image.get("name", ""), "width": image.get("width"), "height": image.get("height")}
        if not known["image_name"]:
            raise ValueError(f"{path}: image {image.get('id')} has no name")
        for number, shape in enumerate((child for child in image if child.tag in _SHAPES), start=1):
            if not shape.get("label"):
                raise ValueError(f"{path}: {shape.tag} {number} of image {known['image_name']} has no label")
            place = f"{path.name}, image {image.get('id')}, {shape.tag} {number}"
            row = {"class_name": shape.get("label"), "reader_id": _reader(shape), "place": place}
            rows.append(known | row | _corners(shape))
    names = [label.findtext("name", "").strip() for label in root.iterfind("meta//labels/label")]
    return rows, [name for name in dict.fromkeys(names) if name]


def _reader(shape: Element) -> str | None:
    found = (attribute.text for attribute in shape.findall("attribute") if attribute.get("name") == "reader")
    return next(found, None)


def _corners(shape: Element) -> dict:
    if shape.tag == "tag":
        return {}
    if shape.tag == "box":
        corners, given = numbers([shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")])
        return {"corners": _around(corners, _angle(shape)), "given": given}
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        try:
            return {"corners": box_of_points([(float(x), float(y)) for x, y in pairs])}
        except ValueError:
            return {"given": f"points {shape.get('points', '')}"[:80]}
    if shape.tag == "ellipse":
        (x, y, rx, ry), given = numbers([shape.get(key) for key in ("cx", "cy", "rx", "ry")])
        return {"corners": _around([x - rx, y - ry, x + rx, y + ry], _angle(shape)), "given": given}
    if shape.tag == "mask":
        (x, y, width, height), given = numbers([shape.get(key) for key in ("left", "top", "width", "height")])
        return {"corners": [x, y, x + width, y + height], "given": given}
    return {"given": f"a {shape.tag} is not a box"}


def _angle(shape: Element) -> float:
    return numbers([shape.get("rotation") or 0] * 4)[0][0]


def _around(corners: list[float], degrees: float) -> list[float]:
    """Return the upright box around a box that is turned about its center."""
    if not degrees:
        return corners
    x0, y0, x1, y1 = corners
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_width, half_height = (x1 - x0) / 2, (y1 - y0) / 2
    wide, high = half_width * cos + half_height * sin, half_width * sin + half_height * cos
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return [x - wide, y - high, x + wide, y + high]
