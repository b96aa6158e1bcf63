"""Everything that evaluating a named data set needs, read from its prepared folder; Detectron2 is not imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, loading, named_sets
from d2_cxr.image_name import image_name


@dataclass(frozen=True)
class NamedTruth:
    """COCO dicts for one name: the images themselves, and what stands beside them where the set has it."""

    truth: Mapping
    negative: Mapping | None = None  # images without findings of the same split
    train: Mapping | None = None  # training images of the same split, for the constant box
    readers: Mapping | None = None  # every reader's boxes
    fusion: str = "mean"
    iou_threshold: float = 0.2


def register_below(name: str, root: str | os.PathLike) -> None:
    """Make the set of a data-set name known that lies below `root`: "my_images_test" is the folder `root`/my_images.

    Raises:
        FileNotFoundError: no prepared set there fits the name.
    """
    parts = name.split("_")
    for length in range(len(parts) - 1, 0, -1):
        set_name = "_".join(parts[:length])
        if (Path(root) / set_name / "dataset.json").is_file():
            builtin.register_prepared(set_name, Path(root) / set_name)
            return
    raise FileNotFoundError(f"no prepared set below {root} fits the name {name}: it has no folder with a dataset.json")


def load_named_truth(name: str) -> NamedTruth:
    """Read the truth of a registered name and what belongs to it.

    Raises:
        FileNotFoundError, ValueError: as when the name is loaded.
    """
    try:
        named_sets.parse_name(name)
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    truth = coco_of(name)
    negative, train = _sibling(name, "negative_{}"), _sibling(name, "train")
    folder = named_sets.set_folder(name)
    negative_truth = coco_of(negative) if negative else None
    return NamedTruth(
        truth=truth,
        negative=negative_truth if negative_truth and negative_truth["images"] else None,
        train=coco_of(train) if train else None,
        **readers_of(folder),
    )


def readers_of(folder: str | os.PathLike) -> dict:
    """Return `readers`, `fusion` and `iou_threshold` of a prepared set as `evaluate` takes them; {} without readers."""
    path = Path(folder) / "annotations" / "readers.json"
    if not path.is_file():
        return {}
    return {"readers": artifacts.read_json(path), **_fusion(Path(folder))}


def coco_of(name: str) -> dict:
    """Return the COCO dict of a data-set name, cut to the images that it stands for."""
    radiographs = set(loading.image_names(name))
    coco = artifacts.read_json(named_sets.set_folder(name) / named_sets.parse_name(name).json_path)
    images = [image for image in coco["images"] if image_name(image["file_name"]) in radiographs]
    ids = {image["id"] for image in images}
    boxes = [box for box in coco.get("annotations", []) if box["image_id"] in ids]
    return {**coco, "images": images, "annotations": boxes}


def _sibling(name: str, pattern: str) -> str | None:
    """Return NAME_train or NAME_negative_test for NAME_test, and so for val; None where that is not prepared."""
    for part in ("test", "val"):
        if name.endswith(f"_{part}"):
            other = name.removesuffix(part) + pattern.format(part)
            path = _path(other)
            return other if path is not None and path.is_file() else None
    return None


def _path(name: str) -> Path | None:
    try:
        return named_sets.set_folder(name) / named_sets.parse_name(name).json_path
    except KeyError:  # official_test has no siblings
        return None


def _fusion(folder: Path) -> dict:
    """Read how the set's boxes were fused; {} where it does not say."""
    path = folder / "dataset.json"
    fusion = artifacts.read_json(path).get("fusion") if path.is_file() else None
    if isinstance(fusion, Mapping):
        renamed = {"fusion": fusion.get("rule"), "iou_threshold": fusion.get("iou_threshold")}
        return {key: value for key, value in renamed.items() if value is not None}
    return {"fusion": fusion} if fusion else {}
