"""What labels alone say against a data set: is the split random, who read what, do readers give findings away?

Four audits of a table of annotations, each a plain function of tables that returns plain JSON values. They need the
labels only; what they found on VinDr-CXR stands in docs/paper.md with the command.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from d2_cxr.labels import splits
from d2_cxr.labels.annotations import Annotations
from d2_cxr.labels.coco import reader_order
from d2_cxr.labels.statistics import box_pairs, split_films

F1_IOU_THRESHOLD = 0.4  # VinBigData's criterion for a hit
_PERMUTATIONS = 2000
_DRAWS = 500
_SHUFFLES = 20
_FOLDS = 5


def label_audits(annotations: Annotations, fused: pd.DataFrame, split: str = "published", seed: int = 0) -> dict:
    """Return the audits that this table allows: a consensus has no readers to look at.

    Args:
        annotations: as read.
        fused: its boxes, fused.
        split: whose parts `density_by_position` and `reader_shift` look at.
        seed: of the split, of permutations and of folds.
    """
    parts = split_films(annotations, split, seed)
    audits = {"density_by_position": density_by_position(annotations.boxes, fused, parts, seed)}
    if not annotations.consensus:
        audits["reader_shift"] = reader_shift(annotations.readings, parts)
        audits["readers_predict_findings"] = readers_predict_findings(annotations, seed)
        audits["box_f1"] = box_f1(annotations.boxes, annotations.readings)
    return audits


def density_by_position(boxes: pd.DataFrame, fused: pd.DataFrame, parts: splits.Split, seed: int = 0) -> dict:
    """Tell whether films early in the order of a split carry more boxes than late ones.

    Args:
        boxes: single readers' boxes in file order.
        fused: the same, fused.
        parts: train, val and test; their concatenation is the order.
        seed: of the permutations.

    Returns:
        deciles: fused boxes a film in each tenth of the order; train_minus_test; p: share of random orders whose
        difference is at least as large either way ((hits + 1) / (permutations + 1)); last_tenth_of_train with
        random_draws, the least and greatest mean of as many films drawn at random from train; raw boxes a film in
        train and test of this split, and the mean of the same under `published` after the rows were shuffled again.
    """
    films = [film for part in parts.values() for film in part]
    per_film = fused["image_id"].value_counts().reindex(films, fill_value=0).to_numpy(np.float64)
    num_train, num_test = len(parts["train"]), len(parts["test"])
    if not num_train or not num_test:
        return {"films": len(films)}
    difference = per_film[:num_train].mean() - per_film[-num_test:].mean()
    by_chance = _differences_by_chance(per_film, num_train, num_test, np.random.default_rng(seed))
    hits = int((np.abs(by_chance) >= abs(difference) - 1e-12).sum())
    num_last = splits.labeled_count(num_train, 10)
    last = per_film[num_train - num_last : num_train]
    rng = np.random.default_rng(seed)
    draws = [rng.choice(per_film[:num_train], num_last, replace=False).mean() for _ in range(_DRAWS if num_last else 0)]
    return {
        "films": len(films),
        "deciles": [float(tenth.mean()) for tenth in np.array_split(per_film, min(10, len(films)))],
        "train_minus_test": float(difference),
        "permutations": _PERMUTATIONS,
        "p": (hits + 1) / (_PERMUTATIONS + 1),
        "last_tenth_of_train": {"films": num_last, "mean": float(last.mean()) if num_last else None},
        "random_draws": {"draws": len(draws), "min": float(min(draws)), "max": float(max(draws))} if draws else None,
        "raw_boxes": _raw_density(boxes, parts),
        "raw_boxes_rows_shuffled": _raw_density_of_shuffled_rows(boxes, seed),
    }


def reader_shift(readings: pd.DataFrame, parts: splits.Split) -> dict:
    """Tell who read the films of which part, and how much the three most frequent readers hold together.

    Returns:
        films: part -> number of films; readers: reader -> part -> films read; trios: the ten commonest sets of
        readers of one film with the films of each part; trio: the commonest set, its share of each part, and films
        that none of it read (`others`): what a study "train on their films, test on the others'" would have.
    """
    of_film = {film: part for part, films in parts.items() for film in films}
    rows = readings.assign(part=readings["image_id"].map(of_film)).dropna(subset="part")
    names = list(parts)
    counts = rows.groupby(["rad_id", "part"]).size().unstack(fill_value=0).reindex(columns=names, fill_value=0)
    by_set: dict[tuple[str, ...], Counter] = {}
    others: Counter = Counter()
    sets = {film: tuple(sorted(readers, key=reader_order)) for film, readers in _readers_of_films(rows).items()}
    for film, readers in sets.items():
        by_set.setdefault(readers, Counter())[of_film[film]] += 1
    commonest = sorted(by_set, key=lambda readers: (-by_set[readers].total(), readers))
    for film, readers in sets.items():
        if commonest and not set(readers) & set(commonest[0]):
            others[of_film[film]] += 1
    totals = {part: len(films) for part, films in parts.items()}
    return {
        "films": totals,
        "readers": {reader: counts.loc[reader].to_dict() for reader in sorted(counts.index, key=reader_order)},
        "sets": [{"readers": list(key), **{part: by_set[key][part] for part in names}} for key in commonest[:10]],
        "commonest": {
            "readers": list(commonest[0]) if commonest else [],
            "share": {part: by_set[commonest[0]][part] / totals[part] if totals[part] else None for part in names}
            if commonest
            else {},
            "films_without_any_of_them": {part: others[part] for part in names},
        },
    }


def readers_predict_findings(annotations: Annotations, seed: int = 0) -> dict:
    """Tell how well the names of a film's readers alone predict what was found on it.

    The score of a film is the share of positive films among those of the *other* folds that the same set of readers
    read; a set seen in no other fold scores the overall share. Films of one patient share a fold.

    Returns:
        any_finding and classes: AUROC in [0, 1] and numbers of films; None where one side is empty; commonest: the
        films that the commonest set read and how many of these have a finding.
    """
    films = [*annotations.finding_ids, *annotations.normal_ids]
    sets = _readers_of_films(annotations.readings)
    reader_set = pd.factorize(pd.Series(["+".join(sorted(sets[film], key=reader_order)) for film in films]))
    group = [(annotations.patients or {}).get(film, film) for film in films]
    labels = splits.label_matrix(films, annotations.boxes, annotations.class_names)
    labels = np.hstack([labels.any(axis=1, keepdims=True), labels])
    fold = _folds(group, seed)
    scores = _cross_fitted_share(reader_set[0], labels, fold)
    columns = ["any_finding", *annotations.class_names]
    found = {name: _auroc(scores[:, index], labels[:, index]) for index, name in enumerate(columns)}
    commonest = np.bincount(reader_set[0]).argmax() if films else 0
    inside = reader_set[0] == commonest
    return {
        "any_finding": found.pop("any_finding"),
        "classes": found,
        "folds": _FOLDS,
        "reader_sets": len(reader_set[1]),
        "commonest": {
            "readers": reader_set[1][commonest].split("+") if films else [],
            "films": int(inside.sum()),
            "with_finding": int(labels[inside, 0].sum()),
            "with_finding_elsewhere": int(labels[~inside, 0].sum()),
        },
    }


def box_f1(boxes: pd.DataFrame, readings: pd.DataFrame, iou_threshold: float = F1_IOU_THRESHOLD) -> dict:
    """Return how far two readers agree box by box: F1 = 2 matches / (boxes of one + boxes of the other).

    On every film that both read, boxes of one class are matched one to one, best IoU first, where IoU > threshold.
    Boxes on films where the other reader found nothing count as unmatched.

    Returns:
        iou_threshold, classes: name -> {f1, matches, boxes} pooled over all pairs of readers, all: the same over all
        classes. A box counts once for every other reader of its film; f1 is None where there is no box.
    """
    num_readers = readings.drop_duplicates().groupby("image_id").size()
    others = boxes["image_id"].map(num_readers).fillna(1).to_numpy() - 1
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


def _differences_by_chance(per_film: np.ndarray, num_train: int, num_test: int, rng) -> np.ndarray:
    """Return train mean minus test mean (P,) over random orders of the films."""
    shuffled = np.stack([rng.permutation(per_film) for _ in range(_PERMUTATIONS)])
    return shuffled[:, :num_train].mean(axis=1) - shuffled[:, -num_test:].mean(axis=1)


def _f1(matches: int, boxes: int) -> dict:
    return {"f1": 2 * matches / boxes if boxes else None, "matches": matches, "boxes": boxes}


def _raw_density(boxes: pd.DataFrame, parts: splits.Split) -> dict[str, float]:
    per_film = boxes["image_id"].value_counts()
    return {part: float(per_film.reindex(parts[part], fill_value=0).mean()) for part in ("train", "test")}


def _raw_density_of_shuffled_rows(boxes: pd.DataFrame, seed: int) -> dict[str, float]:
    rng, films = np.random.default_rng(seed), boxes["image_id"].to_numpy()
    orders = [films[rng.permutation(len(films))].tolist() for _ in range(_SHUFFLES)]
    densities = [_raw_density(boxes, splits.published_split(order)) for order in orders]
    return {part: float(np.mean([density[part] for density in densities])) for part in ("train", "test")}


def _readers_of_films(readings: pd.DataFrame) -> dict[str, set[str]]:
    readers: dict[str, set[str]] = {}
    for film, reader in zip(readings["image_id"], readings["rad_id"], strict=True):
        readers.setdefault(film, set()).add(reader)
    return readers


def _folds(group: list[str], seed: int) -> np.ndarray:
    codes, names = pd.factorize(pd.Series(group))
    return np.random.default_rng(seed).integers(_FOLDS, size=len(names))[codes]


def _cross_fitted_share(code: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return (N, C): the share of positive films with the same code in the other folds."""
    num_codes = int(code.max()) + 1 if len(code) else 0
    everywhere = labels.mean(axis=0) if len(labels) else 0
    scores = np.empty(labels.shape, dtype=np.float64)
    for number in range(_FOLDS):
        rest = fold != number
        films = np.bincount(code[rest], minlength=num_codes)
        positive = np.zeros((num_codes, labels.shape[1]))
        np.add.at(positive, code[rest], labels[rest])
        share = np.where(films[:, None] > 0, positive / np.maximum(films, 1)[:, None], everywhere)
        scores[~rest] = share[code[~rest]]
    return scores


def _auroc(scores: np.ndarray, positive: np.ndarray) -> dict:
    """Return the area under the ROC curve as the Mann-Whitney statistic, ties counting one half."""
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    counts = {"positive": num_positive, "negative": num_negative}
    if not num_positive or not num_negative:
        return {"auroc": None, **counts}
    ranks = pd.Series(scores).rank().to_numpy()
    statistic = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return {"auroc": float(statistic / (num_positive * num_negative)), **counts}
