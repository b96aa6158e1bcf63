"""`CXR.ANCHORS auto`: anchors for the boxes that are to be learned, by k-means on the logarithms of sizes and ratios.

As YOLOv2 does (Redmon and Farhadi 2017, https://arxiv.org/abs/1612.08242), but size and ratio apart, as Detectron2's
anchor generator has them. What is fitted goes into MODEL.ANCHOR_GENERATOR, and from there into the run's config.yaml
and the card of its weights: a resumed run, a test and a prediction take it from there and fit nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import yaml
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge

from d2_cxr.boxes import pairwise_iou
from d2_cxr.checkpoint.loading import load_yaml
from d2_cxr.checkpoint.weights_card import WeightsCard
from d2_cxr.datasets.mapper import compact

logger = logging.getLogger(__name__)

FITTED_KEYS = ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS")
_RATIOS = 3  # as Detectron2's
_BOXES_A_SIZE = 5  # at least
_ROUNDS = 100  # k-means on one axis ends long before


def resolve_anchors(cfg: CfgNode, images: Sequence[dict], stored: str | Path | None = None) -> None:
    """Set MODEL.ANCHOR_GENERATOR as CXR.ANCHORS says, and log it.

    Args:
        cfg: changed in place.
        images: dataset dicts with boxes, of training.
        stored: config.yaml of the run that is resumed, whose anchors are kept; None fits them.

    Raises:
        ValueError: too few boxes, or anchors of another detector than Faster R-CNN.
    """
    if cfg.CXR.ANCHORS == "fixed":
        return
    if stored is not None and Path(stored).is_file():
        _take(cfg.MODEL.ANCHOR_GENERATOR, load_yaml(stored))
        return
    boxes = _at_network_size(images, max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN)
    levels = cfg.MODEL.RPN.IN_FEATURES
    least = _BOXES_A_SIZE * len(levels)
    if len(boxes) < least:
        raise ValueError(
            f"CXR.ANCHORS auto: {len(boxes)} training boxes are too few to fit {len(levels)} anchor sizes; "
            f"{least} are needed: set CXR.ANCHORS fixed, or label more images"
        )
    sizes, ratios = fit(boxes, len(levels), _RATIOS)
    generator = cfg.MODEL.ANCHOR_GENERATOR
    before = mean_best_iou(boxes, list(chain(*generator.SIZES)), list(chain(*generator.ASPECT_RATIOS)))
    generator.SIZES, generator.ASPECT_RATIOS = [[size] for size in sizes], [ratios]
    logger.info(
        "anchors fitted to %d training boxes: %s px, height/width %s; mean best IoU with the boxes %.2f (%.2f with the "
        "anchors of the config)",
        len(boxes),
        ", ".join(f"{level} {size:g}" for level, size in zip(levels, sizes, strict=True)),
        ", ".join(f"{ratio:g}" for ratio in ratios),
        mean_best_iou(boxes, sizes, ratios),
        before,
    )


def take_from_card(cfg: CfgNode, card: WeightsCard | None, source: str) -> None:
    """Set the anchors that a detector was trained with, where CXR.ANCHORS is auto.

    Raises:
        ValueError: the file does not state them.
    """
    if cfg.CXR.ANCHORS == "fixed":
        return
    if card is None or not card.config:
        raise ValueError(
            f"CXR.ANCHORS auto: {source} does not say which anchors it was trained with; state them in "
            "MODEL.ANCHOR_GENERATOR and set CXR.ANCHORS fixed"
        )
    _take(cfg.MODEL.ANCHOR_GENERATOR, yaml.safe_load(card.config))


def fit(boxes: np.ndarray, sizes: int, ratios: int) -> tuple[list[float], list[float]]:
    """Return anchor sizes (square root of the area, px) and ratios (height / width), each rising.

    Args:
        boxes: (N, 2), widths and heights above 0, px.
        sizes: how many.
        ratios: how many.
    """
    width, height = np.log(np.asarray(boxes, dtype=float)).T
    found_sizes = np.exp(_centers((width + height) / 2, sizes))
    found_ratios = np.exp(_centers(height - width, ratios))
    return [round(float(size), 1) for size in found_sizes], [round(float(ratio), 2) for ratio in found_ratios]


def mean_best_iou(boxes: np.ndarray, sizes: Sequence[float], ratios: Sequence[float]) -> float:
    """Return the mean over boxes (N, 2) of the best IoU with an anchor of the same center."""
    shapes = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios]
    return float(pairwise_iou(_about_zero(boxes), _about_zero(np.array(shapes))).max(axis=1).mean())


def _centers(values: np.ndarray, number: int) -> np.ndarray:
    """Return the rising centers of k-means on one axis, which begins at the middles of equal parts of the values."""
    centers = np.quantile(values, (np.arange(number) + 0.5) / number)
    for _ in range(_ROUNDS):
        nearest = np.abs(values[:, None] - centers).argmin(axis=1)
        moved = [values[nearest == i].mean() if (nearest == i).any() else centers[i] for i in range(number)]
        if np.allclose(moved, centers):
            break
        centers = np.array(moved)
    return centers


def _at_network_size(images: Sequence[dict], short: int, longest: int) -> np.ndarray:
    """Return widths and heights (N, 2) of the images' boxes in pixels of the network's input."""
    found = [np.zeros((0, 2))]
    for image in images:
        shape = image["height"], image["width"]
        height, width = ResizeShortestEdge.get_output_shape(*shape, short, longest) if short else shape
        boxes = compact(image)["boxes"]
        found.append((boxes[:, 2:] - boxes[:, :2]) * [width / image["width"], height / image["height"]])
    sides = np.concatenate(found)
    return sides[(sides > 0).all(axis=1)]


def _about_zero(sides: np.ndarray) -> np.ndarray:
    return np.concatenate([-sides / 2, sides / 2], axis=1)


def _take(generator: CfgNode, config: Mapping) -> None:
    theirs = config["MODEL"]["ANCHOR_GENERATOR"]
    generator.SIZES, generator.ASPECT_RATIOS = theirs["SIZES"], theirs["ASPECT_RATIOS"]
