"""The ground truth of a set: its own boxes, negative images, training images and single readers' boxes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets.coco_file import check_readers_file
from d2_cxr.datasets.named_sets import UnknownDatasetError, named_set


@dataclass(frozen=True)
class GroundTruth:
    """COCO dicts for one data-set name: its images and boxes, and its siblings where the set has them."""

    truth: Mapping
    negative: Mapping | None = None  # images without findings of the same split
    train: Mapping | None = None  # training images of the same split, for the prior-box baseline
    readers: Mapping | None = None  # every reader's boxes
    fusion: str = "mean"
    iou_threshold: float = 0.2

    @property
    def images(self) -> list[Mapping]:
        """All images, those without findings last."""
        return [*self.truth["images"], *(self.negative or {"images": []})["images"]]


def load_ground_truth(name: str) -> GroundTruth:
    """Read the truth of a named set and what belongs to it.

    Raises:
        FileNotFoundError: the set is not prepared.
        ValueError: the name is unknown, or the set was prepared by another version.
    """
    named = named_set(name)
    negatives, train = named.negatives(), training_set(name)
    return GroundTruth(
        truth=named.coco(),
        negative=negatives.coco() if negatives else None,
        train=load_coco(train) if train else None,
        **readers_of(named.folder),
    )


def load_coco(name: str) -> dict:
    """Return the COCO dict of a named set, or of another set that is registered in Detectron2's catalog.

    Raises:
        FileNotFoundError, ValueError, KeyError: the set is not prepared, or is unknown.
    """
    try:
        return named_set(name).coco()
    except UnknownDatasetError:
        from detectron2.data import DatasetCatalog, MetadataCatalog

        truth = artifacts.read_json(MetadataCatalog.get(name).json_file)
        images = {image["image_id"] for image in DatasetCatalog.get(name)}
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in images],
        "annotations": [box for box in truth.get("annotations", []) if box["image_id"] in images],
    }


def training_set(name: str) -> str | None:
    """Return NAME_train for NAME_test or NAME_val where that is prepared or registered and has images, else None."""
    try:
        named = named_set(name)
    except UnknownDatasetError:
        return _registered_training_set(name)
    if not named.is_whole_split_with_boxes or named.part not in ("val", "test"):
        return None
    train = named.sibling("train")
    return train.name if train.exists and train.images() else None


def _registered_training_set(name: str) -> str | None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    stem, _, part = name.rpartition("_")
    train = f"{stem}_train"
    if part not in ("val", "test") or train not in DatasetCatalog.list():
        return None
    return train if Path(MetadataCatalog.get(train).get("json_file", "")).is_file() else None


def readers_of(folder: str | os.PathLike) -> dict:
    """Return `readers`, `fusion` and `iou_threshold` of a prepared set as `evaluate` takes them; {} without readers."""
    path = Path(folder) / "annotations" / "readers.json"
    if not path.is_file():
        return {}
    check_readers_file(path)
    return {"readers": artifacts.read_json(path), **_fusion(Path(folder))}


def _fusion(folder: Path) -> dict:
    """Read how the set's boxes were fused; {} where it does not say."""
    path = folder / "dataset.json"
    fusion = (artifacts.read_json(path).get("fusion") if path.is_file() else None) or {}
    if not isinstance(fusion, Mapping):
        raise ValueError(f"{path}: fusion is {str(fusion)[:40]}; prepare the set again")
    rule, iou = fusion.get("rule"), fusion.get("iou_threshold")
    if rule is not None and not isinstance(rule, str):
        raise ValueError(f"{path}: the rule of fusion is {str(rule)[:40]}; prepare the set again")
    if iou is not None and (isinstance(iou, bool) or not isinstance(iou, int | float) or not 0 <= iou <= 1):
        raise ValueError(f"{path}: the iou_threshold of fusion is {str(iou)[:40]}; prepare the set again")
    return {key: value for key, value in {"fusion": rule, "iou_threshold": iou}.items() if value is not None}
