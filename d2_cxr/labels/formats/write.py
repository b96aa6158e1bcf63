"""Boxes -> the files of annotation tools: COCO, YOLO, Pascal VOC, CVAT for images 1.1, Label Studio tasks.

Each is the inverse of its parser. With the files comes what the tool needs to import them: data.yaml (YOLO),
label_config.xml (Label Studio), labels.json (CVAT's constructor), and classes.txt, the order of the classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import pandas as pd
import yaml

from d2_cxr import artifacts
from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.label_table import CORNERS

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")  # Okabe and Ito


@dataclass(frozen=True)
class Export:
    """What is to be written.

    Attributes:
        images: image_name, file_name, width, height (pixels that the boxes count in).
        boxes: image_name, class_name, x_min, y_min, x_max, y_max, reader_id (None: nobody's), score (None: no model's).
        readings: image_name, reader_id (or None): who looked at which image; one without a box found nothing.
        class_names: index = class number.
        model_version: of predicted boxes.
        image_url: text before the file name in Label Studio.
        queue: image name -> score of its prediction in Label Studio, which orders the tasks; {}: the best box's.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    readings: pd.DataFrame
    class_names: tuple[str, ...]
    model_version: str = ""
    image_url: str = "/data/local-files/?d=images/"
    queue: Mapping[str, float] = field(default_factory=dict)

    @property
    def readers(self) -> list[str]:
        """Names of the readers, sorted."""
        return sorted({reader for reader in self.readings["reader_id"] if reader})

    def by_image(self) -> Iterator[tuple[dict, list[dict], list[str | None]]]:
        """Yield each image, its boxes, and the readers who found nothing on it."""
        boxes: dict[str, list[dict]] = {}
        for box in self.boxes.astype(object).where(self.boxes.notna(), None).to_dict("records"):
            boxes.setdefault(box["image_name"], []).append(box)
        readers: dict[str, list[str | None]] = {}
        for image, reader in zip(self.readings["image_name"], self.readings["reader_id"], strict=True):
            readers.setdefault(image, []).append(reader or None)
        for image in self.images.to_dict("records"):
            drawn = boxes.get(image["image_name"], [])
            drew = {box["reader_id"] for box in drawn}
            yield image, drawn, [reader for reader in readers.get(image["image_name"], []) if reader not in drew]


def write(export: Export, format_name: str, folder: str | Path) -> None:
    """Write a folder of labels in one of WRITERS.

    Raises:
        ValueError: no writer of that name.
    """
    if format_name not in WRITERS:
        raise ValueError(f"format {format_name!r} is not one of {', '.join(WRITERS)}")
    folder = Path(folder)
    artifacts.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in export.class_names))
    WRITERS[format_name](export, folder)


def _write_coco(export: Export, folder: Path) -> None:
    images: list[dict] = []
    annotations: list[dict] = []
    for number, (image, boxes, negative) in enumerate(export.by_image(), start=1):
        if not boxes and not negative:
            continue  # listed images count as annotated
        entry = {key: image[key] for key in ("file_name", "width", "height")} | {"id": number}
        readers = sorted({box["reader_id"] for box in boxes if box["reader_id"]} | {r for r in negative if r})
        images.append(entry | ({"readers": readers} if readers else {}))
        for box in boxes:
            x0, y0, x1, y1 = (float(box[corner]) for corner in CORNERS)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": export.class_names.index(box["class_name"]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            optional = {"reader": box["reader_id"], "score": box["score"]}
            annotations.append(annotation | {key: value for key, value in optional.items() if value is not None})
    categories = [{"id": index, "name": name} for index, name in enumerate(export.class_names, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    artifacts.write_json(folder / "instances.json", document, indent=None)


def _write_yolo(export: Export, folder: Path) -> None:
    names = dict(enumerate(export.class_names))
    content = {"path": ".", "train": "images", "val": "images", "names": names}
    artifacts.write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    for home, image, boxes in _files_of_readers(export):
        lines = []
        for box in boxes:
            x0, y0, x1, y1 = (box[c] / image[s] for c, s in zip(CORNERS, ("width", "height") * 2, strict=True))
            numbers = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
            numbers += [] if box["score"] is None else [box["score"]]
            index = export.class_names.index(box["class_name"])
            lines.append(" ".join([str(index), *(f"{number:.12f}" for number in numbers)]))
        path = folder / home / "labels" / f"{image['image_name']}.txt"
        artifacts.write_text(path, "".join(f"{line}\n" for line in lines))


def _write_voc(export: Export, folder: Path) -> None:
    for home, image, boxes in _files_of_readers(export):
        root = Element("annotation")
        SubElement(root, "filename").text = image["file_name"]
        size = SubElement(root, "size")
        for key in ("width", "height"):
            SubElement(size, key).text = _text(image[key])
        SubElement(size, "depth").text = "1"
        for box in boxes:
            thing = SubElement(root, "object")
            SubElement(thing, "name").text = box["class_name"]
            corners = SubElement(thing, "bndbox")
            for tag, corner, first in zip(("xmin", "ymin", "xmax", "ymax"), CORNERS, (1, 1, 0, 0), strict=True):
                SubElement(corners, tag).text = _text(box[corner] + first)  # counted from 1, inverse of voc.py
        _write_xml(folder / home / f"{image['image_name']}.xml", root)


def _write_cvat(export: Export, folder: Path) -> None:
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    attributes = (["reader"] if export.readers else []) + (["score"] if export.boxes["score"].notna().any() else [])
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in export.class_names:
        SubElement(SubElement(labels, "label"), "name").text = name
    for number, (image, boxes, negative) in enumerate(export.by_image()):
        known = {"id": str(number), "name": image["file_name"]}
        element = SubElement(root, "image", known | {key: _text(image[key]) for key in ("width", "height")})
        for box in boxes:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), CORNERS, strict=True)
            written = {"label": box["class_name"], **{key: _text(box[corner]) for key, corner in corners}}
            shape = SubElement(element, "box", {**written, "occluded": "0", "z_order": "0"})
            _attributes(shape, {"reader": box["reader_id"], "score": box["score"]})
        for reader in negative:
            _attributes(SubElement(element, "tag", {"label": NO_FINDING}), {"reader": reader})
    _write_xml(folder / "annotations.xml", root)
    kinds = [{"name": name, "input_type": "text", "mutable": False, "values": [""]} for name in attributes]
    wanted = [{"name": name, "attributes": kinds} for name in (*export.class_names, NO_FINDING)]
    artifacts.write_json(folder / "labels.json", wanted)


