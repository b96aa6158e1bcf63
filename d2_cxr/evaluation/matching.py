"""Match detections and truth once; metrics, paired tests and pooled bootstraps use the result.

`match` compares boxes under every rule that a metric uses; `Matches` contains the outcome per detection and per truth
box, without boxes or images; `matches.npz` stores it.

COCO walks the detections of one image and class by falling score; each takes the free truth box of highest IoU, if that
reaches the threshold, and prefers one that counts to one that is ignored (a crowd, or of another size). The walks of
different images and classes are independent, so step k of all of them is done together. Rules as in
https://cocodataset.org/#detection-eval; with one correction: a truth box with id 0 is a box like any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from d2_cxr import artifacts
from d2_cxr import boxes as box_math
from d2_cxr.evaluation.coco_arrays import CocoArrays, to_arrays

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as pycocotools computes them, rounding included
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # pixels squared, both ends inside

MISS, HIT, IGNORED = 0, 1, 2  # what a detection is, for one area range and one threshold

FORMAT_VERSION = 1
MAX_DETECTIONS = 100  # per image and class, as COCO
HIT_RULES = {
    "iou": "IoU with the truth box > 0.4",
    "center": "the detection's center lies in the truth box",
    "iobb": "intersection over the detection's area > 0.5",
}
MAX_ROWS = 4096  # of one step that are chosen for at once, which keeps memory small
VOC_IOU = 0.4  # VinBigData's challenge: strictly more


@dataclass(frozen=True)
class Pairs:
    """Detections and truth boxes of one image that overlap: positions and IoU, all (P,)."""

    dt: np.ndarray
    gt: np.ndarray
    iou: np.ndarray  # over the detection's own area where the truth box is a crowd

    def select(self, keep: np.ndarray) -> Pairs:
        """Return the pairs at `keep`, a mask (P,) or positions."""
        return Pairs(self.dt[keep], self.gt[keep], self.iou[keep])


@dataclass(frozen=True)
class Matches:
    """What became of every detection (D) and truth box (G) on F images; C classes.

    Detections are in the order of falling score, equal scores by image and file order, as COCO's evaluation ranks them.
    """

    class_names: tuple[str, ...]
    image_ids: np.ndarray  # (F,) int64, COCO image ids, images with findings first
    image_names: np.ndarray  # (F,) str
    image_negative: np.ndarray  # (F,) bool
    image_group: np.ndarray  # (F,) int64, what a bootstrap draws: patients where known
    gt_image: np.ndarray  # (G,) int64
    gt_class: np.ndarray  # (G,) int64
    gt_area: np.ndarray  # (G,) float64, pixels squared of the prepared image
    gt_crowd: np.ndarray  # (G,) bool
    gt_readers: np.ndarray  # (G,) int64, readers who agreed, -1 where unknown
    gt_best_iou: np.ndarray  # (G,) float64, best IoU with a detection of its class, 0 without one
    gt_best_other: np.ndarray  # (G,) float64, the same over the other classes
    dt_image: np.ndarray  # (D,) int64
    dt_class: np.ndarray  # (D,) int64
    dt_score: np.ndarray  # (D,) float64
    dt_rank: np.ndarray  # (D,) int64, place among the detections of its image and class, from 0
    dt_rank_image: np.ndarray  # (D,) int64, place among all detections of its image, from 0
    dt_coco: np.ndarray  # (D, 4, 10) uint8: MISS, HIT, IGNORED by area range and IoU threshold
    dt_agnostic: np.ndarray  # (D, 4, 10) uint8, the same without regard to classes
    dt_voc: np.ndarray  # (D,) bool, hit by VOC 2010's rule at IoU > 0.4
    dt_lesion: np.ndarray  # (D, 3) int64, the truth box it points at by each of HIT_RULES, or -1
    dt_iou_same: np.ndarray  # (D,) float64, best IoU with a truth box of its class
    dt_iou_other: np.ndarray  # (D,) float64, best IoU with a truth box of another class

    def save(self, path: str | os.PathLike) -> None:
        """Write `matches.npz`."""
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        arrays["format_version"] = np.array(FORMAT_VERSION)
        artifacts.write_with(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]  # numpy types allow_pickle among them

    @classmethod
    def load(cls, path: str | os.PathLike) -> Matches:
        """Read `matches.npz`.

        Raises:
            ValueError: the file is of another format version, or no such file at all.
        """
        names = [field.name for field in fields(cls)]
        with np.load(path, allow_pickle=False) as archive:
            missing = sorted({"format_version", *names} - set(archive.files))
            if missing or archive["format_version"] != FORMAT_VERSION:
                raise ValueError(f"{path} is not a matches.npz of format {FORMAT_VERSION}; evaluate the results again")
            arrays = {name: archive[name] for name in names}
        arrays["class_names"] = tuple(arrays["class_names"].tolist())
        return cls(**arrays)

    @property
    def num_images(self) -> int:
        """All images, with and without findings."""
        return len(self.image_ids)

    @property
    def num_findings_images(self) -> int:
        """Images with findings; they come first in every per-image array."""
        return int((~self.image_negative).sum())

    @property
    def has_negatives(self) -> bool:
        """Whether there are images without findings."""
        return bool(self.image_negative.any())

    def pointed_at(self, rule: str = "iou") -> np.ndarray:
        """Return the truth box that each detection points at by one of HIT_RULES, (D,) int64, or -1."""
        return self.dt_lesion[:, list(HIT_RULES).index(rule)]

    def class_index(self, name: str) -> int:
        """Return the position of a class in `class_names`.

        Raises:
            ValueError: there is no such class.
        """
        if name not in self.class_names:
            raise ValueError(f"class {name!r} is not one of {', '.join(self.class_names)}")
        return self.class_names.index(name)


def match(truth: Mapping, results: Sequence[Mapping], negative_truth: Mapping | None = None) -> Matches:
    """Match COCO results to COCO truth; arguments and errors as `coco_arrays.to_arrays`."""
    return match_arrays(to_arrays(truth, results, negative_truth))


def match_arrays(arrays: CocoArrays) -> Matches:
    """Match detections to truth."""
    arrays = ranked(arrays)
    num_gt, num_dt, num_classes = len(arrays.gt_image), len(arrays.dt_image), max(1, len(arrays.class_names))
    pairs, overlap = _overlapping_pairs(arrays)
    same = arrays.dt_class[pairs.dt] == arrays.gt_class[pairs.gt]
    counts = ~arrays.gt_crowd[pairs.gt]
    walk = arrays.dt_image * num_classes + arrays.dt_class
    rank, rank_image = places_within(walk), places_within(arrays.dt_image)
    own, other = pairs.select(same & counts), pairs.select(~same & counts)
    shapes = (arrays.dt_area, arrays.gt_area, arrays.gt_crowd)
    return Matches(
        **{field.name: getattr(arrays, field.name) for field in fields(Matches) if hasattr(arrays, field.name)},
        gt_best_iou=_best(own.gt, own.iou, num_gt),
        gt_best_other=_best(other.gt, other.iou, num_gt),
        dt_rank=rank,
        dt_rank_image=rank_image,
        dt_coco=_match_greedily(pairs.select(same & (rank[pairs.dt] < MAX_DETECTIONS)), walk, rank, *shapes),
        dt_agnostic=_match_greedily(pairs, arrays.dt_image, rank_image, *shapes),
        dt_voc=_voc_hits(own, num_dt, num_gt),
        dt_lesion=_lesions(own, overlap[same & counts], arrays),
        dt_iou_same=_best(own.dt, own.iou, num_dt),
        dt_iou_other=_best(other.dt, other.iou, num_dt),
    )


def ranked(arrays: CocoArrays) -> CocoArrays:
    """Sort detections by falling score; among equals images in order, then file order (COCO's stable sort)."""
    order = np.lexsort((arrays.dt_image, -arrays.dt_score))
    columns = [field.name for field in fields(arrays) if field.name.startswith("dt_")]
    return replace(arrays, **{name: getattr(arrays, name)[order] for name in columns})


def lesions_pointed_at(arrays: CocoArrays, rule: str) -> np.ndarray:
    """Return the truth box that each detection points at by one of HIT_RULES (D,), or -1; a column of `dt_lesion`."""
    pairs, overlap = _overlapping_pairs(arrays)
    own = (arrays.dt_class[pairs.dt] == arrays.gt_class[pairs.gt]) & ~arrays.gt_crowd[pairs.gt]
    return _lesions(pairs.select(own), overlap[own], arrays)[:, list(HIT_RULES).index(rule)]


def places_within(walk: np.ndarray) -> np.ndarray:
    """Return the place (from 0) of each entry among those of the same number, in array order."""
    order = np.argsort(walk, kind="stable")
    _, start, count = np.unique(walk[order], return_index=True, return_counts=True)
    rank = np.empty(len(walk), dtype=np.int64)
    rank[order] = np.arange(len(walk)) - np.repeat(start, count)
    return rank


def _overlapping_pairs(arrays: CocoArrays) -> tuple[Pairs, np.ndarray]:
    """Return all pairs of one image that overlap, and of each the intersection over the detection's area."""
    dt_of = _positions_by_image(arrays.dt_image, len(arrays.image_ids))
    gt_of = _positions_by_image(arrays.gt_image, len(arrays.image_ids))
    found = [_image_pairs(arrays, dt_of[image], gt_of[image]) for image in np.unique(arrays.gt_image)]
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] if found else [np.zeros(0)] * 4
    pairs = Pairs(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2])
    return pairs, columns[3]


