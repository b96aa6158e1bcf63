"""Statistics of labels alone: counts, class balance, label fractions, density and agreement. No image is opened.

The definitions are those of the paper as docs/paper.md makes them exact: repeat factors of Gupta et al. 2019 (LVIS,
https://arxiv.org/abs/1908.03195) over the images *with* findings, and reader agreement as IoU over all pairs of
same-class boxes of two readers on one image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from d2_cxr.boxes import aligned_iou
from d2_cxr.labels import splits, vindr_cxr
from d2_cxr.labels.annotations import Annotations
from d2_cxr.labels.coco import reader_order
from d2_cxr.labels.fusion import PAPER_IOU_THRESHOLD, fuse_annotations, fusion_report
from d2_cxr.labels.label_table import CORNERS

REPEAT_THRESHOLD = 0.4  # a class on a smaller fraction of the training images is repeated


def label_statistics(
    annotations: Annotations,
    split: str = "published",
    seed: int = 0,
    fusion: str = "mean",
    iou_threshold: float = PAPER_IOU_THRESHOLD,
) -> dict:
    """Return all statistics of the labels as plain JSON values.

    Args:
        annotations: as read; boxes of a consensus are not fused.
        split: "published" (images in order of first appearance) or "stratified" (seeded, by patient where known).
        seed: of the stratified split.
        fusion: rule of `fuse_annotations`.
        iou_threshold: of the fusion.

    Returns:
        images, boxes, fusion, problems, split, classes, epoch_length, fractions, density, agreement: see docs/paper.md.

    Raises:
        ValueError: no image has a box, or an unknown split.
    """
    if not annotations.finding_ids:
        raise ValueError("no image of this table has a usable box")
    fusion = "none" if annotations.consensus else fusion
    fused = fuse_annotations(annotations.boxes, fusion, iou_threshold)
    parts = split_images(annotations, split, seed)
    train_labels = splits.label_matrix(parts["train"], fused, annotations.class_names)
    return {
        "source": {"format": annotations.format_name, "sha256": annotations.sha256, "consensus": annotations.consensus},
        "images": _image_counts(annotations, parts),
        "boxes": {"read": len(annotations.boxes), "fused": len(fused)},
        "fusion": {"rule": fusion, "iou_threshold": iou_threshold, **fusion_report(annotations.boxes, fused)},
        "problems": dict(annotations.problems),
        "split": {
            "rule": split,
            "seed": seed if split == "stratified" else None,
            "is_the_papers": vindr_cxr.is_published(parts),
        },
        "classes": class_balance(train_labels, fused, annotations.class_names),
        "epoch_length": epoch_length(train_labels),
        "fractions": {
            str(100 - row["percent"]): {"unlabeled": row["unlabeled"], "labeled": row["labeled"]}
            for row in partition(parts["train"], annotations.patients if split == "stratified" else None)[1:]
        },
        "density": box_density(fused, parts),
        "agreement": [] if annotations.consensus else _agreement(annotations, parts["test"]),
    }


def split_images(annotations: Annotations, split: str, seed: int = 0) -> splits.Split:
    """Return train, val and test of the images with findings under "published" or "stratified"."""
    images = annotations.finding_ids
    if split == "published":
        return splits.published_split(images)
    if split == "stratified":
        labels = splits.label_matrix(images, annotations.boxes, annotations.class_names)
        return splits.stratified_split(images, labels, seed, annotations.patients)
    raise ValueError(f"split {split!r} is neither 'published' nor 'stratified'")


def repeat_factors(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return r(c) = max(1, sqrt(0.4 / f(c))) by class (C,) and r(I) = max over an image's classes by image (N,).

    Args:
        labels: (N, C) bool; f(c) is the fraction of these images with c. A class on none has r(c) = inf; an image
            without a class has r(I) = 1.
    """
    labels = np.asarray(labels, dtype=bool)
    share = labels.mean(axis=0) if len(labels) else np.zeros(labels.shape[1])
    with np.errstate(divide="ignore"):
        by_class = np.maximum(1.0, np.sqrt(REPEAT_THRESHOLD / share))
    by_image = np.where(labels, by_class, 1.0).max(axis=1, initial=1.0)
    return by_class, by_image


