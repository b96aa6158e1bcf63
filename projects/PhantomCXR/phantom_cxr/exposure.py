"""Densities -> the picture of an X-ray detector and its workstation: scatter, tone curve, noise, edges, markers.

Values are those after the grayscale transform: 0 black (air outside the body), 1 white.
"""

from __future__ import annotations

import cv2
import numpy as np
from d2_cxr.projects.phantom_cxr.canvas import blurred, open_curve


def draw_frame(rng: np.random.Generator, size: int) -> tuple[int, int, float, tuple[float, float], float]:
    """Draw an image's format and the position of the person in it.

    Returns:
        height, width (the longer is `size`), pixels per body unit, center in pixels, angle in radians.
    """
    kind = rng.random()
    aspect = rng.uniform(0.78, 0.90) if kind < 0.66 else 1.0 if kind < 0.90 else rng.uniform(1.05, 1.2)
    height, width = (size, round(size * aspect)) if aspect <= 1 else (round(size / aspect), size)
    scale = min(width * rng.uniform(0.365, 0.455), height * rng.uniform(0.36, 0.435))
    center = (width * (0.5 + rng.uniform(-0.05, 0.05)), height * (0.47 + rng.uniform(-0.045, 0.045)))
    return height, width, scale, center, float(np.deg2rad(np.clip(rng.normal(0, 2.2), -6, 6)))


def expose(rng: np.random.Generator, density: np.ndarray, unit: float) -> np.ndarray:
    """Return the image of a density map: float32 (H, W) in [0, 1]."""
    shape = density.shape
    veil = rng.uniform(0.0, 0.16)  # scattered radiation: less contrast, most behind thick parts
    small = cv2.resize(density, (max(8, shape[1] // 16), max(8, shape[0] // 16)), interpolation=cv2.INTER_AREA)
    scatter = cv2.resize(blurred(small, 0.25 * unit / 16), (shape[1], shape[0]))
    image = density * (1 - veil) + veil * scatter
    image += rng.uniform(-0.05, 0.05) * np.linspace(-1, 1, shape[1], dtype=np.float32)[None]  # heel effect
    middle, slope = rng.uniform(0.56, 0.78), rng.uniform(3.4, 5.0)
    floor = 1 / (1 + np.exp(slope * middle))
    image = (1 / (1 + np.exp(slope * (middle - image))) - floor) / (1 - floor)  # S-shaped tone curve
    image += rng.uniform(0.15, 0.55) * (image - blurred(image, 0.02 * unit))  # edge enhancement
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = 0.6 * noise + blurred(noise, 0.8)
    image += rng.uniform(0.004, 0.016) * noise * (0.5 + image)  # fewer photons pass dense parts
    return np.clip(image, 0, 1)


def finish(rng: np.random.Generator, image: np.ndarray, unit: float) -> np.ndarray:
    """Add what real images also show: wires, a side marker, the collimator's border."""
    image = np.ascontiguousarray(image, dtype=np.float32)
    if rng.random() < 0.15:
        _wires(rng, image, unit)
    if rng.random() < 0.40:
        _collimate(rng, image)
    if rng.random() < 0.75:
        _marker(rng, image)
    return image


def _wires(rng: np.random.Generator, image: np.ndarray, unit: float) -> None:
    height, width = image.shape
    layer = np.zeros(image.shape, np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        x = np.cumsum(rng.normal(0, 0.06, 7)) * width + rng.uniform(0.2, 0.8) * width
        y = np.linspace(-0.05, rng.uniform(0.4, 1.05), 7) * height
        points = np.rint(open_curve(np.stack([x, y], axis=1)) * 16).astype(np.int32)[:, None]
        cv2.polylines(layer, [points], False, 200, max(1, round(0.009 * unit)), cv2.LINE_AA, 4)
        cv2.circle(layer, tuple(int(v) // 16 for v in points[-1, 0]), max(2, round(0.03 * unit)), 255, -1, cv2.LINE_AA)
    image += (0.16 / 255) * blurred(layer.astype(np.float32), 0.7)
    np.clip(image, 0, 1, out=image)


def _collimate(rng: np.random.Generator, image: np.ndarray) -> None:
    height, width = image.shape
    margins = rng.uniform(0.0, 0.05, 4) * (rng.random(4) < 0.6)
    tilt = np.clip(rng.normal(0, 0.008), -0.02, 0.02)
    left, top, right, bottom = margins * [width, height, width, height]
    dx, dy = tilt * height, tilt * width
    corners = [(left + dx, top), (width - right + dx, top + dy), (width - right - dx, height - bottom + dy)]
    corners.append((left - dx, height - bottom))
    inside = np.zeros(image.shape, np.uint8)
    cv2.fillPoly(inside, [np.rint(np.array(corners) * 16).astype(np.int32)[:, None]], 255, cv2.LINE_AA, 4)
    image *= inside.astype(np.float32) / 255


def _marker(rng: np.random.Generator, image: np.ndarray) -> None:
    height, width = image.shape
    side = "R" if rng.random() < 0.6 else "L"
    size = rng.uniform(0.03, 0.05) * height
    x = rng.uniform(0.02, 0.09) * width if side == "R" else width * rng.uniform(0.88, 0.94)
    y = rng.uniform(0.06, 0.2) * height + size
    layer = np.zeros(image.shape, np.uint8)
    cv2.putText(layer, side, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, size / 22, 255, max(1, round(size / 8)))
    np.maximum(image, layer.astype(np.float32) * (rng.uniform(0.75, 1.0) / 255), out=image)
