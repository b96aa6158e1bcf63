"""The body of a phantom: what varies from person to person, and its outlines in body units.

Only geometry is here: `draw_scene` of `scene.py` turns it into densities. Proportions are those of an upright frontal
image: the heart is about 45 % of the inner width of the chest (more than half is cardiomegaly), the left dome is
lower than the right, the aortic knob is right of the spine in the image, the stomach bubble is under the left dome.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from d2_cxr.projects.phantom_cxr.canvas import closed_curve, open_curve
from numpy.typing import ArrayLike

SIDES = {"right": -1.0, "left": 1.0}  # of the patient; the patient's left is at the image's right
SIDES_ORDER = ("right", "left")


@dataclass(frozen=True)
class Body:
    """What varies from person to person; lengths in body units."""

    tall: float  # factor on y: long or short chests
    upper: float  # width of the rib cage at the apex, against its width at the base
    dome: tuple[float, float]  # y of the right and left diaphragm
    angle_depth: float  # from dome to costophrenic angle
    heart_ratio: float  # cardiothoracic ratio
    heart_turn: float  # fraction of the heart's width right of the patient's spine (image's left)
    heart_top: float
    knob_radius: float  # aortic arch
    knob_height: float
    knob_lateral: float  # how far the arch extends to the image's right
    unfolding: float  # how far the descending aorta curves outwards
    spine_bend: float
    rib_start: float
    rib_gap: float
    rib_slope: float
    rib_width: float
    fat: float  # soft tissue outside the rib cage
    breast: float  # 0: none
    arms: float  # distance of the shoulder blades from the lungs
    bubble: tuple[float, float, float]  # stomach bubble: x, size, lucency (0: none)


def draw_person(rng: np.random.Generator, wide_heart: bool, wide_aorta: bool) -> Body:
    """Draw a person at random; hearts and aortas vary within the normal and within the enlarged range."""
    uniform = rng.uniform
    right_dome = uniform(0.50, 0.82)
    return Body(
        tall=uniform(0.86, 1.10),
        upper=uniform(0.60, 0.80),
        dome=(right_dome, right_dome + uniform(0.02, 0.12)),
        angle_depth=uniform(0.22, 0.36),
        heart_ratio=uniform(0.51, 0.67) if wide_heart else uniform(0.37, 0.49),
        heart_turn=uniform(0.27, 0.42),
        heart_top=uniform(-0.10, 0.06),
        knob_radius=uniform(0.175, 0.26) if wide_aorta else uniform(0.11, 0.16),
        knob_height=uniform(-0.56, -0.36),
        knob_lateral=uniform(0.35, 0.75),
        unfolding=uniform(0.02, 0.15) if wide_aorta else uniform(0.0, 0.06),
        spine_bend=uniform(-0.05, 0.05),
        rib_start=uniform(-1.02, -0.94),
        rib_gap=uniform(0.160, 0.195),
        rib_slope=uniform(0.28, 0.50),
        rib_width=uniform(0.065, 0.09),
        fat=uniform(0.08, 0.30),
        breast=float(rng.random() < 0.45) * uniform(0.4, 1.0),
        arms=uniform(-0.12, 0.12),
        bubble=(uniform(0.35, 0.60), uniform(0.10, 0.24), float(rng.random() < 0.75) * uniform(0.4, 1.0)),
    )


def cage_width(body: Body, y: ArrayLike) -> np.ndarray:
    """Return the inner half width of the rib cage at height y (body units, before `tall`)."""
    rise = np.clip((np.asarray(y, dtype=np.float64) + 1.02) / 1.7, 0, 1)
    return body.upper * 0.80 + (1.0 - body.upper * 0.80) * np.sin(rise * np.pi / 2) ** 0.85


def stretch(body: Body, points: ArrayLike) -> np.ndarray:
    """Apply the person's height to points (N, 2)."""
    return np.asarray(points, dtype=np.float64) * [1.0, body.tall]


def lung(body: Body, side: str) -> np.ndarray:
    """Return the outline of a lung (M, 2): medial border, apex, lateral wall, a sharp angle, the diaphragm."""
    dome = body.dome[0 if side == "right" else 1]
    angle = dome + body.angle_depth
    heights = np.array([-0.72, -0.45, -0.1, 0.3, 0.65])
    wall = [(0.97 * float(cage_width(body, y)), y) for y in heights if y < angle - 0.15]
    top = float(cage_width(body, -0.9))
    lateral = [(0.14, -0.62), (0.17, -0.84), (0.30, -0.98), (0.26 + top * 0.28, -0.985), (top * 0.94, -0.84), *wall]
    lateral.append((0.975 * float(cage_width(body, angle)), angle))
    floor = [(0.985, angle), (0.80, dome + 0.12), (0.56, dome + 0.01), (0.36, dome + 0.005), (0.10, dome + 0.11)]
    outline = np.vstack([open_curve(lateral), open_curve(floor)[1:]])
    return stretch(body, outline * [SIDES[side], 1.0])