def class_balance(train_labels: np.ndarray, fused: pd.DataFrame, class_names: Sequence[str]) -> dict[str, dict]:
    """Return class -> images, boxes, repeat factor, and how often an epoch of the resampled training set shows it.

    `expected_exposures` sums r(I) (Detectron2 rounds it stochastically), `ceil_exposures` its ceiling, over the
    training images with the class. `repeat_factor` is None for a class without a training image.
    """
    by_class, by_image = repeat_factors(train_labels)
    images = fused.drop_duplicates(["image_name", "class_name"])["class_name"].value_counts()
    boxes = fused["class_name"].value_counts()
    return {
        name: {
            "images": int(images.get(name, 0)),
            "train_images": int(train_labels[:, index].sum()),
            "fused_boxes": int(boxes.get(name, 0)),
            "repeat_factor": float(by_class[index]) if np.isfinite(by_class[index]) else None,
            "expected_exposures": float(by_image[train_labels[:, index]].sum()),
            "ceil_exposures": int(np.ceil(by_image[train_labels[:, index]]).sum()),
        }
        for index, name in enumerate(class_names)
    }


def epoch_length(train_labels: np.ndarray) -> dict[str, float]:
    """Return the images of an epoch of the resampled training set: expected (stochastic rounding) and with ceilings."""
    by_image = repeat_factors(train_labels)[1]
    return {"stochastic": float(by_image.sum()), "ceil": int(np.ceil(by_image).sum())}


def partition(
    train_ids: Sequence[str], patients: Mapping[str, str] | None = None, seed: int | None = None
) -> list[dict[str, int]]:
    """Return percent (of images that keep their labels), labeled and unlabeled (images), from 100 percent down to 10.

    Args:
        train_ids: training images in the order that fractions are cut from.
        patients: image -> patient; a patient's images stay together.
        seed: of the nested fractions; None: the published rule.
    """
    rows = []
    for percent in range(100, 0, -10):
        if seed is None:
            labeled, unlabeled = splits.published_fraction(train_ids, percent, patients)
        else:
            labeled, unlabeled = splits.nested_fraction(train_ids, percent, seed, patients)
        rows.append({"percent": percent, "labeled": len(labeled), "unlabeled": len(unlabeled)})
    return rows


def box_density(fused: pd.DataFrame, parts: splits.Split) -> dict[str, float | None]:
    """Return fused boxes per image in train, val, test and in the last tenth of train (`last_307` of 3075 images)."""
    last = splits.published_fraction(parts["train"], 10)[0]
    images = {**parts, f"last_{len(last)}": last}
    per_image = fused["image_name"].value_counts()
    return {name: float(per_image.reindex(ids, fill_value=0).mean()) if ids else None for name, ids in images.items()}


def reader_agreement(boxes: pd.DataFrame, readings: pd.DataFrame) -> list[dict]:
    """Return the agreement of every pair of readers who read an image in common, in number order.

    Args:
        boxes: image_name, class_name, reader_id and corners of the single readers' boxes.
        readings: image_name, reader_id: who read what.

    Returns:
        dicts of readers ([A, B]), images (images on which both are left after (image, class) groups with fewer than two
        boxes, of any reader, are dropped: the paper's count), images_both_drew, images_both_read, pairs_all and
        "pairs_iou>0.2": {n, mean, std} of the IoU over pairs of same-class boxes; std is the population's; mean and
        std are None where n is 0.
    """
    pairs = box_pairs(boxes)
    two_boxes = boxes[boxes.groupby(["image_name", "class_name"])["reader_id"].transform("size") >= 2]
    left, drew, read = _common(two_boxes), _common(boxes), _common(readings)
    ious = {key: group.to_numpy() for key, group in pairs.groupby(["reader", "other"], sort=False)["iou"]}
    return [
        {
            "readers": list(pair),
            "images": left.get(pair, 0),
            "images_both_drew": drew.get(pair, 0),
            "images_both_read": read[pair],
            "pairs_all": _moments(ious.get(pair, np.zeros(0))),
            "pairs_iou>0.2": _moments(ious.get(pair, np.zeros(0)), PAPER_IOU_THRESHOLD),
        }
        for pair in sorted(read, key=lambda pair: (reader_order(pair[0]), reader_order(pair[1])))
    ]


