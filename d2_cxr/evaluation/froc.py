"""Free-response ROC: sensitivity against false positives per image, per class or pooled, under image weights.

Bunch et al. 1977 and Chakraborty 1989 (https://doi.org/10.1118/1.596358). A detection points at the truth box of its
class that it overlaps best under a hit rule (matching.HIT_RULES). The detection with the highest score that points at
a box finds it; others count neither as found nor as false; one that points at no box is a false positive. Sensitivity
at a rate is the highest one with at most that many false positives per image; equal scores pass together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from d2_cxr.evaluation import ranking
from d2_cxr.evaluation.matching import HIT_RULES, Matches

RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # false positives per image
RATE_NAMES = ("1/8", "1/4", "1/2", "1", "2", "4", "8")


@dataclass(frozen=True)
class Marks:
    """Detections of some classes by falling score (N,), and the images of the truth boxes they could find (G',)."""

    image: np.ndarray
    score: np.ndarray
    finds: np.ndarray  # bool: the first to point at its truth box
    false: np.ndarray  # bool: points at none
    lesion_image: np.ndarray  # (G',)

    @property
    def ends(self) -> np.ndarray:
        """Last index of each run of equal scores with a found box: the thresholds at which sensitivity rises."""
        return _ends(self.score, self.finds)


def marks(matches: Matches, classes: Sequence[int] | None = None, rule: str = "iou", negatives: bool = True) -> Marks:
    """Collect the detections of these classes (default all) on images with findings and, by default, negative ones."""
    if rule not in HIT_RULES:
        raise ValueError(f"hit rule {rule!r} is not one of {', '.join(HIT_RULES)}")
    wanted = np.full(len(matches.class_names), classes is None)
    if classes is not None:
        wanted[list(classes)] = True
    keep = wanted[matches.dt_class] & (negatives | (matches.dt_image < matches.num_findings_images))
    lesion = matches.pointed_at(rule)[keep]
    lesions = wanted[matches.gt_class] & ~matches.gt_crowd
    return pointing(matches.dt_image[keep], matches.dt_score[keep], lesion, matches.gt_image[lesions])


def pointing(image: np.ndarray, score: np.ndarray, lesion: np.ndarray, lesion_image: np.ndarray) -> Marks:
    """Collect detections (N,) by falling score, each with the truth box `lesion` that it points at, -1 for none."""
    finds = np.zeros(len(lesion), dtype=bool)
    aimed = np.flatnonzero(lesion >= 0)
    finds[aimed[np.unique(lesion[aimed], return_index=True)[1]]] = True
    return Marks(image, score, finds, lesion < 0, lesion_image)


def sensitivities(
    matches: Matches,
    weights: np.ndarray,
    classes: Sequence[int] | None = None,
    rates: Sequence[float] = RATES,
    negatives: bool = True,
) -> np.ndarray:
    """Return the sensitivity at rates of false positives per image, these classes pooled under one threshold.

    Returns:
        (rates, B) in [0, 1]; NaN where a resample contains no truth box of these classes.
    """
    chosen = marks(matches, classes, negatives=negatives)
    weights = weights if negatives else weights[: matches.num_findings_images]
    num_lesions = ranking.totals(chosen.lesion_image, weights)
    found, false = _stretches(chosen, len(weights))
    highest = ranking.in_blocks(lambda block: _highest(found, false, block, rates), weights)
    return ranking.ratio(highest, num_lesions)


def _stretches(chosen: Marks, num_images: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Return truth boxes found and false positives between the thresholds where sensitivity rises, both (K, F)."""
    ends, places = chosen.ends, np.arange(len(chosen.image))
    found, false = (
        ranking.stretches(chosen.image[kept], places[kept], ends, num_images) for kept in (chosen.finds, chosen.false)
    )
    return found, false


def _highest(
    found: sparse.csr_matrix, false: sparse.csr_matrix, weights: np.ndarray, rates: Sequence[float]
) -> np.ndarray:
    """Return the largest number of truth boxes found at each rate, (rates, b)."""
    found_up_to, false_up_to = ranking.counts_up_to(found, weights), ranking.counts_up_to(false, weights)
    found_up_to = np.concatenate([np.zeros((1, weights.shape[1])), found_up_to])  # nothing passes
    num_images = weights.sum(axis=0, dtype=np.float64)
    columns = np.arange(weights.shape[1])
    admitted = [(false_up_to <= rate * num_images).sum(axis=0) for rate in rates]  # both counts rise from end to end
    return np.stack([found_up_to[number, columns] for number in admitted])


def curve(
    matches: Matches, classes: Sequence[int] | None = None, rule: str = "iou", negatives: bool = True
) -> dict[str, np.ndarray]:
    """Return the FROC curve: `score`, `sensitivity`, `false_positives_per_image`, each (K,), by falling score."""
    chosen = marks(matches, classes, rule, negatives)
    num_images = matches.num_images if negatives else matches.num_findings_images
    return points(chosen.score, chosen.finds, chosen.false, len(chosen.lesion_image), num_images)


def points(
    score: np.ndarray, found: np.ndarray, false: np.ndarray, num_lesions: int, num_images: int
) -> dict[str, np.ndarray]:
    """Return the FROC curve of detections by falling score, and how many boxes each finds and falsely marks, (N,)."""
    ends = _ends(score, found > 0)
    return {
        "score": score[ends],
        "sensitivity": np.cumsum(found)[ends] / max(1, num_lesions),
        "false_positives_per_image": np.cumsum(false)[ends] / max(1, num_images),
    }


def _ends(score: np.ndarray, finds: np.ndarray) -> np.ndarray:
    return np.unique(np.searchsorted(-score, -score[finds], side="right") - 1)


def lowest_score(matches: Matches, rate: float, classes: Sequence[int] | None = None) -> float | None:
    """Return the lowest score with at most `rate` false positives per image (negative images counted).

    The score is that of a detection that finds a box; None where no box is found at that rate. Classes (default all)
    are pooled.
    """
    found = curve(matches, classes)
    admitted = found["false_positives_per_image"] <= rate
    return float(found["score"][admitted][-1]) if admitted.any() else None


def choose_thresholds(matches: Matches, rate: float) -> dict[str, float | None]:
    """Choose the `lowest_score` of each class at a rate."""
    return {name: lowest_score(matches, rate, [index]) for index, name in enumerate(matches.class_names)}


def at_thresholds(
    matches: Matches, thresholds: Mapping[str, float | None], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Count per class the detections that reach a fixed threshold (None: no detection does).

    Returns:
        `found`, `lesions`, `false_findings` (false positives on images with findings), `false_negatives` (on negative
        images), each (C, B).
    """
    split = matches.num_findings_images
    rows: dict[str, list] = {"found": [], "lesions": [], "false_findings": [], "false_negatives": []}
    for index, name in enumerate(matches.class_names):
        chosen = marks(matches, [index])
        threshold = thresholds.get(name)
        passing = chosen.score >= (np.inf if threshold is None else threshold)
        false = chosen.image[chosen.false & passing]
        rows["found"].append(ranking.totals(chosen.image[chosen.finds & passing], weights))
        rows["lesions"].append(ranking.totals(chosen.lesion_image, weights))
        rows["false_findings"].append(ranking.totals(false[false < split], weights))
        rows["false_negatives"].append(ranking.totals(false[false >= split], weights))
    return {key: np.stack(value) for key, value in rows.items()}
