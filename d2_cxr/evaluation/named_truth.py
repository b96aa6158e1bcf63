"""Everything that evaluating a named data set needs, read from its prepared folder; Detectron2 is not imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets.named_sets import NamedSet, named_set


@dataclass(frozen=True)
class NamedTruth:
    """COCO dicts for one name: the images themselves, and what stands beside them where the set has it."""

    truth: Mapping
    negative: Mapping | None = None  # images without findings of the same split
    train: Mapping | None = None  # training images of the same split, for the constant box
    readers: Mapping | None = None  # every reader's boxes
    fusion: str = "mean"
    iou_threshold: float = 0.2


def load_named_truth(name: str) -> NamedTruth:
    """Read the truth of a registered name and what belongs to it.

    Raises:
        FileNotFoundError, ValueError: as when the name is loaded.
    """
    named = named_set(name)
    negatives, train = named.negatives(), _train_of(named)
    return NamedTruth(
        truth=named.coco(),
        negative=negatives.coco() if negatives else None,
        train=train.coco() if train else None,
        **readers_of(named.folder),
    )


def _train_of(named: NamedSet) -> NamedSet | None:
    """Return NAME_train for NAME_test or NAME_val where it is prepared."""
    if not named.is_whole_split_with_boxes or named.part not in ("val", "test"):
        return None
    train = named.sibling("train")
    return train if train.exists else None


def readers_of(folder: str | os.PathLike) -> dict:
    """Return `readers`, `fusion` and `iou_threshold` of a prepared set as `evaluate` takes them; {} without readers."""
    path = Path(folder) / "annotations" / "readers.json"
    if not path.is_file():
        return {}
    return {"readers": artifacts.read_json(path), **_fusion(Path(folder))}


def _fusion(folder: Path) -> dict:
    """Read how the set's boxes were fused; {} where it does not say."""
    path = folder / "dataset.json"
    fusion = artifacts.read_json(path).get("fusion") if path.is_file() else None
    if isinstance(fusion, Mapping):
        renamed = {"fusion": fusion.get("rule"), "iou_threshold": fusion.get("iou_threshold")}
        return {key: value for key, value in renamed.items() if value is not None}
    return {"fusion": fusion} if fusion else {}
