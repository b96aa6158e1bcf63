"""COCO's greedy matching for all images, area ranges and IoU thresholds at once.

COCO walks the detections of one image and class by falling score; each takes the free truth box of highest IoU, if that
reaches the threshold, and rather one that counts than one that is ignored (a crowd, or of another size). The walks of
different images and classes do not touch each other, so step k of all of them is done together. Rules as in
https://cocodataset.org/#detection-eval; one is set right: a truth box with id 0 is a box like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as pycocotools computes them, rounding included
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # pixels squared, both ends inside

MISS, HIT, IGNORED = 0, 1, 2  # what a detection is, for one area range and one threshold


@dataclass(frozen=True)
class Pairs:
    """Detections and truth boxes of one image that overlap: positions and IoU, all (P,)."""

    dt: np.ndarray
    gt: np.ndarray
    iou: np.ndarray  # over the detection's own area where the truth box is a crowd

    def select(self, keep: np.ndarray) -> Pairs:
        return Pairs(self.dt[keep], self.gt[keep], self.iou[keep])


def match_greedily(
    pairs: Pairs,
    dt_walk: np.ndarray,
    dt_rank: np.ndarray,
    dt_area: np.ndarray,
    gt_area: np.ndarray,
    gt_crowd: np.ndarray,
) -> np.ndarray:
    """Say of each detection whether it is a hit, a miss or ignored, per area range and IoU threshold.

    Args:
        pairs: those between which a match is allowed.
        dt_walk: (D,) number of the walk (image, or image and class) of each detection.
        dt_rank: (D,) its place in that walk, from 0.

    Returns:
        (D, 4, 10) uint8 of MISS, HIT, IGNORED; axes AREA_NAMES and IOU_THRESHOLDS.
    """
    outside = _outside(dt_area)  # (D, A): unmatched ones of another size do not count
    codes = np.repeat(np.where(outside, IGNORED, MISS).astype(np.uint8)[:, :, None], len(IOU_THRESHOLDS), axis=2)
    pairs = pairs.select(pairs.iou >= IOU_THRESHOLDS[0])
    if len(pairs.dt) == 0:
        return codes
    ignored = _outside(gt_area) | gt_crowd[:, None]  # (G, A)
    taken = np.zeros((len(gt_area), len(AREA_NAMES), len(IOU_THRESHOLDS)), dtype=bool)
    candidates, gt, iou = _padded(pairs)
    reaches = iou[:, :, None] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)  # (N, M, T)
    for rows in _steps(dt_walk[candidates], dt_rank[candidates]):
        chosen, found = _choose(gt[rows], reaches[rows], ignored, taken, gt_crowd)
        area, threshold = np.nonzero(np.ones(codes.shape[1:], dtype=bool))  # every (a, t), flat
        chosen, found = chosen.reshape(len(rows), -1), found.reshape(len(rows), -1)
        row, column = np.nonzero(found)
        hit_gt, a, t = chosen[row, column], area[column], threshold[column]
        taken[hit_gt, a, t] = True
        codes[candidates[rows[row]], a, t] = np.where(ignored[hit_gt, a], IGNORED, HIT)
    return codes


def _outside(areas: np.ndarray) -> np.ndarray:
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _padded(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the detections that overlap anything (N,), and their truth boxes (N, M) and IoU (N, M, -1 where padded).

    A row rises by IoU, equal ones by truth order, so that the last admissible entry is COCO's choice.
    """
    order = np.lexsort((pairs.gt, pairs.iou, pairs.dt))
    dt, gt, iou = pairs.dt[order], pairs.gt[order], pairs.iou[order]
    candidates, start, count = np.unique(dt, return_index=True, return_counts=True)
    column = np.arange(len(dt)) - np.repeat(start, count)
    row = np.repeat(np.arange(len(candidates)), count)
    gt_table = np.zeros((len(candidates), count.max()), dtype=np.int64)
    iou_table = np.full(gt_table.shape, -1.0)
    gt_table[row, column], iou_table[row, column] = gt, iou
    return candidates, gt_table, iou_table


def _steps(walk: np.ndarray, rank: np.ndarray) -> list[np.ndarray]:
    """Split candidates into steps: step k holds the k-th one of every walk."""
    order = np.lexsort((rank, walk))
    _, start, count = np.unique(walk[order], return_index=True, return_counts=True)
    step = np.arange(len(walk)) - np.repeat(start, count)
    by_step = np.argsort(step, kind="stable")
    bounds = np.cumsum(np.bincount(step))[:-1]
    return np.split(order[by_step], bounds)


def _choose(gt, reaches, ignored, taken, crowd) -> tuple[np.ndarray, np.ndarray]:
    """Return for rows (n, M) the chosen truth box and whether there is one, both (n, A, T)."""
    free = ~taken[gt] | crowd[gt][:, :, None, None]  # (n, M, A, T); a crowd is never used up
    column = np.arange(1, gt.shape[1] + 1, dtype=np.int16)[None, :, None]
    preference = column + np.int16(gt.shape[1]) * ~ignored[gt]  # (n, M, A): boxes that count before ignored ones
    key = np.where(free & reaches[:, :, None, :], preference[:, :, :, None], 0)
    best = key.argmax(axis=1)  # (n, A, T)
    return np.take_along_axis(gt, best.reshape(len(gt), -1), axis=1).reshape(best.shape), key.max(axis=1) > 0