def heart(body: Body) -> np.ndarray:
    """Return the outline of the heart; its width is `heart_ratio` of the chest's inner width."""
    right = 2 * body.heart_ratio * body.heart_turn
    left = 2 * body.heart_ratio - right
    top, bottom = body.heart_top, body.dome[1] + 0.08
    tall = bottom - top
    points = [
        (-0.10, top + 0.02),
        (-0.72 * right, top + 0.22 * tall),
        (-right, top + 0.55 * tall),
        (-0.86 * right, top + 0.86 * tall),
        (-0.25 * right, bottom + 0.02),
        (0.45 * left, bottom + 0.04),
        (0.88 * left, bottom - 0.02),
        (left, bottom - 0.20 * tall),
        (0.84 * left, top + 0.46 * tall),
        (0.50 * left, top + 0.16 * tall),
        (0.16, top - 0.02),
    ]
    return stretch(body, closed_curve(points))


def knob(body: Body) -> np.ndarray:
    """Return the outline of the aortic arch; most of it is right of the spine in the image."""
    radius = body.knob_radius
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = np.cos(turn), np.sin(turn)
    tall = np.where(sin > 0, 1.25, 1.0)  # round above, longer below, where the descending aorta begins
    center = np.array([0.04 + radius * body.knob_lateral, body.knob_height])
    return stretch(body, center + radius * np.stack([np.sign(cos) * np.abs(cos) ** 0.8, tall * sin], axis=1))


def descending_aorta(body: Body) -> np.ndarray:
    """Return the center line of the descending aorta, from the arch to the diaphragm."""
    start = 0.04 + body.knob_radius * body.knob_lateral
    y = np.array([body.knob_height, -0.2, 0.1, 0.4, body.dome[1] + 0.3])
    x = [start, 0.13 + 0.5 * body.unfolding, 0.13 + body.unfolding, 0.10 + 0.6 * body.unfolding, 0.05]
    return stretch(body, open_curve(np.stack([x, y], axis=1)))


def pedicle(body: Body) -> np.ndarray:
    """Return the upper mediastinum: great vessels from the neck down to the heart."""
    y = body.heart_top
    points = [(-0.13, -1.6), (-0.15, -0.9), (-0.17, -0.5), (-0.20, y + 0.15), (0.22, y + 0.15), (0.19, y - 0.1)]
    return stretch(body, open_curve([*points, (0.13, -0.4), (0.15, -0.9), (0.13, -1.6)]))


def spine_x(body: Body, y: ArrayLike) -> np.ndarray:
    """Return the x of the spine's center line at each y, in body units."""
    return body.spine_bend * np.sin(np.asarray(y) * 1.6)


def posterior_rib(body: Body, index: int, side: str) -> np.ndarray:
    """Return the center line of the back part of a rib (0 is the first), from the spine to the lateral wall."""
    y = body.rib_start + index * body.rib_gap
    slope = body.rib_slope * min(1.0, 0.45 + 0.16 * index)
    end = y + slope
    edge = float(cage_width(body, end)) * 0.985
    points = [
        (0.11, y),
        (0.11 + 0.25 * (edge - 0.11), y - 0.035 + 0.03 * slope),
        (0.11 + 0.58 * (edge - 0.11), y + 0.22 * slope),
        (0.11 + 0.87 * (edge - 0.11), y + 0.58 * slope),
        (0.11 + 0.97 * (edge - 0.11), y + 0.82 * slope),
        (edge, end),
    ]
    return stretch(body, open_curve(points) * [SIDES[side], 1.0])


def anterior_rib(body: Body, index: int, side: str) -> np.ndarray:
    """Return the center line of the front part of a rib, from the lateral wall down to its cartilage."""
    y = body.rib_start + index * body.rib_gap + body.rib_slope * min(1.0, 0.45 + 0.16 * index)
    edge = float(cage_width(body, y)) * 0.985
    drop = 0.20 + 0.035 * index
    inner = 0.26 + 0.035 * index
    points = [(edge, y), (edge * 0.985, y + 0.09), (edge - 0.16, y + 0.72 * drop), (inner, y + drop)]
    return stretch(body, open_curve(points) * [SIDES[side], 1.0])


def clavicle(body: Body, side: str) -> np.ndarray:
    """Return the center line of a clavicle."""
    rise = body.arms * 0.6
    points = [(0.10, -0.63), (0.30, -0.72), (0.62, -0.77 - rise), (0.95, -0.91 - rise), (1.30, -0.98 - rise)]
    return stretch(body, open_curve(np.array(points) * [SIDES[side], 1.0]))


def scapula(body: Body, side: str) -> np.ndarray:
    """Return the outline of a scapula."""
    shift = 0.10 + body.arms
    points = [(0.82, -0.80), (1.15, -0.82), (1.22, -0.62), (1.06, -0.15), (0.98, 0.12), (0.92, -0.05), (0.84, -0.5)]
    return stretch(body, closed_curve(np.add(points, [shift, 0]) * [SIDES[side], 1.0]))


def torso(body: Body) -> np.ndarray:
    """Return the outline of the skin: neck, shoulders (partly outside the image), flanks."""
    fat = body.fat
    half = [(0.36, -2.2), (0.36, -1.75), (0.42, -1.48), (0.70, -1.28), (1.10, -1.16), (1.50, -1.02), (1.80, -0.7)]
    half += [(1.86, -0.2), (1.80, 0.3), (1.48 + 0.5 * fat, 0.1), (1.22 + fat, -0.12), (1.14 + fat, 0.2)]
    half += [(1.08 + fat, 0.6), (1.07 + fat, 1.2), (1.10 + fat, 2.2)]
    half = open_curve(half, 5)
    return stretch(body, np.vstack([half, half[::-1] * [-1.0, 1.0]]))
