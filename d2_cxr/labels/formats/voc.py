"""Pascal VOC XML (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html): a file an image.

Corners are pixels counted from 1, the last one inside: (1, 1, W, H) is the whole image. As in Detectron2's
data/datasets/pascal_voc.py the minima are therefore one less here. A file without an object is an image without
findings.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.formats.documents import SizeOf, read_xml, text_of
from d2_cxr.labels.label_table import numbers

NAME = "voc"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_format(root: Element) -> bool:
    """Whether an XML document is Pascal VOC's."""
    return root.tag == "annotation"


def read(path: Path, size_of: SizeOf | None = None) -> tuple[list[dict], list[str]]:
    """Return the rows of a file; the format has no list of classes."""
    root = read_xml(path.read_bytes(), path)
    image = {
        "image_name": text_of(root, "filename") or path.stem,
        "width": text_of(root, "size/width"),
        "height": text_of(root, "size/height"),
    }
    rows = []
    for number, thing in enumerate(root.findall("object"), start=1):
        place = f"{path.name}, object {number}"
        name = text_of(thing, "name")
        if name is None:
            raise ValueError(f"{path}: object {number} has no name")
        rows.append({**image, "class_name": name, "place": place, **_corners(thing)})
    return rows or [{**image, "class_name": NO_FINDING, "place": path.name}], []


def _corners(thing: Element) -> dict:
    written = [text_of(thing, f"bndbox/{corner}") for corner in _CORNERS]
    if not any(written):
        return {}
    corners, given = numbers(written)
    return {"corners": [corners[0] - 1, corners[1] - 1, *corners[2:]], "given": given}
