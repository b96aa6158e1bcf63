"""A summary of a study's data for its report: partition, class balance, reader agreement, density, example images.

Read from the prepared set alone; only the images of Figure 1 are decoded, and torch is not imported.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from d2_cxr import artifacts
from d2_cxr.boxes import xywh_to_xyxy
from d2_cxr.counted import counted
from d2_cxr.datasets import image_array, named_sets
from d2_cxr.drawing import class_color, draw_boxes
from d2_cxr.labels import splits, statistics
from d2_cxr.labels.coco import from_coco

_EXAMPLES = 3
_EXAMPLE_SIDE = 480  # pixels


def summarize(root: Path, settings: dict, output: Path) -> dict:
    """Return the content of `data/statistics.json`, and write the example images next to it.

    Args:
        root: folder of a prepared set.
        settings: prefix (of the names), label_fractions (that are run), subsets, seed.
        output: folder for pictures.
    """
    prefix = settings["prefix"]
    split = {part: _read(root, f"{prefix}_{part}") for part in ("train", "val", "test")}
    readers_path = root / "annotations" / "readers.json"
    readers = artifacts.read_json(readers_path) if readers_path.is_file() else None
    return {
        "partition": partition(_images(split["train"]), settings),
        "class_balance": class_balance(split["train"]),
        "agreement": reader_agreement(readers, set(_images(split["test"]))),
        "density": {"split": _split_name(prefix), "boxes": {part: density(coco) for part, coco in split.items()}},
        "images": {part: len(coco["images"]) for part, coco in split.items()},
        "example_images": _example_images(root, split["train"], readers, output) if readers else [],
    }


def partition(train: dict[str, str], settings: dict) -> list[dict]:
    """Count labeled and unlabeled training images per label fraction (Figure 2); `run` marks those of this study."""
    patients = {image: patient for image, patient in train.items() if patient}
    seed = None if settings["subsets"] == "published" else settings["seed"]
    return [
        {
            "label_fraction": row["percent"],
            "labeled": row["labeled"],
            "unlabeled": row["unlabeled"],
            "run": row["percent"] in settings["label_fractions"],
        }
        for row in statistics.partition(list(train), patients, seed)
    ]


def class_balance(train: dict) -> list[dict]:
    """Count training images with a class before and after repeat-factor resampling (Figure 3), most frequent first."""
    names = [category["name"] for category in sorted(train["categories"], key=lambda category: category["id"])]
    boxes = from_coco(train)
    found = statistics.class_balance(splits.label_matrix(list(_images(train)), boxes, names), boxes, names)
    rows = [
        {
            "class": name,
            "original": entry["train_images"],
            "expected": round(entry["expected_exposures"], 1),
            "ceiling": entry["ceil_exposures"],
        }
        for name, entry in found.items()
    ]
    return sorted(rows, key=lambda row: -row["original"])


def reader_agreement(readers: dict | None, images: set[str]) -> list[dict]:
    """Return the IoU of readers' boxes on these images per pair of readers (Table II), as
    `statistics.reader_agreement`.
    """
    if readers is None:
        return []
    boxes = from_coco(readers)
    read = [(Path(image["file_name"]).stem, reader) for image in readers["images"] for reader in image["readers"]]
    readings = pd.DataFrame(read, columns=["image_name", "reader_id"])
    return statistics.reader_agreement(
        boxes[boxes["image_name"].isin(images)].reset_index(drop=True), readings[readings["image_name"].isin(images)]
    )


def density(coco: dict) -> float:
    """Return the fused boxes per image."""
    return len(coco["annotations"]) / max(1, len(coco["images"]))


def _example_images(root: Path, train: dict, readers: dict, output: Path) -> list[dict]:
    """Draw Figure 1: images on which fusion merged most boxes, readers' boxes left, fused boxes right."""
    names = [category["name"] for category in sorted(train["categories"], key=lambda category: category["id"])]
    fused, single = _by_file(train), _by_file(readers)
    merged = {name: len(single.get(name, [])) - len(boxes) for name, boxes in fused.items() if 1 < len(boxes) < 6}
    images = []
    for name in sorted(merged, key=lambda name: (-merged[name], name))[:_EXAMPLES]:
        sides = [_drawn(root / "images" / name, boxes[name], names) for boxes in (single, fused)]
        caption = (
            f"left: {counted(len(single[name]), 'box')} of {len({box['reader'] for box in single[name]})} readers; "
        )
        file = f"fusion_{Path(name).stem}.jpg"
        artifacts.write_with(output / file, _jpeg_writer(np.hstack(sides)))
        images.append({"file": file, "caption": caption + f"right: the {len(fused[name])} fused boxes"})
    return images


def _jpeg_writer(image: np.ndarray):
    return lambda path: cv2.imwrite(path, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def _by_file(coco: dict) -> dict[str, list[dict]]:
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    boxes: dict[str, list[dict]] = {}
    for box in coco["annotations"]:
        boxes.setdefault(names[box["image_id"]], []).append(box)
    return boxes


def _drawn(path: Path, boxes: list[dict], names: list[str]) -> np.ndarray:
    image = image_array.read(path)
    scale = max(1.0, _EXAMPLE_SIDE / image.shape[0])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    classes = [box["category_id"] - 1 for box in boxes]
    # Readers' boxes overlap; the fused ones next to them have the labels, in the same colors.
    labels = None if "reader" in boxes[0] else [names[c] for c in classes]
    return draw_boxes(
        image, xywh_to_xyxy([box["bbox"] for box in boxes]) * scale, labels, [class_color(c) for c in classes]
    )


def _images(coco: dict) -> dict[str, str | None]:
    """Image -> patient (None where unknown), in the JSON's order."""
    return {Path(image["file_name"]).stem: _patient(image) for image in coco["images"]}


def _patient(image: dict) -> str | None:
    return str(image["patient"]) if image.get("patient") is not None else None


def _split_name(prefix: str) -> str:
    return "published" if prefix == named_sets.PUBLISHED_SET else "stratified"


def _read(root: Path, name: str) -> dict:
    named = named_sets.named_set(name)
    return artifacts.read_json(root / "annotations" / named.split / f"{named.part}.json")
