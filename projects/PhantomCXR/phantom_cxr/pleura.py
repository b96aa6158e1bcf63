"""Findings of the pleura: effusion, thickening, pneumothorax. They change the outline of the air, not its texture."""

from __future__ import annotations

import cv2
import numpy as np
from d2_cxr.projects.phantom_cxr import anatomy
from d2_cxr.projects.phantom_cxr.anatomy import SIDES
from d2_cxr.projects.phantom_cxr.canvas import blurred, extent, filled, open_curve, stroke
from d2_cxr.projects.phantom_cxr.finding import Finding, add_water, local_mask, window
from d2_cxr.projects.phantom_cxr.scene import Scene


def _sides(rng: np.random.Generator, both: float) -> list[str]:
    """Draw one side, or both with probability `both`."""
    first = ("right", "left")[int(rng.integers(2))]
    return [first, "left" if first == "right" else "right"] if rng.random() < both else [first]


def effusion(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw fluid that fills the angle and rises along the lateral wall in a meniscus."""
    found = []
    for side in _sides(rng, both=0.35):
        body = scene.body
        angle = body.dome[0 if side == "right" else 1] + body.angle_depth
        depth = rng.uniform(0.26, 0.48) if rng.random() < 0.55 else rng.uniform(0.48, 1.0)
        level = angle - depth
        sag = min(0.9 * depth, rng.uniform(0.14, 0.26))
        surface = [
            (1.3, level - 0.10),
            (0.95, level),
            (0.78, level + 0.6 * sag),
            (0.5, level + sag),
            (0.0, level + sag),
        ]
        below = np.vstack([open_curve(surface), [(0.0, 2.5), (1.3, 2.5)]]) * [SIDES[side], 1.0]
        region = _lung_inside(scene, side, scene.outline(anatomy.stretch(body, below)))
        box = _box(region)
        if box is None:
            continue
        _flood(scene, region, rng.uniform(1.4, 2.2))
        scene.visible[side] = np.minimum(scene.visible[side], 255 - region)
        found.append(Finding("Pleural effusion", box[None], float(np.clip(0.35 + 0.7 * depth, 0, 1))))
    return found


def _lung_inside(scene: Scene, side: str, polygon: np.ndarray) -> np.ndarray:
    """Return the uint8 mask (H, W) of a lung inside a pixel polygon."""
    return np.minimum(filled(scene.shape, [scene.lungs[side]]), filled(scene.shape, [polygon]))


def _box(region: np.ndarray) -> np.ndarray | None:
    """Return the box of a uint8 mask's values above 127, None if there are none."""
    x, y, width, height = cv2.boundingRect((region > 127).view(np.uint8))
    return np.array([x, y, x + width, y + height], dtype=np.float64) if width else None


def _flood(scene: Scene, region: np.ndarray, strength: float) -> None:
    where = window(scene.shape, _box(region), 0.05 * scene.unit)
    scene.water[where] += np.float32(strength / 255) * blurred(region[where].astype(np.float32), 0.014 * scene.unit)


def thickening(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw an apical cap, or a band along the lateral wall."""
    found = []
    for side in _sides(rng, both=0.3):
        outline = scene.lungs[side]
        if rng.random() < 0.6:
            found += _cap(rng, scene, side)
            continue
        wall = outline[40 : int(np.argmax(outline[:, 1]))]  # the lateral border, from below the apex to the angle
        start = int(rng.integers(0, len(wall) // 2))
        piece = wall[start : start + int(rng.integers(9, len(wall) // 2))]
        inward = np.array([-SIDES[side], 0.0]) * np.hanning(len(piece))[:, None] ** 0.5
        strip = np.vstack([piece, (piece + inward * rng.uniform(0.05, 0.11) * scene.unit)[::-1]])
        add_water(scene, [strip], rng.uniform(0.6, 0.9), 0.014 * scene.unit)
        found.append(Finding("Pleural thickening", extent(strip)[None], 0.45))
    return found


def _cap(rng: np.random.Generator, scene: Scene, side: str) -> list[Finding]:
    outline = scene.lungs[side]
    top = outline[np.argmin(outline[:, 1])]
    deep = rng.uniform(0.07, 0.17) * scene.unit
    x0, _, x1, _ = extent(outline)
    wave = np.linspace(x0 - 5, x1 + 5, 12)
    lower = top[1] + deep * (1 + 0.3 * rng.uniform(-1, 1, 12))
    region = _lung_inside(
        scene, side, np.vstack([np.stack([wave, lower], 1), [(x1 + 5, top[1] - 9), (x0 - 5, top[1] - 9)]])
    )
    box = _box(region)
    if box is None:
        return []
    _flood(scene, region, rng.uniform(0.65, 0.95))
    return [Finding("Pleural thickening", box[None], float(0.25 + 2 * deep / scene.unit))]


def pneumothorax(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw a lung shrunken towards its hilum: air without vessels outside it, and the line of the visceral pleura."""
    side = _sides(rng, both=0.0)[0]
    outline = scene.lungs[side]
    hilum = scene.outline(anatomy.stretch(scene.body, [(0.2 * SIDES[side], 0.0)]))[0]
    _, y0, _, y1 = extent(outline)
    down = np.clip((outline[:, 1] - y0) / (y1 - y0), 0, 1)
    shrink = rng.uniform(0.62, 0.86) + rng.uniform(0.0, 0.18) * down**2
    lateral = np.abs(outline[:, 0] - hilum[0]) > 0.12 * scene.unit
    shrunken = hilum + (outline - hilum) * np.where(lateral, np.minimum(shrink, 1), 1.0)[:, None]
    region = np.minimum(filled(scene.shape, [outline]), 255 - filled(scene.shape, [shrunken]))
    region = cv2.morphologyEx(region, cv2.MORPH_OPEN, np.ones((max(3, round(0.03 * scene.unit)),) * 2, np.uint8))
    region = np.minimum(region, scene.visible[side])
    box = _box(region)
    if box is None:
        return []
    mask = blurred(region.astype(np.float32) / 255, 0.006 * scene.unit)
    scene.markings *= 1 - mask
    scene.air = np.clip(scene.air * (1 + 0.35 * mask), 0, 1)
    line = np.zeros(scene.shape, np.uint8)
    stroke(line, shrunken, 0.014 * scene.unit, closed=True)
    near = cv2.dilate(region, np.ones((max(3, round(0.03 * scene.unit)),) * 2, np.uint8))
    scene.bone += np.float32(0.11 / 255) * blurred(np.minimum(line, near).astype(np.float32), 0.004 * scene.unit)
    where, rest = local_mask(scene, [shrunken], 0.02 * scene.unit)
    if where is not None:
        scene.water[where] += np.float32(0.12) * rest
    scene.visible[side] = np.minimum(scene.visible[side], 255 - region)
    return [Finding("Pneumothorax", box[None], 0.6)]
