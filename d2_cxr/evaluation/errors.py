"""Errors of a detector: kinds of false positives, missed boxes, what each costs, and the worst images.

Kinds and names are those of TIDE (Bolya et al. 2020, https://arxiv.org/abs/2008.08115): the kind of a false positive
follows from its best IoU with a truth box of its own class and of another one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from d2_cxr.evaluation import average_precision, froc
from d2_cxr.evaluation.matching import HIT, IGNORED, Matches

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU
KINDS = {
    "Dupe": f"IoU >= {FOREGROUND} with a truth box of its class that a better-scored detection has",
    "Cls": f"IoU >= {FOREGROUND} with a truth box of another class",
    "Loc": f"{BACKGROUND} <= IoU < {FOREGROUND} with a truth box of its class",
    "Both": f"{BACKGROUND} <= IoU < {FOREGROUND} with a truth box of another class only",
    "Bkg": f"IoU < {BACKGROUND} with every truth box of the image",
}
MISSED = f"truth box that no detection of its class hits at IoU >= {FOREGROUND}"


def kinds(matches: Matches) -> np.ndarray:
    """Return the kind of each detection, (D,) int64: place in KINDS, -1 for a hit at IoU 0.50 or an ignored one."""
    same, other = matches.dt_iou_same, matches.dt_iou_other
    kind = np.select(
        [same >= FOREGROUND, other >= FOREGROUND, same >= BACKGROUND, other >= BACKGROUND], [0, 1, 2, 3], default=4
    )
    return np.where(np.isin(matches.dt_coco[:, 0, 0], (HIT, IGNORED)), -1, kind)


def working_score(matches: Matches) -> float | None:
    """Return the lowest score with at most 1 false positive per image, all classes pooled; None if none."""
    return froc.lowest_score(matches, 1.0)


def breakdown(matches: Matches, score: float | None = None) -> dict:
    """Count errors among the detections with at least this score, and how much AP50 each kind costs.

    Args:
        score: default `working_score`, the one with 1 false positive per image.

    Returns:
        score, num_detections, hits, false_positives {kind: {n, ap50_gain, definition}}, Miss {n, of, ap50_gain,
        definition}. `ap50_gain` is by how much AP50 would rise if errors of that kind, at any score, did not exist.
    """
    score = working_score(matches) if score is None else score
    kind = kinds(matches)
    passing = matches.dt_score >= (np.inf if score is None else score)
    hit = _hits(matches)
    counted = ~matches.gt_crowd
    before = _ap50(matches)
    return {
        "score": score,
        "num_detections": int(passing.sum()),
        "hits": int((hit & passing).sum()),
        "false_positives": {
            name: {
                "n": int((passing & (kind == index)).sum()),
                "ap50_gain": _gain(before, _without(matches, kind == index)),
                "definition": definition,
            }
            for index, (name, definition) in enumerate(KINDS.items())
        },
        "Miss": {
            "n": int(counted.sum() - (hit & passing).sum()),
            "of": int(counted.sum()),
            "ap50_gain": _gain(before, _without_missed(matches)),
            "definition": MISSED,
        },
    }


def worst_images(matches: Matches, number: int, score: float | None = None) -> list[dict]:
    """Return the images with most errors, worst first: image (name), missed, false_positives, hits, at this score.

    Ties: more boxes missed first, then image order. Negative images take part.
    """
    score = working_score(matches) if score is None else score
    passing = matches.dt_score >= (np.inf if score is None else score)
    hit = _hits(matches)
    count = lambda images: np.bincount(images, minlength=matches.num_images)  # noqa: E731
    hits = count(matches.dt_image[passing & hit])
    false = count(matches.dt_image[passing & (kinds(matches) >= 0)])
    missed = count(matches.gt_image[~matches.gt_crowd]) - hits
    order = np.lexsort((-missed, -(missed + false)))[:number]
    return [
        {
            "image": str(matches.image_names[image]),
            "missed": int(missed[image]),
            "false_positives": int(false[image]),
            "hits": int(hits[image]),
        }
        for image in order
    ]


def _hits(matches: Matches) -> np.ndarray:
    return matches.dt_coco[:, 0, 0] == HIT


def _ap50(matches: Matches) -> float:
    values = average_precision.average_precision(matches, np.ones((matches.num_images, 1)), areas=(0,), thresholds=(0,))
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _gain(before: float, changed: Matches) -> float | None:
    gain = _ap50(changed) - before
    return gain if np.isfinite(gain) else None


def _without(matches: Matches, gone: np.ndarray) -> Matches:
    codes = matches.dt_coco.copy()
    codes[gone, 0, 0] = IGNORED
    return replace(matches, dt_coco=codes)


def _without_missed(matches: Matches) -> Matches:
    """Take out, class by class, as many truth boxes as no detection hits; which ones does not matter for AP."""
    crowd = matches.gt_crowd.copy()
    for index in range(len(matches.class_names)):
        boxes = np.flatnonzero((matches.gt_class == index) & ~crowd)
        hits = int((_hits(matches) & (matches.dt_class == index)).sum())
        crowd[boxes[hits:]] = True
    return replace(matches, gt_crowd=crowd)