def _write_label_studio(export: Export, folder: Path) -> None:
    tasks = []
    for number, (image, boxes, negative) in enumerate(export.by_image(), start=1):
        task: dict[str, Any] = {"id": number, "data": {"image": f"{export.image_url}{image['file_name']}"}}
        predicted = [box for box in boxes if box["score"] is not None]
        if predicted or image["image_name"] in export.queue:
            best = max((float(box["score"]) for box in predicted), default=0.0)
            results = [_result(image, box, index) for index, box in enumerate(predicted)]
            score = export.queue.get(image["image_name"], best)
            task["predictions"] = [{"model_version": export.model_version, "score": score, "result": results}]
        readers = list(dict.fromkeys([box["reader_id"] for box in boxes if box["score"] is None] + negative))
        if any(readers):  # Label Studio refuses annotators that are not its users; label_studio.py reads this back
            task["data"]["readers"] = readers
        found = [[b for b in boxes if b["score"] is None and b["reader_id"] == reader] for reader in readers]
        task["annotations"] = [
            {"id": place, "result": [_result(image, box, index) for index, box in enumerate(drawn)]}
            for place, drawn in enumerate(found, start=1)
        ]
        tasks.append(task)
    artifacts.write_json(folder / "tasks.json", tasks)
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    labels = SubElement(view, "RectangleLabels", {"name": "label", "toName": "image"})
    for index, name in enumerate(export.class_names):
        SubElement(labels, "Label", {"value": name, "background": _COLORS[index % len(_COLORS)]})
    ElementTree.indent(view)
    config = ElementTree.tostring(view, encoding="unicode")  # Label Studio refuses an XML declaration
    artifacts.write_text(folder / "label_config.xml", config)


def _result(image: dict, box: dict, number: int) -> dict:
    x0, y0, x1, y1 = (100 * box[c] / image[s] for c, s in zip(CORNERS, ("width", "height") * 2, strict=True))
    value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
    return {
        "id": f"box{number}",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": image["width"],
        "original_height": image["height"],
        "value": value | {"rectanglelabels": [box["class_name"]]},
    } | ({} if box["score"] is None else {"score": float(box["score"])})


def _files_of_readers(export: Export) -> Iterator[tuple[str, dict, list[dict]]]:
    """Yield (folder, image, boxes) of formats with a file an image, which name no reader: a folder for each reader."""
    for image, boxes, negative in export.by_image():
        for reader in dict.fromkeys([box["reader_id"] for box in boxes] + negative):
            yield reader or "", image, [box for box in boxes if box["reader_id"] == reader]


def _attributes(shape: Element, values: dict) -> None:
    for name, value in values.items():
        if value is not None:
            SubElement(shape, "attribute", {"name": name}).text = value if isinstance(value, str) else _text(value)


def _text(number: float) -> str:
    return json.dumps(int(number) if float(number).is_integer() else float(number))


def _write_xml(path: Path, root: Element) -> None:
    ElementTree.indent(root)
    artifacts.write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


WRITERS: dict[str, Callable[[Export, Path], None]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "voc": _write_voc,
    "cvat": _write_cvat,
    "label_studio": _write_label_studio,
}
