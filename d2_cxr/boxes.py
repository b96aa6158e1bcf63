"""Box arithmetic: the one home of areas, IoU and frame-to-frame maps.

A box is continuous (x_min, y_min, x_max, y_max) in [0, W] x [0, H] of its image; there is no "+ 1".
XYWH exists only inside COCO JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


def as_boxes(boxes: ArrayLike) -> np.ndarray:
    """Return boxes as a float64 (N, 4) array, also when there are none.

    Raises:
        ValueError: the array cannot be read as N rows of four numbers.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {array.shape}")
    return array


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the area (N,) of boxes (N, 4) XYXY; 0 where a side is reversed."""
    boxes = as_boxes(boxes)
    return np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None)


def pairwise_intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection area (N, M) of boxes (N, 4) and others (M, 4), both XYXY."""
    boxes, others = as_boxes(boxes), as_boxes(others)
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (N, M) in [0, 1] of boxes (N, 4) and others (M, 4), both XYXY; 0 where both areas are 0."""
    intersection = pairwise_intersection(boxes, others)
    union = area(boxes)[:, None] + area(others)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def aligned_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (N,) in [0, 1] of boxes (N, 4) and others (N, 4) row by row, XYXY; 0 where both areas are 0."""
    boxes, others = as_boxes(boxes), as_boxes(others)
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    intersection = np.prod(np.clip(sides, 0, None), axis=1)
    union = area(boxes) + area(others) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def pairwise_iobb(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return intersection over the area of `boxes` (N, M) in [0, 1]; 0 where that area is 0.

    "Intersection over the detected bounding box", Wang et al. 2017, https://arxiv.org/abs/1705.02315.
    """
    intersection = pairwise_intersection(boxes, others)
    own = np.broadcast_to(area(boxes)[:, None], intersection.shape)
    return np.divide(intersection, own, out=np.zeros_like(intersection), where=own > 0)


def centers(boxes: np.ndarray) -> np.ndarray:
    """Return the centers (N, 2) as (x, y) of boxes (N, 4) XYXY."""
    boxes = as_boxes(boxes)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def xywh_to_xyxy(boxes: ArrayLike) -> np.ndarray:
    """(x, y, width, height) -> (x_min, y_min, x_max, y_max); inverse of `xyxy_to_xywh`."""
    corners = as_boxes(boxes).copy()
    corners[:, 2:] += corners[:, :2]
    return corners


def xyxy_to_xywh(boxes: ArrayLike) -> np.ndarray:
    """(x_min, y_min, x_max, y_max) -> (x, y, width, height); inverse of `xywh_to_xyxy`."""
    sized = as_boxes(boxes).copy()
    sized[:, 2:] -= sized[:, :2]
    return sized


def clip(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return boxes (N, 4) XYXY cut to [0, width] x [0, height]."""
    return np.clip(as_boxes(boxes), 0, [width, height, width, height])


@dataclass(frozen=True)
class BoxMap:
    """The way of a box from one frame to another: x' = x * scale_x + shift_x, and the same for y.

    `forward` goes from the source image's pixels to the prepared image's, `inverse` comes back.
    """

    scale_x: float
    scale_y: float
    shift_x: float = 0.0
    shift_y: float = 0.0

    def forward(self, boxes: np.ndarray) -> np.ndarray:
        """Source frame -> target frame, (N, 4) XYXY."""
        return as_boxes(boxes) * self._scale + self._shift

    def inverse(self, boxes: np.ndarray) -> np.ndarray:
        """Target frame -> source frame, (N, 4) XYXY."""
        return (as_boxes(boxes) - self._shift) / self._scale

    @property
    def _scale(self) -> np.ndarray:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    @property
    def _shift(self) -> np.ndarray:
        return np.array([self.shift_x, self.shift_y, self.shift_x, self.shift_y])
