"""One finding on an image, and the functions that all findings use to draw in local windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from d2_cxr.projects.phantom_cxr.canvas import blurred, extent, filled, smooth_noise
from d2_cxr.projects.phantom_cxr.scene import Scene


@dataclass(frozen=True)
class Finding:
    """A class, its box (1, 4) XYXY in pixels of the image, and how easily a reader sees it (0 hardly, 1 at once)."""

    class_name: str
    box_xyxy: np.ndarray
    conspicuity: float


def place(rng: np.random.Generator, scene: Scene, radius: float, side: str | None = None, zone=(0.0, 1.0)):
    """Return a pixel point in visible lung with most of `radius` (pixels) around it in lung, or None after 40 trials.

    `zone` is the part of the lung's height to choose from: 0 is the apex, 1 the angle.
    """
    side = side or ("right", "left")[int(rng.integers(2))]
    mask, (x0, y0, x1, y1) = scene.visible[side], extent(scene.lungs[side])
    reach = 0.75 * radius
    ring = np.array([(0, 0), (reach, 0), (-reach, 0), (0, reach), (0, -reach)])
    for _ in range(40):
        point = np.array([rng.uniform(x0, x1), y0 + rng.uniform(*zone) * (y1 - y0)])
        spots = np.floor(point + ring).astype(int)
        inside = (spots >= 0).all() and (spots < [mask.shape[1], mask.shape[0]]).all()
        if inside and mask[spots[:, 1], spots[:, 0]].min() > 127:
            return point
    return None


def window(shape: tuple[int, int], box: np.ndarray, margin: float) -> tuple[slice, slice] | None:
    """Return the rows and columns around a box (4,), clipped to the image, or None if it is outside."""
    x0, y0 = (max(0, int(value - margin)) for value in box[:2])
    x1, y1 = min(shape[1], int(box[2] + margin) + 1), min(shape[0], int(box[3] + margin) + 1)
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def local_mask(scene: Scene, polygons, blur: float):
    """Return (rows and columns, float32 mask in [0, 1]) of pixel polygons, or (None, None) if outside the image."""
    place_ = window(scene.shape, extent(np.vstack(polygons)), 3 * blur + 2)
    if place_ is None:
        return None, None
    rows, columns = place_
    corner = [columns.start, rows.start]
    mask = filled((rows.stop - rows.start, columns.stop - columns.start), [one - corner for one in polygons])
    return place_, blurred(mask.astype(np.float32) / 255, blur)


def add_water(scene: Scene, polygons, strength: float, blur: float, texture: float = 0.0) -> None:
    """Add water of `strength` (1: as dense as the heart) inside pixel polygons; `texture` makes it patchy."""
    where, mask = local_mask(scene, polygons, blur)
    if where is None:
        return
    if texture:
        patches = smooth_noise(scene.grain, mask.shape, 0.09 * scene.unit) + 0.35 * smooth_noise(
            scene.grain, mask.shape, 0.03 * scene.unit
        )
        mask = mask * np.clip(1 + texture * patches, 0, 1.6)
    scene.water[where] += np.float32(strength) * mask
