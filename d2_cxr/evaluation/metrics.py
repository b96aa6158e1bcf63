"""The table of metrics: name, definition, and how it follows from matches under image weights.

A metric of a class is a function (matches, weights (F, B), classes) -> (classes, B); an overall one is either a summary
of a class metric or a pooled function -> (B,). Every value is a fraction of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from d2_cxr.evaluation import average_precision as precision
from d2_cxr.evaluation import froc, image_level
from d2_cxr.evaluation.matching import HIT_RULES, Matches

Values = Callable[[Matches, np.ndarray, Sequence[int]], np.ndarray]
MIN_IMAGES = 30  # a class with fewer images weighs as much in mAP as any other, and is mostly noise


@dataclass(frozen=True)
class ClassMetric:
    """A metric that each class has."""

    values: Values  # -> (classes, B), or (columns, classes, B)
    definition: str
    unit: str = "boxes"  # what n counts
    area: int = 0  # position in matching.AREA_NAMES of the boxes that n counts
    column: int | None = None  # which one of several that are computed together
    interpolated: bool = False  # an AP, which is too high on few images (estimates.corrected)


@dataclass(frozen=True)
class Overall:
    """Either `summary` of the class metric `of`, or `pooled`."""

    definition: str
    of: str | None = None
    summary: str = "mean"  # a name of _SUMMARIES
    pooled: Values | None = None  # -> (B,), or (columns, B)
    unit: str = "boxes"
    area: int = 0
    column: int | None = None
    needs_negatives: bool = False


def _ap(
    areas: Sequence[int] = (0,), thresholds: Sequence[int] = precision.ALL_THRESHOLDS, negatives: bool = False
) -> Values:
    def values(matches: Matches, weights: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        found = precision.average_precision(matches, weights, classes, areas, thresholds, negatives)
        return found[:, 0].mean(axis=1)

    return values


def _ar(max_detections: int) -> Values:
    def values(matches: Matches, weights: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        return precision.recall(matches, weights, max_detections, classes=classes).mean(axis=1)

    return values


def _class_froc(matches: Matches, weights: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    return np.stack([froc.sensitivities(matches, weights, [index]) for index in classes], axis=1)


def _findings_froc(matches: Matches, weights: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    return froc.sensitivities(matches, weights, classes, negatives=False)


def _agnostic(max_detections: int, area: int) -> Values:
    def values(matches: Matches, weights: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        return precision.agnostic_recall(matches, weights, max_detections, area).mean(axis=0)

    return values


_COCO_AP = "COCO AP: mean of interpolated precision at 101 recall values, at most 100 detections per image and class, "
_IOUS = "averaged over IoU 0.50:0.05:0.95"
_SIZES = {"small": "area <= 32^2", "medium": "32^2 <= area <= 96^2", "large": "area >= 96^2"}
_FROC = (
    f"fraction of truth boxes found with at most {{}} false positives per image; hit: {HIT_RULES['iou']}, same class"
)
_WITH = "; images without findings of the same split are counted where given"

CLASS_METRICS: dict[str, ClassMetric] = {
    "AP": ClassMetric(_ap(), _COCO_AP + _IOUS, interpolated=True),
    "AP50": ClassMetric(_ap(thresholds=(0,)), _COCO_AP + "at IoU 0.50", interpolated=True),
    "AP75": ClassMetric(_ap(thresholds=(5,)), _COCO_AP + "at IoU 0.75", interpolated=True),
    **{
        f"AP_{name}": ClassMetric(
            _ap(areas=(area,)), f"{_COCO_AP}{_IOUS}, truth boxes of {_SIZES[name]} pixels", area=area, interpolated=True
        )
        for area, name in enumerate(_SIZES, start=1)
    },
    **{
        f"AR_{count}": ClassMetric(_ar(count), f"COCO AR: recall {_IOUS}, {count} detections per image and class")
        for count in (1, 10, 100)
    },
    "AP40_vinbigdata": ClassMetric(
        precision.voc_average_precision,
        "VOC 2010 AP: area under the all-point precision-recall curve, IoU > 0.4",
        interpolated=True,
    ),
    "mean_best_iou": ClassMetric(
        lambda matches, weights, classes: np.stack([precision.mean_best_iou(matches, weights, [c]) for c in classes]),
        "mean over truth boxes of the highest IoU with any detection of its class, 0 without one",
    ),
    **{
        f"froc_sens_at_{name}": ClassMetric(_class_froc, _FROC.format(name) + _WITH, column=column)
        for column, name in enumerate(froc.RATE_NAMES)
    },
    "image_auroc": ClassMetric(
        image_level.class_auroc,
        "area under the ROC curve: images with the class against all others, by the highest score of the class",
        unit="images",
    ),
    "AP_with_negatives": ClassMetric(
        _ap(negatives=True), f"{_COCO_AP}{_IOUS}; detections on negative images count", interpolated=True
    ),
    "AP50_with_negatives": ClassMetric(
        _ap(thresholds=(0,), negatives=True), f"{_COCO_AP}at IoU 0.50; negative images count", interpolated=True
    ),
    "AP40_vinbigdata_with_negatives": ClassMetric(
        partial(precision.voc_average_precision, negatives=True),
        "VOC 2010 AP, IoU > 0.4; negative images count",
        interpolated=True,
    ),
}

_MEAN = "mean over classes with a truth box of: "
OVERALL: dict[str, Overall] = {
    "mAP": Overall(_MEAN + CLASS_METRICS["AP"].definition, of="AP"),
    **{
        name: Overall(_MEAN + CLASS_METRICS[name].definition, of=name, area=CLASS_METRICS[name].area)
        for name in (
            *("AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100", "AP40_vinbigdata"),
        )
    },
    "mAP_support_weighted": Overall("AP of each class weighted by its truth boxes", of="AP", summary="support"),
    "mAP_30_images": Overall(
        f"mean AP over the classes that at least {MIN_IMAGES} of the evaluated images show", of="AP", summary="frequent"
    ),
    "AR_agnostic": Overall(
        f"recall {_IOUS} without regard to classes (useCats = 0), 100 detections an image", pooled=_agnostic(100, 0)
    ),
    "AR_agnostic_small": Overall(
        f"recall {_IOUS} without regard to classes, truth boxes of {_SIZES['small']} pixels, 1000 detections an image",
        pooled=_agnostic(1000, 1),
        area=1,
    ),
    "mean_best_iou": Overall(CLASS_METRICS["mean_best_iou"].definition, pooled=precision.mean_best_iou),
    "std_best_iou": Overall(
        "population standard deviation of the same over truth boxes", pooled=precision.std_best_iou
    ),
    **{
        f"froc_sens_at_{name}": Overall(
            f"{_FROC.format(name)}, all classes under one threshold{_WITH}", pooled=froc.sensitivities, column=column
        )
        for column, name in enumerate(froc.RATE_NAMES)
    },
    **{
        f"froc_findings_only_sens_at_{name}": Overall(
            f"{_FROC.format(name)}, all classes under one threshold; images with findings only",
            pooled=_findings_froc,
            column=column,
            needs_negatives=True,
        )
        for column, name in enumerate(froc.RATE_NAMES)
    },
    "image_auroc": Overall(
        "area under the ROC curve: images with findings against negative images, by the highest score of any class",
        pooled=lambda matches, weights, classes: image_level.any_finding_auroc(matches, weights),
        unit="images",
        needs_negatives=True,
    ),
    "image_auroc_mean": Overall(_MEAN + CLASS_METRICS["image_auroc"].definition, of="image_auroc", unit="images"),
    "mAP_with_negatives": Overall(
        _MEAN + CLASS_METRICS["AP_with_negatives"].definition, of="AP_with_negatives", needs_negatives=True
    ),
    "AP50_with_negatives": Overall(
        _MEAN + CLASS_METRICS["AP50_with_negatives"].definition, of="AP50_with_negatives", needs_negatives=True
    ),
    "AP40_vinbigdata_with_no_finding": Overall(
        'VOC 2010 mean AP, IoU > 0.4, negative images in, "No finding" (score 1 - highest finding) as one more class',
        of="AP40_vinbigdata_with_negatives",
        summary="no_finding",
        needs_negatives=True,
    ),
}


def value(matches: Matches, metric: str, weights: np.ndarray, classes: Sequence[str] | None = None) -> np.ndarray:
    """Return an overall metric (B,) under image weights (F, B), over these classes; NaN where undefined.

    Raises:
        ValueError: unknown metric or class, or a metric that needs negative images and has none.
    """
    if metric not in OVERALL:
        raise ValueError(f"metric {metric!r} is not one of {', '.join(OVERALL)}")
    if OVERALL[metric].needs_negatives and not matches.has_negatives:
        raise ValueError(f"metric {metric} needs negative images, and none were evaluated")
    return Computation(matches, weights, class_indices(matches, classes)).overall(metric)


class Computation:
    """Metrics of one evaluation, what several of them share computed once."""

    def __init__(self, matches: Matches, weights: np.ndarray, classes: Sequence[int]):
        """`weights` (F, B), `classes` positions in `matches.class_names`."""
        self.matches, self.weights, self.classes = matches, weights, classes
        self._done: dict[Values, np.ndarray] = {}

    def per_class(self, name: str) -> np.ndarray:
        """Return a name of CLASS_METRICS as (classes, B)."""
        rule = CLASS_METRICS[name]
        return self._column(rule.values, rule.column)

    def overall(self, name: str) -> np.ndarray:
        """Return a name of OVERALL as (B,)."""
        rule = OVERALL[name]
        if rule.pooled is not None:
            return self._column(rule.pooled, rule.column)
        return _SUMMARIES[rule.summary](self.per_class(rule.of or name), self.matches, self.weights, self.classes)

    def _column(self, function: Values, column: int | None) -> np.ndarray:
        if function not in self._done:
            self._done[function] = function(self.matches, self.weights, self.classes)
        return self._done[function] if column is None else self._done[function][column]


def is_interpolated(metric: str) -> bool:
    """Return whether an overall metric rests on interpolated precision (estimates.corrected)."""
    rule = OVERALL[metric]
    return rule.of is not None and CLASS_METRICS[rule.of].interpolated


def frequent(matches: Matches) -> np.ndarray:
    """Return which classes (C,) at least MIN_IMAGES of the images show."""
    return image_level.image_labels(matches).sum(axis=0) >= MIN_IMAGES


def class_indices(matches: Matches, classes: Sequence[str] | None) -> list[int]:
    """Return the positions of these classes (None: all) in `matches.class_names`."""
    names = matches.class_names if classes is None else classes
    return [matches.class_index(name) for name in names]


def _mean(per_class: np.ndarray, matches: Matches, weights: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    return weighted_mean(per_class, np.ones_like(per_class))


def _support(per_class: np.ndarray, matches: Matches, weights: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    return weighted_mean(per_class, np.stack([precision.truth_boxes(matches, weights, index) for index in indices]))


def _frequent(per_class: np.ndarray, matches: Matches, weights: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    return weighted_mean(per_class, np.broadcast_to(frequent(matches)[list(indices), None], per_class.shape))


def _no_finding(per_class: np.ndarray, matches: Matches, weights: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    extra = precision.no_finding_average_precision(matches, weights)
    return weighted_mean(np.concatenate([per_class, extra[None]]), np.ones((len(per_class) + 1, per_class.shape[1])))


_SUMMARIES = {"mean": _mean, "support": _support, "frequent": _frequent, "no_finding": _no_finding}


def weighted_mean(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of the defined values, (N, B) -> (B,); NaN where none is defined or all shares are 0."""
    shares = np.where(np.isfinite(values), shares, 0.0)
    total = shares.sum(axis=0)
    mean = (np.where(shares > 0, values, 0) * shares).sum(axis=0) / np.where(total > 0, total, 1)
    return np.where(total > 0, mean, np.nan)
