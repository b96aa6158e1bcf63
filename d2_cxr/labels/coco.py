"""Tables of boxes in *prepared* pixels -> COCO JSON, and back (docs/formats.md, section 1).

Boxes are XYWH here and nowhere else. Category ids are class id + 1 and annotation ids begin at 1: pycocotools treats
a ground-truth box of id 0 as missed. Corners are rounded to a thousandth of a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from d2_cxr.boxes import xywh_to_xyxy, xyxy_to_xywh
from d2_cxr.image_name import image_name
from d2_cxr.labels.label_table import CORNERS

IMAGE_KEYS = ("id", "file_name", "width", "height", "source_width", "source_height", "patient", "patient_code")
_DECIMALS = 3


def to_coco(image_rows: Sequence[Mapping], fused: pd.DataFrame, class_names: Sequence[str]) -> dict:
    """Return COCO of images and their fused boxes.

    Args:
        image_rows: id (int from 1), image_name (str; else the stem of file_name), file_name, width, height,
            source_width, source_height and, where known, patient (int) and patient_code (str); their order is the
            JSON's.
        fused: rows of `fuse_annotations` with corners in prepared pixels; rows of other images are passed over.
        class_names: index = class id.

    Raises:
        ValueError: a box has a class that is not among `class_names`, or an image id appears twice.
    """
    coco = _skeleton(image_rows, class_names)
    boxes = _sorted_boxes(fused, image_rows, class_names)
    coco["annotations"] = [
        {**annotation, "num_readers": int(row.num_readers), "reader_ious": _rounded(row.reader_ious)}
        for annotation, row in zip(_annotations(boxes), boxes.itertuples(), strict=True)
    ]
    return coco


def readers_to_coco(
    image_rows: Sequence[Mapping], boxes: pd.DataFrame, readings: pd.DataFrame, class_names: Sequence[str]
) -> dict:
    """Return COCO of every single reader's box, and on each image who read it, also without a box.

    Args:
        image_rows: as in `to_coco`.
        boxes: rows of `Annotations.boxes` with corners in prepared pixels; rows of other images are passed over.
        readings: `Annotations.readings`.
        class_names: index = class id.
    """
    coco = _skeleton(image_rows, class_names)
    readers = readings.groupby("image_name", sort=False)["reader_id"].agg(list).to_dict()
    for image, row in zip(coco["images"], image_rows, strict=True):
        image["readers"] = sorted(readers.get(image_name(row["file_name"]), []), key=reader_order)
    boxes = _sorted_boxes(boxes, image_rows, class_names)
    coco["annotations"] = [
        {**annotation, "reader": reader}
        for annotation, reader in zip(_annotations(boxes), boxes["reader_id"], strict=True)
    ]
    return coco


def from_coco(coco: Mapping) -> pd.DataFrame:
    """Return the boxes of a COCO dict: image_name (str), class_name, corners in its pixels, and `reader_id`,
    `num_readers`, `reader_ious` where the annotations carry them; inverse of `to_coco` and `readers_to_coco`.
    """
    images = {image["id"]: image_name(image["file_name"]) for image in coco["images"]}
    classes = {category["id"]: category["name"] for category in coco["categories"]}
    annotations = coco["annotations"]
    table = pd.DataFrame(
        {
            "image_name": [images[annotation["image_id"]] for annotation in annotations],
            "class_name": [classes[annotation["category_id"]] for annotation in annotations],
        },
        dtype=object,
    )
    corners = xywh_to_xyxy(
        np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    )
    table[CORNERS] = corners
    for key, column in (("reader", "reader_id"), ("num_readers", "num_readers"), ("reader_ious", "reader_ious")):
        if annotations and key in annotations[0]:
            table[column] = [annotation[key] for annotation in annotations]
    return table


def reader_order(reader: str) -> tuple[str, int, str]:
    """Sort readers in number order: R8 before R10."""
    digits = len(reader) - len(reader.rstrip("0123456789"))
    number = int(reader[-digits:]) if digits else -1
    return reader[: len(reader) - digits], number, reader


def _skeleton(image_rows: Sequence[Mapping], class_names: Sequence[str]) -> dict:
    images = [{key: row[key] for key in IMAGE_KEYS if row.get(key) is not None} for row in image_rows]
    if len({image["id"] for image in images}) != len(images):
        raise ValueError("two images of one COCO file have the same id")
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(class_names)]
    return {"images": images, "annotations": [], "categories": categories}


def _sorted_boxes(boxes: pd.DataFrame, image_rows: Sequence[Mapping], class_names: Sequence[str]) -> pd.DataFrame:
    """Return the boxes of these images in the images' order, with columns `image` (int id) and `category` (int)."""
    ids = {image_name(row["file_name"]): row["id"] for row in image_rows}
    categories = {name: index + 1 for index, name in enumerate(class_names)}
    boxes = boxes[boxes["image_name"].isin(ids.keys())]
    unknown = set(boxes["class_name"]) - categories.keys()
    if unknown:
        raise ValueError(f"boxes of classes {sorted(unknown)} which are not among {list(class_names)}")
    place = {image: position for position, image in enumerate(ids)}
    order = np.argsort(boxes["image_name"].map(place).to_numpy(), kind="stable")
    boxes = boxes.iloc[order].reset_index(drop=True)
    return boxes.assign(image=boxes["image_name"].map(ids), category=boxes["class_name"].map(categories))


def _annotations(boxes: pd.DataFrame) -> list[dict]:
    xywh = np.round(xyxy_to_xywh(np.round(boxes[CORNERS].to_numpy(np.float64), _DECIMALS)), _DECIMALS)
    return [
        {
            "id": index + 1,
            "image_id": int(image),
            "category_id": int(category),
            "bbox": box.tolist(),
            "area": round(float(box[2] * box[3]), _DECIMALS),
            "iscrowd": 0,
        }
        for index, (image, category, box) in enumerate(zip(boxes["image"], boxes["category"], xywh, strict=True))
    ]


def _rounded(reader_ious: Mapping[str, float]) -> dict[str, float]:
    return {reader: round(float(iou), 6) for reader, iou in sorted(reader_ious.items())}
