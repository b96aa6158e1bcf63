"""Folds of a prepared set's train and val images, by patient, each as a separate prepared set.

For choosing a recipe: every image of train and val is tested once, by a detector that saw no image of its patient, and
the test part is not opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.labels.splits import in_order

_PARTS = {"": ("train", "val"), "negative_": ("negative_train", "negative_val")}
_SHARED = ("images", "images.npy", "images.csv", "manifest.csv", "near_duplicates.csv")  # linked, not copied


def fold_set(source: Path, target: Path, name: str, fold: int, folds: int, seed: int = 0) -> None:
    """Write fold `fold` of `folds` as the prepared set `name`: its images are the test part, the others train.

    Args:
        source: a prepared set with a stratified split.
        target: folder of the fold; images are links into `source`.
        name: of the set.
        fold: from 0.
        folds: 2 or more.
        seed: of the folds.

    Raises:
        FileNotFoundError: the source has no such split.
    """
    parts = {kind: [_read(source, part) for part in names] for kind, names in _PARTS.items()}
    findings, negatives = ([image for coco in parts[kind] for image in coco["images"]] for kind in _PARTS)
    chosen = {unit for unit, number in deal(findings, negatives, folds, seed).items() if number == fold}
    files = {}
    for kind, cocos in parts.items():
        for part in ("train", "test"):
            files[f"stratified/{kind}{part}.json"] = _joined(cocos, chosen, inside=part == "test")
    for path, content in files.items():
        artifacts.write_json(target / "annotations" / path, content, indent=None)
    for shared in _SHARED:
        if (source / shared).exists() and not (target / shared).is_symlink():
            os.symlink((source / shared).resolve(), target / shared)
    values = artifacts.read_json(source / "dataset.json")
    rule = f"fold {fold + 1} of {folds} of train and val"
    values |= {"name": name, "split": {**values["split"], "rule": rule, "parts": None, "seed": seed}}
    values |= {"counts": {}, "notes": [], "annotations_fingerprint": artifacts.sha256_json(files)}
    artifacts.write_json(target / "dataset.json", values)


def deal(findings: Sequence[Mapping], negatives: Sequence[Mapping], folds: int, seed: int) -> dict[str, int]:
    """Return patient (or image, where the patient is unknown) -> fold, dealt out in a seeded order.

    Patients with findings are dealt first, so that the folds differ by one of them at most, then the others.
    """
    with_findings = dict.fromkeys(map(unit_of, findings))
    without = dict.fromkeys(unit for unit in map(unit_of, negatives) if unit not in with_findings)
    dealt = in_order(list(with_findings), None, seed) + in_order(list(without), None, seed)
    return {unit: number % folds for number, unit in enumerate(dealt)}


def unit_of(image: Mapping) -> str:
    """Return what stays together: a COCO image's patient, else the image alone."""
    return f"patient {image['patient']}" if image.get("patient") is not None else f"image {image['file_name']}"


def _read(source: Path, part: str) -> dict:
    path = source / "annotations" / "stratified" / f"{part}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; folds are made of a prepared set with a split")
    return artifacts.read_json(path)


def _joined(cocos: Sequence[Mapping], chosen: set[str], inside: bool) -> dict:
    """Return one COCO of the images whose patient is among the chosen (or is not), with their boxes."""
    images = [image for coco in cocos for image in coco["images"] if (unit_of(image) in chosen) == inside]
    ids = {image["id"] for image in images}
    boxes = [box for coco in cocos for box in coco.get("annotations", []) if box["image_id"] in ids]
    boxes = [{**box, "id": number} for number, box in enumerate(boxes, start=1)]
    return {**cocos[0], "images": images, "annotations": boxes}
