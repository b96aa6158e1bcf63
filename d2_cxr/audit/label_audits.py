"""Four questions to the labels alone: is the split random, who read what, do readers agree, do they predict findings?

Each audit is a function of tables that returns plain JSON values. Their results on VinDr-CXR are in docs/paper.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from d2_cxr.labels import splits
from d2_cxr.labels.annotations import Annotations
from d2_cxr.labels.coco import reader_order
from d2_cxr.labels.statistics import box_pairs, split_images

F1_IOU_THRESHOLD = 0.4  # VinBigData's criterion for a hit
_PERMUTATIONS = 2000
_DRAWS = 500
_SHUFFLES = 20
_FOLDS = 5


def label_audits(annotations: Annotations, fused: pd.DataFrame, split: str = "published", seed: int = 0) -> dict:
    """Return the audits of a table; those of readers only where the labels name readers.

    Args:
        annotations: as read.
        fused: its boxes, fused.
        split: whose parts `density_by_position` and `reader_shift` look at.
        seed: of the split, of permutations and of folds.
    """
    parts = split_images(annotations, split, seed)
    audits = {"density_by_position": density_by_position(annotations.boxes, fused, parts, seed)}
    if not annotations.consensus:
        audits["reader_shift"] = reader_shift(annotations.readings, parts)
        audits["readers_predict_findings"] = readers_predict_findings(annotations, seed)
        audits["box_f1"] = box_f1(annotations.boxes, annotations.readings)
    return audits


def density_by_position(boxes: pd.DataFrame, fused: pd.DataFrame, parts: splits.Split, seed: int = 0) -> dict:
    """Test whether images early in the order of a split have more boxes than late ones.

    Args:
        boxes: single readers' boxes in file order.
        fused: the same, fused.
        parts: train, val and test; their concatenation is the order.
        seed: of the permutations.

    Returns:
        deciles: fused boxes per image in each tenth of the order; train_minus_test; p: fraction of random orders whose
        difference is at least as large either way ((hits + 1) / (permutations + 1)); last_tenth_of_train with
        random_draws, the least and greatest mean of as many images drawn at random from train; raw boxes per image in
        train and test of this split, and the mean of the same under `published` after the rows were shuffled again.
    """
    images = [image for part in parts.values() for image in part]
    per_image = fused["image_name"].value_counts().reindex(images, fill_value=0).to_numpy(np.float64)
    num_train, num_test = len(parts["train"]), len(parts["test"])
    if not num_train or not num_test:
        return {"images": len(images)}
    difference = per_image[:num_train].mean() - per_image[-num_test:].mean()
    by_chance = _differences_by_chance(per_image, num_train, num_test, np.random.default_rng(seed))
    hits = int((np.abs(by_chance) >= abs(difference) - 1e-12).sum())
    num_last = splits.labeled_count(num_train, 10)
    last = per_image[num_train - num_last : num_train]
    rng = np.random.default_rng(seed)
    draws = [
        rng.choice(per_image[:num_train], num_last, replace=False).mean() for _ in range(_DRAWS if num_last else 0)
    ]
    return {
        "images": len(images),
        "deciles": [float(tenth.mean()) for tenth in np.array_split(per_image, min(10, len(images)))],
        "train_minus_test": float(difference),
        "permutations": _PERMUTATIONS,
        "p": (hits + 1) / (_PERMUTATIONS + 1),
        "last_tenth_of_train": {"images": num_last, "mean": float(last.mean()) if num_last else None},
        "random_draws": {"draws": len(draws), "min": float(min(draws)), "max": float(max(draws))} if draws else None,
        "raw_boxes": _raw_density(boxes, parts),
        "raw_boxes_rows_shuffled": _raw_density_of_shuffled_rows(boxes, seed),
    }


def reader_shift(readings: pd.DataFrame, parts: splits.Split) -> dict:
    """Count who read the images of each part, and the fraction that the most frequent set of readers read.

    Returns:
        images: part -> number of images; readers: reader -> part -> images read; sets: the ten commonest sets of
        readers of one image with the images of each part; commonest: the first of them, its fraction of each part, and
        the images that none of its readers read: the test images of a study that trains on their images.
    """
    of_image = {image: part for part, images in parts.items() for image in images}
    rows = readings.assign(part=readings["image_name"].map(of_image)).dropna(subset="part")
    names = list(parts)
    counts = rows.groupby(["reader_id", "part"]).size().unstack(fill_value=0).reindex(columns=names, fill_value=0)
    by_set: dict[tuple[str, ...], Counter] = {}
    others: Counter = Counter()
    sets = {image: tuple(sorted(readers, key=reader_order)) for image, readers in _readers_of_images(rows).items()}
    for image, readers in sets.items():
        by_set.setdefault(readers, Counter())[of_image[image]] += 1
    commonest = sorted(by_set, key=lambda readers: (-by_set[readers].total(), readers))
    for image, readers in sets.items():
        if commonest and not set(readers) & set(commonest[0]):
            others[of_image[image]] += 1
    totals = {part: len(images) for part, images in parts.items()}
    return {
        "images": totals,
        "readers": {reader: counts.loc[reader].to_dict() for reader in sorted(counts.index, key=reader_order)},
        "sets": [{"readers": list(key), **{part: by_set[key][part] for part in names}} for key in commonest[:10]],
        "commonest": {
            "readers": list(commonest[0]) if commonest else [],
            "share": {part: by_set[commonest[0]][part] / totals[part] if totals[part] else None for part in names}
            if commonest
            else {},
            "images_without_any_of_them": {part: others[part] for part in names},
        },
    }


def readers_predict_findings(annotations: Annotations, seed: int = 0) -> dict:
    """Measure how well the names of an image's readers alone predict what was found on it.

    The score of an image is the fraction of positive images among those of the *other* folds that the same readers
    read; readers seen in no other fold score the overall fraction. Images of one patient share a fold.

    Returns:
        any_finding and classes: AUROC in [0, 1] and numbers of images; None where one side is empty; commonest: the
        images that the commonest set read and how many of these have a finding.
    """
    images = [*annotations.finding_ids, *annotations.negative_ids]
    sets = _readers_of_images(annotations.readings)
    reader_set = pd.factorize(pd.Series(["+".join(sorted(sets[image], key=reader_order)) for image in images]))
    group = [(annotations.patients or {}).get(image, image) for image in images]
    labels = splits.label_matrix(images, annotations.boxes, annotations.class_names)
    labels = np.hstack([labels.any(axis=1, keepdims=True), labels])
    scores = _cross_fitted_share(reader_set[0], labels, group, seed)
    columns = ["any_finding", *annotations.class_names]
    found = {name: _auroc(scores[:, index], labels[:, index]) for index, name in enumerate(columns)}
    commonest = np.bincount(reader_set[0]).argmax() if images else 0
    inside = reader_set[0] == commonest
    return {
        "any_finding": found.pop("any_finding"),
        "classes": found,
        "folds": _FOLDS,
        "reader_sets": len(reader_set[1]),
        "commonest": {
            "readers": reader_set[1][commonest].split("+") if images else [],
            "images": int(inside.sum()),
            "with_finding": int(labels[inside, 0].sum()),
            "with_finding_elsewhere": int(labels[~inside, 0].sum()),
        },
    }


def box_f1(boxes: pd.DataFrame, readings: pd.DataFrame, iou_threshold: float = F1_IOU_THRESHOLD) -> dict:
    """Return the agreement of two readers box by box: F1 = 2 matches / (boxes of one + boxes of the other).

    On every image that both read, boxes of one class are matched one to one, best IoU first, where IoU > threshold.
    Boxes on images where the other reader found nothing count as unmatched.

    Returns:
        iou_threshold, classes: name -> {f1, matches, boxes} pooled over all pairs of readers, all: the same over all
        classes. A box counts once for every other reader of its image; f1 is None where there is no box.
    """
    num_readers = readings.drop_duplicates().groupby("image_name").size()
    others = boxes["image_name"].map(num_readers).fillna(1).to_numpy() - 1
    counted = pd.Series(others).groupby(boxes["class_name"].to_numpy()).sum()
    matches = match_boxes(box_pairs(boxes), iou_threshold)["class_name"].value_counts()
    classes = sorted(counted.index)
    entries = {name: _f1(int(matches.get(name, 0)), int(counted[name])) for name in classes}
    return {"iou_threshold": iou_threshold, "classes": entries, "all": _f1(int(matches.sum()), int(counted.sum()))}


def match_boxes(pairs: pd.DataFrame, iou_threshold: float) -> pd.DataFrame:
    """Return the `box_pairs` that are matches: one to one for each two readers, best IoU first, IoU > threshold."""
    pairs = pairs[pairs["iou"] > iou_threshold].sort_values("iou", ascending=False, kind="stable")
    taken: set[tuple[int, str]] = set()
    kept = []
    for first, second, reader, other in zip(
        pairs["first"], pairs["second"], pairs["reader"], pairs["other"], strict=True
    ):
        free = (first, other) not in taken and (second, reader) not in taken
        kept.append(free)
        if free:
            taken |= {(first, other), (second, reader)}
    return pairs[np.array(kept, dtype=bool)]


def _differences_by_chance(
    per_image: np.ndarray, num_train: int, num_test: int, rng: np.random.Generator
) -> np.ndarray:
    """Return train mean minus test mean (P,) over random orders of the images."""
    shuffled = np.stack([rng.permutation(per_image) for _ in range(_PERMUTATIONS)])
    return shuffled[:, :num_train].mean(axis=1) - shuffled[:, -num_test:].mean(axis=1)


def _f1(matches: int, boxes: int) -> dict:
    return {"f1": 2 * matches / boxes if boxes else None, "matches": matches, "boxes": boxes}


def _raw_density(boxes: pd.DataFrame, parts: splits.Split) -> dict[str, float]:
    per_image = boxes["image_name"].value_counts()
    return {part: float(per_image.reindex(parts[part], fill_value=0).mean()) for part in ("train", "test")}


def _raw_density_of_shuffled_rows(boxes: pd.DataFrame, seed: int) -> dict[str, float]:
    rng, images = np.random.default_rng(seed), boxes["image_name"].to_numpy()
    orders = [images[rng.permutation(len(images))].tolist() for _ in range(_SHUFFLES)]
    densities = [_raw_density(boxes, splits.published_split(order)) for order in orders]
    return {part: float(np.mean([density[part] for density in densities])) for part in ("train", "test")}


def _readers_of_images(readings: pd.DataFrame) -> dict[str, set[str]]:
    readers: dict[str, set[str]] = {}
    for image, reader in zip(readings["image_name"], readings["reader_id"], strict=True):
        readers.setdefault(image, set()).add(reader)
    return readers


def _cross_fitted_share(codes: np.ndarray, labels: np.ndarray, groups: Sequence[str], seed: int) -> np.ndarray:
    """Return (N, C): the fraction of positive images with the same code in the other folds, by class.

    Args:
        codes: (N,) int, which set of readers read an image.
        labels: (N, C) bool.
        groups: N names; images of one group share a fold.
        seed: of the folds.
    """
    from sklearn.model_selection import GroupKFold  # scikit-learn takes a second to import

    scores = np.tile(labels.mean(axis=0), (len(labels), 1)) if len(labels) else np.zeros(labels.shape)
    num_folds = min(_FOLDS, len(set(groups)))
    if num_folds < 2:
        return scores
    for rest, fold in GroupKFold(num_folds, shuffle=True, random_state=seed).split(labels, groups=groups):
        share = pd.DataFrame(labels[rest]).groupby(codes[rest]).mean().reindex(codes[fold]).to_numpy(np.float64)
        scores[fold] = np.where(np.isnan(share), scores[fold], share)
    return scores


def _auroc(scores: np.ndarray, positive: np.ndarray) -> dict:
    """Return the area under the ROC curve, None where one side is empty, and the number of images of each side."""
    from sklearn.metrics import roc_auc_score

    counts = {"positive": int(positive.sum()), "negative": int((~positive).sum())}
    area = float(roc_auc_score(positive, scores)) if all(counts.values()) else None
    return {"auroc": area, **counts}
