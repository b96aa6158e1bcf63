"""Boxes of a prepared set, of a prediction or of labels -> what the writers of formats take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from d2_cxr import artifacts
from d2_cxr.datasets.image_sizes import sizes_in
from d2_cxr.datasets.manifest import list_sources
from d2_cxr.dicom.preprocess import Preprocess, box_map
from d2_cxr.image_name import image_name, png_name
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.formats.write import Export
from d2_cxr.labels.label_table import CONSENSUS, CORNERS

_BOX_COLUMNS = ["image_name", "class_name", *CORNERS, "reader_id", "score"]


def export_of_set(folder: str | Path, boxes: str = "readers", pixels: str = "source") -> Export:
    """Return the boxes of a prepared set.

    Args:
        folder: of the set.
        boxes: "readers", each reader's own; or "fused", those of train, val and test, with their negative images.
        pixels: "source", those of the image files; or "prepared", those of the PNGs in the set.

    Raises:
        ValueError: the set has no such boxes.
    """
    folder = Path(folder)
    description = artifacts.read_json(folder / "dataset.json")
    parts = [f"stratified/{prefix}{part}.json" for part in ("train", "val", "test") for prefix in ("", "negative_")]
    paths = [folder / "annotations" / name for name in (["readers.json"] if boxes == "readers" else parts)]
    files = [artifacts.read_json(path) for path in paths if path.is_file()]
    if not files or not any(file["images"] for file in files):
        raise ValueError(f"{folder} has no {boxes} boxes: it was prepared without labels")
    rules = Preprocess.from_dict(description["preprocess"])
    images: dict[str, dict] = {}
    found: list[dict] = []
    readings: list[dict] = []
    for file in files:
        by_id = {image["id"]: image for image in file["images"]}
        categories = {category["id"]: category["name"] for category in file["categories"]}
        for image in file["images"]:
            name = image_name(image["file_name"])
            images[name] = image
            readings += [{"image_name": name, "reader_id": reader} for reader in image.get("readers") or [None]]
        for box in file["annotations"]:
            image = by_id[box["image_id"]]
            x, y, width, height = box["bbox"]
            corners = [x, y, x + width, y + height]
            corners = _in_source(image, corners, rules) if pixels == "source" else corners
            found.append(
                {
                    "image_name": image_name(image["file_name"]),
                    "class_name": categories[box["category_id"]],
                    **dict(zip(CORNERS, corners, strict=True)),
                    "reader_id": box.get("reader"),
                }
            )
    prefix = "source_" if pixels == "source" else ""
    rows = [
        {"image_name": name, "file_name": image["file_name"], "width": image[f"{prefix}width"]}
        | {"height": image[f"{prefix}height"]}
        for name, image in images.items()
    ]
    return _export(rows, found, readings, description["class_names"])


def export_of_findings(path: str | Path) -> Export:
    """Return the boxes of findings.json (docs/formats.md, section 4) with their scores, in source pixels."""
    entries = artifacts.read_json(path)
    card = Path(path).parent / "detector.json"
    images = [
        {"image_name": entry["image_name"], "file_name": entry["file"], "width": entry["width"]}
        | {"height": entry["height"]}
        for entry in entries
    ]
    boxes = [
        {"image_name": entry["image_name"], "class_name": finding["class"], "score": finding["score"]}
        | dict(zip(CORNERS, finding["box_xyxy"], strict=True))
        for entry in entries
        for finding in entry["findings"]
    ]
    listed = artifacts.read_json(card)["card"].get("class_names") if card.is_file() else None
    names = listed or sorted({box["class_name"] for box in boxes})
    return _export(images, boxes, [], names)


def export_of_labels(path: str | Path, images: str | Path | None = None, **options) -> Export:
    """Return the boxes of labels in any format that `read_annotations` reads, in source pixels.

    Args:
        path: of the labels.
        images: folder of the image files; needed where the labels do not give the images' sizes.
        options: of `read_annotations`.

    Raises:
        ValueError: the size of an image is not known.
    """
    size_of = sizes_in(images) if images else None
    labels = read_annotations(path, size_of=size_of, **options)
    sizes = dict(labels.sizes or {})
    files = {source.image_name: source.file for source in list_sources(images)} if images else {}
    rows = []
    known = {*labels.finding_ids, *labels.negative_ids}  # of other images it is not known what is on them
    for name in (name for name in labels.image_names if name in known):
        size = sizes.get(name) or (size_of(name) if size_of else None)
        if size is None:
            raise ValueError(f"{path}: the size of image {name} is not known; --images names the folder of the images")
        rows.append({"image_name": name, "file_name": files.get(name, png_name(name))} | _sides(size))
    readings = labels.readings[labels.readings["image_name"].isin(known)].to_dict("records")
    found = labels.boxes.to_dict("records")
    if labels.consensus:
        for row in (*readings, *found):
            row["reader_id"] = None if row["reader_id"] == CONSENSUS else row["reader_id"]
    return _export(rows, found, readings, labels.class_names)


def _export(
    images: Iterable[Mapping], boxes: Iterable[Mapping], readings: Iterable[Mapping], names: Iterable[str]
) -> Export:
    table = pd.DataFrame([{"reader_id": None, "score": None, **box} for box in boxes], columns=_BOX_COLUMNS)
    table = table.astype({"reader_id": object, "score": object})
    read = pd.DataFrame(list(readings), columns=["image_name", "reader_id"]).astype(object)
    return Export(pd.DataFrame(list(images)), table, read.where(read.notna(), None), tuple(names))


def _in_source(image: Mapping, box: list[float], rules: Preprocess) -> list[float]:
    mapped = box_map(image["source_width"], image["source_height"], rules).inverse(np.array([box]))
    return [round(float(value), 4) for value in mapped[0]]


def _sides(size: tuple[float, float]) -> dict:
    width, height = (int(side) if float(side).is_integer() else side for side in size)
    return {"width": width, "height": height}
