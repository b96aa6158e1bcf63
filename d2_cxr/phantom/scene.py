"""A person on film: outlines become densities, kept in layers that findings can change before they are added up.

The image is a sum along the beam, as in a real radiograph: soft tissue and bone add density, air in the lungs takes it
away, vessels show only where there is air around them. So an effusion is drawn by removing air, a pneumothorax by
removing vessels, a consolidation by adding water.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from d2_cxr.phantom import anatomy
from d2_cxr.phantom.anatomy import SIDES, Body
from d2_cxr.phantom.canvas import Frame, band, blurred, closed_curve, fill, open_curve, smooth_noise, soft_mask, stroke

_AIR = 0.66  # share of the density that a full depth of air takes away


@dataclass
class Scene:
    """The layers of one film, float32 (H, W); lengths in pixels, `unit` pixels are one body unit."""

    body: Body
    frame: Frame
    soft: np.ndarray  # soft tissue of the trunk
    air: np.ndarray  # depth of air, 0 to 1
    markings: np.ndarray  # vessels, seen against air
    bone: np.ndarray
    water: np.ndarray  # what findings add
    lungs: dict[str, np.ndarray] = field(default_factory=dict)  # side -> outline in pixels
    visible: dict[str, np.ndarray] = field(default_factory=dict)  # side -> uint8 mask of lung beside heart and aorta

    @property
    def shape(self) -> tuple[int, int]:
        return (self.frame.height, self.frame.width)

    @property
    def unit(self) -> float:
        return self.frame.scale

    def outline(self, points) -> np.ndarray:
        """Body units (already stretched) -> pixels."""
        return self.frame.to_pixels(points)

    def density(self) -> np.ndarray:
        """Add the layers up."""
        wet = np.clip(self.water, 0, None)
        air = self.air * np.clip(1 - 0.85 * wet, 0, 1)
        return self.soft * (1 - _AIR * air) + self.bone + 0.16 * wet + self.markings * np.minimum(1.0, 1.6 * self.air)


def draw_scene(rng: np.random.Generator, body: Body, frame: Frame) -> Scene:
    """Draw a healthy person's layers; the size of heart and aorta is the body's."""
    shape = (frame.height, frame.width)
    zeros = np.zeros(shape, np.float32)
    scene = Scene(body, frame, soft=zeros, air=zeros, markings=zeros, bone=zeros, water=zeros.copy())
    scene.lungs = {side: frame.to_pixels(anatomy.lung(body, side)) for side in SIDES}
    scene.soft = _soft_tissue(rng, scene)
    scene.air = _air(rng, scene)
    scene.markings = _markings(rng, scene)
    scene.bone = _bones(rng, scene)
    return scene


def _soft_tissue(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    body, unit, shape = scene.body, scene.unit, scene.shape
    torso = scene.outline(anatomy.torso(body))
    skin = soft_mask(shape, [torso], 0.015 * unit)
    round_body = soft_mask(shape, [torso], 0.22 * unit)
    soft = skin * (0.25 + 0.75 * np.clip(round_body * 1.15 - 0.15, 0, 1))
    below = np.array([(-2.5, 2.6), (-2.5, 0.95), (-0.9, body.dome[0] + 0.1), (0, 0.9), (0.9, body.dome[1] + 0.1)])
    below = np.vstack([below, [(2.5, 0.95), (2.5, 2.6)]])
    soft += 0.16 * skin * soft_mask(shape, [scene.outline(anatomy.stretch(body, below))], 0.12 * unit)
    soft += 0.10 * soft_mask(shape, [scene.outline(anatomy.pedicle(body))], 0.02 * unit)
    soft += 0.15 * soft_mask(shape, [scene.outline(anatomy.heart(body))], 0.018 * unit)
    soft += 0.09 * soft_mask(shape, [scene.outline(anatomy.knob(body))], 0.012 * unit)
    soft += 0.08 * soft_mask(shape, [scene.outline(band(anatomy.descending_aorta(body), 0.17))], 0.015 * unit)
    soft += 0.035 * skin * smooth_noise(rng, shape, 0.45 * unit)
    if body.breast:
        soft += 0.11 * body.breast * _breasts(rng, scene)
    if body.bubble[2]:
        soft -= 0.34 * body.bubble[2] * _bubble(rng, scene)
    for _ in range(int(rng.integers(0, 4))):  # gas in the colon
        center = anatomy.stretch(body, [(rng.uniform(-0.9, 0.9), body.dome[1] + rng.uniform(0.45, 0.9))])[0]
        loop = closed_curve(center + rng.uniform(0.03, 0.16, (6, 1)) * _circle(6))
        soft -= rng.uniform(0.06, 0.2) * soft_mask(shape, [scene.outline(loop)], 0.02 * unit)
    return np.clip(soft, 0, None)


def _circle(count: int) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _breasts(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    low = rng.uniform(0.35, 0.75)
    polygons = []
    for sign in SIDES.values():
        wide, tall = rng.uniform(0.42, 0.52), rng.uniform(0.38, 0.5)
        shape = _circle(12) * [wide, tall] + [0.62, low - tall + rng.uniform(-0.04, 0.04)]
        shape[:, 1] = np.where(shape[:, 1] < low - tall, shape[:, 1] - 0.25, shape[:, 1])
        polygons.append(scene.outline(anatomy.stretch(scene.body, closed_curve(shape * [sign, 1]))))
    sharp = soft_mask(scene.shape, polygons, 0.03 * scene.unit)
    return sharp * (0.3 + 0.7 * soft_mask(scene.shape, polygons, 0.16 * scene.unit))


def _bubble(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    x, size, _ = scene.body.bubble
    points = _circle(10) * [size * rng.uniform(0.9, 1.5), size * 0.75] + [x, scene.body.dome[1] + 0.07 + 0.8 * size]
    if rng.random() < 0.5:  # standing: a fluid level
        points[:, 1] = np.minimum(points[:, 1], scene.body.dome[1] + 0.07 + 1.1 * size)
    return soft_mask(
        scene.shape, [scene.outline(anatomy.stretch(scene.body, closed_curve(points)))], 0.016 * scene.unit
    )


def _air(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    body, unit, shape = scene.body, scene.unit, scene.shape
    polygons = list(scene.lungs.values())
    sharp = soft_mask(shape, polygons, 0.010 * unit)
    deep = soft_mask(shape, polygons, 0.17 * unit)
    air = sharp * np.clip(0.42 + 0.68 * deep * deep, 0, 1)
    solid = [scene.outline(anatomy.heart(body)), scene.outline(anatomy.pedicle(body))]
    heart = soft_mask(shape, solid, 0.013 * unit)
    knob = soft_mask(shape, [scene.outline(anatomy.knob(body))], 0.009 * unit)
    aorta = soft_mask(shape, [scene.outline(band(anatomy.descending_aorta(body), 0.17))], 0.012 * unit)
    air *= (1 - 0.90 * heart) * (1 - 0.82 * knob) * (1 - 0.35 * aorta)
    air *= 1 + 0.07 * smooth_noise(rng, shape, 0.30 * unit)
    for side, polygon in scene.lungs.items():
        mask = np.zeros(shape, np.uint8)
        fill(mask, polygon)
        mask[(heart > 0.5) | (knob > 0.5)] = 0
        scene.visible[side] = mask
    windpipe = np.array([(0.02, -1.7), (0.015, -1.0), (-0.02, -0.6), (-0.03, -0.32)])
    bronchi = [open_curve([(-0.03, -0.36), (-0.12, -0.2), (-0.28, -0.05)]), open_curve([(-0.03, -0.36), (0.3, -0.12)])]
    shadows = [band(open_curve(windpipe), 0.115), *(band(line, 0.07) for line in bronchi)]
    shadows = [scene.outline(anatomy.stretch(body, shadow)) for shadow in shadows]
    return np.clip(air + 0.17 * soft_mask(shape, shadows, 0.014 * unit), 0, 1)


def _markings(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Vessels that branch from the hila outwards, thinner and fainter; 4 to 8 generations of short strokes."""
    canvas = np.zeros(scene.shape, np.uint8)
    fine = np.zeros(scene.shape, np.uint8)
    for side, sign in SIDES.items():
        hilum = np.array([0.20 + rng.uniform(-0.02, 0.04), -0.06 if side == "left" else 0.02])
        for direction in np.linspace(-1.45, 1.35, 13) + rng.uniform(-0.12, 0.12, 13):
            width = rng.uniform(0.028, 0.050)
            _branch(rng, scene, (canvas, fine), hilum, float(direction), width, sign, 0)
        hub = hilum + rng.uniform(-0.05, 0.05, (5, 2)) * [0.6, 2.2]
        for center in hub:
            spot = closed_curve(center + _circle(6) * rng.uniform(0.025, 0.065, (6, 1)))
            fill(canvas, scene.outline(anatomy.stretch(scene.body, spot * [sign, 1])), 150)
    unit = scene.unit
    coarse = blurred(canvas.astype(np.float32), 0.010 * unit) * (0.30 / 255)
    coarse += blurred(fine.astype(np.float32), 0.004 * unit) * (0.17 / 255)
    grain = smooth_noise(rng, scene.shape, max(1.5, 0.016 * unit)) * 0.012
    return coarse + grain + smooth_noise(rng, scene.shape, 0.05 * unit) * 0.014


