"""Drawing primitives of the phantom: curves in body units, soft masks and smooth fields in pixels.

A body unit is half the inner width of the rib cage (about 14 cm); x grows to the image's right, y downwards, the origin
is between the hila. `Frame` maps body units to pixels. Smooth shapes are drawn small and enlarged, because a wide
Gaussian filter at full size would take most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

_SUBPIXEL_BITS = 4  # cv2.fillPoly and cv2.polylines take fixed-point coordinates, so that masks are the same everywhere

# cv2.fillPoly also draws a smoothed line along the border, which widens a shape by most of a pixel; this corrects it.
_INNER_EDGE = np.clip((np.arange(256) - 165) * 3, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Frame:
    """Body units -> pixels: rotated by `angle` (radians), scaled by `scale` pixels per unit, `center` is the origin."""

    height: int
    width: int
    scale: float
    center: tuple[float, float]
    angle: float = 0.0

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (N, 2) body points to pixels, float64."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = np.asarray(points, dtype=np.float64) @ np.array([[cos, sin], [-sin, cos]])
        return turned * self.scale + np.asarray(self.center)


def open_curve(points: ArrayLike, per_segment: int = 8) -> np.ndarray:
    """Return a Catmull-Rom curve (M, 2) through open control points (N, 2)."""
    points = np.asarray(points, dtype=np.float64)
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    return np.vstack([_catmull_rom(padded, per_segment), points[-1]])


def closed_curve(points: ArrayLike, per_segment: int = 8) -> np.ndarray:
    """Return a Catmull-Rom curve (M, 2) through control points (N, 2), the last joined to the first."""
    points = np.asarray(points, dtype=np.float64)
    return _catmull_rom(np.vstack([points[-1], points, points[0], points[1]]), per_segment)


def _catmull_rom(padded: np.ndarray, per_segment: int) -> np.ndarray:
    t = np.linspace(0, 1, per_segment, endpoint=False)[:, None, None]
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def band(center_line: np.ndarray, widths: ArrayLike) -> np.ndarray:
    """Return the outline of a band of these full widths (one number, or one per point) around a line (N, 2)."""
    center_line = np.asarray(center_line, dtype=np.float64)
    along = np.gradient(center_line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    half = np.broadcast_to(np.asarray(widths, dtype=np.float64) / 2, (len(center_line),))[:, None]
    return np.vstack([center_line + normal * half, (center_line - normal * half)[::-1]])


def blob(
    rng: np.random.Generator, center: ArrayLike, radii: ArrayLike, roughness: float, lobes: int = 7, angle: float = 0.0
) -> np.ndarray:
    """Return an irregular closed outline (M, 2) around `center`: an ellipse whose radius varies by `roughness`."""
    turn = np.arange(lobes) * (2 * np.pi / lobes) + rng.uniform(0, 2 * np.pi)
    reach = 1 + roughness * rng.uniform(-1, 1, lobes)
    points = np.stack([np.cos(turn) * reach * radii[0], np.sin(turn) * reach * radii[1]], axis=1)
    cos, sin = np.cos(angle), np.sin(angle)
    return closed_curve(points @ np.array([[cos, sin], [-sin, cos]]) + np.asarray(center))


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Return pixel points (continuous, 0 at the image's edge) as OpenCV's fixed-point int32, shape (N, 1, 2)."""
    centers = np.asarray(points, dtype=np.float64) - 0.5  # OpenCV puts 0 at the first pixel's center
    return np.rint(centers * (1 << _SUBPIXEL_BITS)).astype(np.int32)[:, None]


def fill(canvas: np.ndarray, polygon: np.ndarray, value: float = 255) -> None:
    """Fill a polygon of pixel points in place."""
    cv2.fillPoly(canvas, [fixed_point(polygon)], value, cv2.LINE_AA, _SUBPIXEL_BITS)


def stroke(canvas: np.ndarray, line: np.ndarray, thickness: float, value: float = 255, closed: bool = False) -> None:
    """Draw a line of pixel points in place; thickness is rounded to whole pixels, at least 1."""
    width = max(1, round(thickness))
    cv2.polylines(canvas, [fixed_point(line)], closed, value, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def filled(shape: tuple[int, int], polygons: ArrayLike) -> np.ndarray:
    """Return a uint8 mask (H, W) of pixel polygons, with the polygons' area."""
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        fill(mask, polygon)
    return cv2.LUT(mask, _INNER_EDGE)


def soft_mask(shape: tuple[int, int], polygons: ArrayLike, blur: float) -> np.ndarray:
    """Return a float32 mask (H, W) in [0, 1] of filled pixel polygons with an edge of `blur` pixels (sigma)."""
    factor = 1
    while blur / (2 * factor) >= 1.2 and min(shape) // (2 * factor) >= 16:
        factor *= 2
    small = filled((-(-shape[0] // factor), -(-shape[1] // factor)), [np.asarray(one) / factor for one in polygons])
    return enlarge(blurred(small.astype(np.float32) / 255, blur / factor), shape)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image blurred by a Gaussian of `sigma` pixels; unchanged below 0.3."""
    return image if sigma < 0.3 else cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def enlarge(small: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return `small` resized bilinearly to (H, W)."""
    return small if small.shape == tuple(shape) else cv2.resize(small, (shape[1], shape[0]))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return a float32 field (H, W), about normally distributed, that varies over `cell` pixels."""
    rows, columns = (max(2, round(side / cell) + 2) for side in shape)
    small = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def extent(points: np.ndarray) -> np.ndarray:
    """Return the box (x_min, y_min, x_max, y_max) of points (N, 2)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