def _image_pairs(arrays: CocoArrays, dt: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, ...]:
    iou = box_math.pairwise_iou(arrays.dt_boxes[dt], arrays.gt_boxes[gt])
    iobb = box_math.pairwise_iobb(arrays.dt_boxes[dt], arrays.gt_boxes[gt])
    row, column = np.nonzero(iobb)
    crowd = arrays.gt_crowd[gt[column]]
    iou = np.where(crowd, iobb[row, column], iou[row, column])  # COCO: a crowd may be larger than what it holds
    return dt[row], gt[column], iou, iobb[row, column]


def _positions_by_image(images: np.ndarray, num_images: int) -> list[np.ndarray]:
    order = np.argsort(images, kind="stable")
    return np.split(order, np.cumsum(np.bincount(images, minlength=num_images))[:-1])


def _best(index: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    best = np.zeros(length)
    np.maximum.at(best, index, values)
    return best


def _voc_hits(own: Pairs, num_dt: int, num_gt: int) -> np.ndarray:
    """VOC 2010: a detection points at the truth box of its highest IoU, and hits if none of higher score does."""
    target = _target(own, own.iou, own.iou > VOC_IOU, num_dt)
    hits = np.zeros(num_dt, dtype=bool)
    first = np.full(num_gt, num_dt)
    aimed = np.flatnonzero(target >= 0)
    np.minimum.at(first, target[aimed], aimed)  # detections are in the order of falling score
    hits[first[first < num_dt]] = True
    return hits


def _lesions(own: Pairs, iobb: np.ndarray, arrays: CocoArrays) -> np.ndarray:
    centers = box_math.centers(arrays.dt_boxes)[own.dt]
    gt_boxes = arrays.gt_boxes[own.gt]
    inside = ((centers >= gt_boxes[:, :2]) & (centers <= gt_boxes[:, 2:])).all(axis=1)
    rules = ((own.iou, own.iou > 0.4), (own.iou, inside), (iobb, iobb > 0.5))  # the order of HIT_RULES
    return np.stack([_target(own, value, admitted, len(arrays.dt_image)) for value, admitted in rules], axis=1)


def _target(pairs: Pairs, value: np.ndarray, admitted: np.ndarray, num_dt: int) -> np.ndarray:
    """Return the admitted truth box (D,) of highest value for each detection, the first of equals, or -1."""
    pairs, value = pairs.select(admitted), value[admitted]
    order = np.lexsort((-pairs.gt, value))  # rising, so that the last write wins
    target = np.full(num_dt, -1, dtype=np.int64)
    target[pairs.dt[order]] = pairs.gt[order]
    return target


def _match_greedily(
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
    """Split candidates into steps: step k holds the k-th one of every walk; those of one step in blocks."""
    order = np.lexsort((rank, walk))
    _, start, count = np.unique(walk[order], return_index=True, return_counts=True)
    step = np.arange(len(walk)) - np.repeat(start, count)
    by_step = np.argsort(step, kind="stable")
    steps = np.split(order[by_step], np.cumsum(np.bincount(step))[:-1])
    return [rows[begin : begin + MAX_ROWS] for rows in steps for begin in range(0, len(rows), MAX_ROWS)]


def _choose(
    gt: np.ndarray, reaches: np.ndarray, ignored: np.ndarray, taken: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for rows (n, M) the chosen truth box and whether there is one, both (n, A, T)."""
    free = ~taken[gt] | crowd[gt][:, :, None, None]  # (n, M, A, T); a crowd is never used up
    column = np.arange(1, gt.shape[1] + 1, dtype=np.int16)[None, :, None]
    preference = column + np.int16(gt.shape[1]) * ~ignored[gt]  # (n, M, A): boxes that count before ignored ones
    key = np.where(free & reaches[:, :, None, :], preference[:, :, :, None], 0)
    best = key.argmax(axis=1)  # (n, A, T)
    return np.take_along_axis(gt, best.reshape(len(gt), -1), axis=1).reshape(best.shape), key.max(axis=1) > 0