def _branch(rng, scene: Scene, canvases, start, direction: float, width: float, sign: float, depth: int) -> None:
    steps = rng.uniform(0.6, 1.2, 3) * (0.13, 0.11, 0.085, 0.07)[min(depth, 3)]
    turns = direction + np.cumsum(rng.normal(0, 0.16, 3))
    line = start + np.vstack([[0, 0], np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * steps[:, None], axis=0)])
    pixels = scene.outline(anatomy.stretch(scene.body, line * [sign, 1]))
    canvas = canvases[0] if width > 0.016 else canvases[1]
    stroke(canvas, pixels, width * scene.unit, min(255, 90 + 4500 * width))
    if depth >= 4 or width < 0.006:
        return
    for _ in range(2):
        child = float(turns[-1] + rng.normal(0, 0.38))
        _branch(rng, scene, canvases, line[-1 - int(rng.integers(0, 2))], child, width * 0.68, sign, depth + 1)


def _bones(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    body, shape, unit = scene.body, scene.shape, scene.unit
    strength = rng.uniform(0.75, 1.25)
    bone = np.zeros(shape, np.float32)
    behind = [anatomy.posterior_rib(body, index, side) for side in SIDES for index in range(10)]
    front = [anatomy.anterior_rib(body, index, side) for side in SIDES for index in range(7)]
    bone += _tubes(scene, behind, body.rib_width, 0.085 * strength, 0.055 * strength)
    bone += _tubes(scene, front, body.rib_width * 1.15, 0.050 * strength, 0.030 * strength)
    clavicles = [anatomy.clavicle(body, side) for side in SIDES]
    bone += _tubes(scene, clavicles, 0.085, 0.10 * strength, 0.07 * strength)
    for side, sign in SIDES.items():
        blade = scene.outline(anatomy.scapula(body, side))
        bone += 0.06 * strength * soft_mask(shape, [blade], 0.012 * unit)
        head = _circle(16) * 0.19 + [1.36 + body.arms, -0.86]
        shaft = band(open_curve([(1.44 + body.arms, -0.85), (1.55, -0.2), (1.60, 0.6)]), 0.2)
        arm = [scene.outline(anatomy.stretch(body, part * [sign, 1])) for part in (head, shaft)]
        bone += 0.14 * strength * soft_mask(shape, arm, 0.014 * unit)
    return bone + _spine(rng, scene) * strength


def _tubes(scene: Scene, lines, width: float, inside: float, edge: float) -> np.ndarray:
    """Hollow bones: a band with brighter borders, because the beam runs along the cortex there."""
    filled, borders = (np.zeros(scene.shape, np.uint8) for _ in range(2))
    for line in lines:
        outline = scene.outline(band(line, width))
        fill(filled, outline)
        stroke(borders, outline, 0.014 * scene.unit, closed=True)
    soft = cv2.addWeighted(filled, inside / (inside + edge), borders, edge / (inside + edge), 0)
    return blurred(soft.astype(np.float32), 0.008 * scene.unit) * ((inside + edge) / 255)


def _spine(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    body, unit = scene.body, scene.unit
    column, bodies, processes = (np.zeros(scene.shape, np.uint8) for _ in range(3))
    y = np.linspace(-1.8, 2.2, 24)
    line = np.stack([anatomy.spine_x(body, y), y], axis=1)
    fill(column, scene.outline(anatomy.stretch(body, band(line, 0.23 + 0.03 * np.clip(y, 0, 1)))))
    gap, height = 0.165, rng.uniform(-1.7, -1.55)
    while height < 2.0:
        center = np.array([float(anatomy.spine_x(body, height)), height])
        half = 0.105 + 0.012 * max(0.0, height)
        corners = [(-half, -0.06), (0, -0.055), (half, -0.06), (half * 0.9, 0), (half, 0.06), (0, 0.055)]
        corners += [(-half, 0.06), (-half * 0.9, 0)]
        fill(bodies, scene.outline(anatomy.stretch(body, closed_curve(center + np.array(corners), 4))))
        for sign in (-1, 1):
            stroke(
                processes,
                scene.outline(anatomy.stretch(body, center + _circle(10) * 0.022 + [sign * 0.068, -0.01])),
                0.012 * unit,
                closed=True,
            )
        tip = closed_curve(center + _circle(8) * [0.018, 0.045] + [0, 0.05])
        fill(processes, scene.outline(anatomy.stretch(body, tip)), 190)
        height += gap
    soft = column.astype(np.float32) * 0.07 + bodies * np.float32(0.055) + processes * np.float32(0.045)
    return blurred(soft, 0.010 * unit) / 255
