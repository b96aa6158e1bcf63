"""Panels of an image: as prepared, each reader's boxes, the fused truth, and a model's predictions."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from d2_cxr import artifacts
from d2_cxr import boxes as box_math
from d2_cxr.counted import counted
from d2_cxr.datasets import image_array
from d2_cxr.datasets.builtin import register_below
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.drawing import class_color, contact_sheet, draw_boxes, encode_rgb
from d2_cxr.evaluation import errors
from d2_cxr.evaluation.coco_arrays import read_results
from d2_cxr.evaluation.ground_truth import GroundTruth, load_ground_truth
from d2_cxr.evaluation.matching import match
from d2_cxr.image_name import image_name, png_name
from d2_cxr.labels.coco import reader_order
from d2_cxr.progress import Bar

logger = logging.getLogger(__name__)


def write_gallery(
    dataset: str,
    output: str | os.PathLike,
    results: str | os.PathLike | None = None,
    image_names: Sequence[str] = (),
    number: int = 12,
    worst: bool = False,
    score: float | None = None,
    tile: int = 512,
    root: str | os.PathLike | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write a PNG for each chosen image of a prepared set.

    Args:
        dataset: a registered name.
        results: COCO results on it; without them there is no panel of predictions.
        image_names: default: `number` random ones (`seed`), or the `worst` ones by missed and false boxes.
        score: lowest score shown; default: the one with 1 false positive per image.
        tile: side of a panel in pixels.
        root: folder of prepared sets; default: the registered ones.

    Raises:
        FileNotFoundError, ValueError: unknown set or image, missing image, or `worst` without results.
    """
    if root is not None:
        register_below(dataset, root)
    named = load_ground_truth(dataset)
    rows = read_results(Path(results)) if results is not None else None
    matches = match(named.truth, rows) if rows is not None else None
    if matches is not None and score is None:
        score = errors.working_score(matches)
    if worst:
        if matches is None:
            raise ValueError("--worst needs --results: the worst images are those with the most errors")
        image_names = [row["image"] for row in errors.worst_images(matches, number, score)]
    images = choose_images(named.truth, image_names, number, seed)
    folder = named_set(dataset).image_root
    written = []
    for place, image in enumerate(Bar(images, desc="images", unit="image")):
        sheet = image_sheet(image_array.read(folder / image["file_name"]), image, named, rows, score, tile)
        name = png_name(image_name(image["file_name"]))
        name = f"{place:03d}_{name}" if worst else name
        written.append(Path(output) / name)
        artifacts.write_bytes(written[-1], encode_rgb(sheet))
    return written


def choose_images(truth: Mapping, image_names: Sequence[str], number: int, seed: int) -> list[Mapping]:
    """Return the named images in the given order, or `number` random ones in the set's order."""
    by_name = {image_name(image["file_name"]): image for image in truth["images"]}
    unknown = [name for name in image_names if name not in by_name]
    if unknown:
        raise ValueError(f"image {unknown[0]} is not an image of the set, which has {len(by_name):,}")
    if image_names:
        return [by_name[name] for name in image_names]
    images = truth["images"]
    drawn = np.random.default_rng(seed).permutation(len(images))[:number]
    return [images[index] for index in sorted(drawn)]


def image_sheet(
    pixels: np.ndarray,
    image: Mapping,
    named: GroundTruth,
    results: Sequence[Mapping] | None,
    score: float | None,
    tile: int,
) -> np.ndarray:
    """Return the panels of one image with captions, uint8 RGB.

    Args:
        pixels: uint8 (H, W); all boxes are in its pixels.
        image: its entry in COCO's `images`.
    """
    categories = sorted(named.truth["categories"], key=lambda category: category["id"])
    style = {c["id"]: (c["name"], class_color(index)) for index, c in enumerate(categories)}
    scale = max(1, round(tile / max(pixels.shape)))  # labels stay legible on small images
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) if scale > 1 else pixels
    panels, captions = [pixels], [image_name(image["file_name"])]
    for reader, boxes in _by_reader(image, named.readers):
        panels.append(_panel(pixels, boxes, style, scale, lambda box: "", dashed=True))
        captions.append(f"{reader}: {_count(boxes)}")
    truth = [box for box in named.truth["annotations"] if box["image_id"] == image["id"]]
    panels.append(_panel(pixels, truth, style, scale, _readers_text))
    captions.append(f"truth: {_count(truth)}")
    if results is not None:
        lowest = np.inf if score is None else score
        found = [row for row in results if row["image_id"] == image["id"] and row["score"] >= lowest]
        panels.append(_panel(pixels, found, style, scale, lambda row: f" {row['score']:.2f}"))
        limit = "" if score is None else f" with score >= {score:.2f}"
        captions.append(f"predicted: {_count(found)}{limit}")
    return contact_sheet(panels, captions, columns=_columns(len(panels)), tile=tile)


def _columns(panels: int) -> int:
    """Return how many of these panels a row of the sheet takes: at most four, with the least left black."""
    return min(range(2, 5), key=lambda columns: (-panels % columns, abs(columns - 3.1))) if panels > 1 else 1


def _panel(
    pixels: np.ndarray,
    boxes: Sequence[Mapping],
    style: Mapping,
    scale: int,
    text: Callable[[Mapping], str],
    dashed: bool = False,
) -> np.ndarray:
    xyxy = box_math.xywh_to_xyxy([box["bbox"] for box in boxes]) * scale
    labels = [style[box["category_id"]][0] + text(box) for box in boxes]
    colors = [style[box["category_id"]][1] for box in boxes]
    return draw_boxes(pixels, xyxy, labels, colors, dashed=dashed)


def _by_reader(image: Mapping, readers: Mapping | None) -> list[tuple[str, list[Mapping]]]:
    if readers is None:
        return []
    read: Sequence[str] = next(
        (entry.get("readers", []) for entry in readers["images"] if entry["id"] == image["id"]), []
    )
    boxes = [box for box in readers["annotations"] if box["image_id"] == image["id"]]
    return [(name, [box for box in boxes if box["reader"] == name]) for name in sorted(read, key=reader_order)]


def _readers_text(box: Mapping) -> str:
    return f" ({box['num_readers']})" if "num_readers" in box else ""


def _count(boxes: Sequence) -> str:
    return counted(len(boxes), "box")