def box_pairs(boxes: pd.DataFrame) -> pd.DataFrame:
    """Return every pair of same-class boxes that two readers drew on one image.

    Returns:
        image_name, class_name, reader, other (reader before other in number order), first, second (positions in
        `boxes`), iou (float in [0, 1]).
    """
    rank = {reader: place for place, reader in enumerate(sorted(boxes["reader_id"].unique(), key=reader_order))}
    rows = pd.DataFrame(
        {
            "group": boxes.groupby(["image_name", "class_name"], sort=False).ngroup().to_numpy(),
            "rank": boxes["reader_id"].map(rank).to_numpy(),
            "place": np.arange(len(boxes)),
        }
    )
    pairs = rows.merge(rows, on="group", suffixes=("", "_other"))
    pairs = pairs[pairs["rank"] < pairs["rank_other"]]
    first, second = pairs["place"].to_numpy(), pairs["place_other"].to_numpy()
    corners, readers = boxes[CORNERS].to_numpy(np.float64), boxes["reader_id"].to_numpy()
    return pd.DataFrame(
        {
            "image_name": boxes["image_name"].to_numpy()[first],
            "class_name": boxes["class_name"].to_numpy()[first],
            "reader": readers[first],
            "other": readers[second],
            "first": first,
            "second": second,
            "iou": aligned_iou(corners[first], corners[second]),
        }
    )


def _image_counts(annotations: Annotations, parts: splits.Split) -> dict[str, int]:
    counts = {"total": len(annotations.image_names), "with_finding": len(annotations.finding_ids)}
    counts |= {name: len(images) for name, images in parts.items()}
    counts["negative"] = len(annotations.negative_ids)
    if annotations.patients is not None:
        counts["patients"] = len({annotations.patients.get(image, image) for image in annotations.image_names})
    return counts


def _agreement(annotations: Annotations, test_ids: Sequence[str]) -> list[dict]:
    """Return `reader_agreement` on the test images and on all images, each pair's two entries side by side."""
    boxes, readings = annotations.boxes, annotations.readings
    test = set(test_ids)
    everywhere = reader_agreement(boxes, readings)
    in_test = reader_agreement(boxes[boxes["image_name"].isin(test)], readings[readings["image_name"].isin(test)])
    tested = {tuple(entry["readers"]): entry for entry in in_test}
    entries = []
    for entry in everywhere:
        if tuple(entry["readers"]) in tested:
            entries.append({**tested[tuple(entry["readers"])], "subset": "test"})
        entries.append({**entry, "subset": "all"})
    return entries


def _common(rows: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Count for each pair of readers, in number order, the images on which both have a row."""
    images: dict[str, set[str]] = {}
    for image, reader in zip(rows["image_name"], rows["reader_id"], strict=True):
        images.setdefault(image, set()).add(reader)
    counts: dict[tuple[str, str], int] = {}
    for readers in images.values():
        for pair in combinations(sorted(readers, key=reader_order), 2):
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def _moments(ious: Iterable[float], above: float | None = None) -> dict:
    ious = np.asarray(ious)
    if above is not None:
        ious = ious[ious > above]
    if not len(ious):
        return {"n": 0, "mean": None, "std": None}
    return {"n": len(ious), "mean": math.fsum(ious) / len(ious), "std": float(ious.std())}
