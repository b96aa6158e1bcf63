"""A person in layers: outlines become densities, which findings can change before the layers are added up.

The image is a sum along the beam, as in a real radiograph: soft tissue and bone add density, air in the lungs removes
it, vessels are visible only where there is air around them. So an effusion is drawn by removing air, a pneumothorax by
removing vessels, a consolidation by adding water.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from d2_cxr.projects.phantom_cxr import anatomy
from d2_cxr.projects.phantom_cxr.anatomy import SIDES, Body
from d2_cxr.projects.phantom_cxr.canvas import (
    Frame,
    band,
    blob,
    blurred,
    closed_curve,
    fill,
    filled,
    open_curve,
    smooth_noise,
    soft_mask,
    stroke,
)

_AIR = 0.66  # fraction of the density that a full depth of air removes


@dataclass
class Scene:
    """The layers of one image, float32 (H, W); lengths in pixels, `unit` pixels are one body unit."""

    body: Body
    frame: Frame
    soft: np.ndarray  # soft tissue of the trunk
    air: np.ndarray  # depth of air, 0 to 1
    markings: np.ndarray  # vessels, seen against air
    bone: np.ndarray
    water: np.ndarray  # what findings add
    grain: np.random.Generator  # a separate stream, because textures take more draws on larger images
    lungs: dict[str, np.ndarray] = field(default_factory=dict)  # side -> outline in pixels
    visible: dict[str, np.ndarray] = field(default_factory=dict)  # side -> uint8 mask of lung without heart and aorta

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return (self.frame.height, self.frame.width)

    @property
    def unit(self) -> float:
        """Pixels per body unit."""
        return self.frame.scale

    def outline(self, points) -> np.ndarray:
        """Body units (already stretched) -> pixels."""
        return self.frame.to_pixels(points)

    def density(self) -> np.ndarray:
        """Return the sum of the layers, float32 (H, W)."""
        wet = np.clip(self.water, 0, None)
        air = self.air * np.clip(1 - 0.85 * wet, 0, 1)
        gas = np.minimum(1, 1.6 * self.air)
        bone = self.bone * (0.6 + 0.4 * gas)  # ribs are fainter in front of the heart and the liver
        added = 0.12 * wet * (0.35 + 0.65 * gas)  # fluid replaces air; in front of the heart it adds little
        return self.soft * (1 - _AIR * air) + bone + added + self.markings * np.minimum(1, 1.6 * air)


def draw_scene(rng: np.random.Generator, grain: np.random.Generator, body: Body, frame: Frame) -> Scene:
    """Draw the layers of a person without findings; heart and aorta have the size in `body`."""
    shape = (frame.height, frame.width)
    zeros = np.zeros(shape, np.float32)
    scene = Scene(body, frame, soft=zeros, air=zeros, markings=zeros, bone=zeros, water=zeros.copy(), grain=grain)
    scene.lungs = {side: frame.to_pixels(anatomy.lung(body, side)) for side in SIDES}
    scene.soft = _soft_tissue(rng, scene)
    scene.air = _air(rng, scene)
    scene.markings = _markings(rng, scene)
    scene.bone = _bones(rng, scene)
    return scene


def _soft_tissue(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    body, unit, shape = scene.body, scene.unit, scene.shape
    torso = scene.outline(anatomy.torso(body))
    skin = soft_mask(shape, [torso], 0.012 * unit)
    round_body = soft_mask(shape, [torso], 0.28 * unit)
    trunk = scene.outline(anatomy.stretch(body, _circle(20) * [1.15, 1.75] + [0.0, 0.55]))
    soft = skin * (0.16 + 0.52 * round_body**1.5) + 0.12 * skin * soft_mask(shape, [trunk], 0.30 * unit)
    middle = np.maximum(
        0.24 * soft_mask(shape, [scene.outline(anatomy.pedicle(body))], 0.035 * unit),
        0.36 * soft_mask(shape, [scene.outline(anatomy.heart(body))], 0.016 * unit),
    )
    middle = np.maximum(middle, 0.38 * skin * _abdomen(scene))  # no border between heart and liver
    arch = [scene.outline(part) for part in (anatomy.knob(body), band(anatomy.descending_aorta(body), 0.17))]
    soft += np.maximum(middle, 0.26 * soft_mask(shape, arch, 0.020 * unit))
    soft += 0.030 * skin * smooth_noise(scene.grain, shape, 0.45 * unit)
    soft += 0.010 * skin * smooth_noise(scene.grain, shape, 0.09 * unit)
    if body.breast:
        soft += 0.20 * body.breast * _breasts(rng, scene)
    if body.bubble[2]:
        soft -= 0.40 * body.bubble[2] * _bubble(rng, scene)
    for _ in range(int(rng.integers(0, 5))):  # gas in the colon
        center = (rng.uniform(-0.9, 0.9), body.dome[1] + rng.uniform(0.45, 0.9))
        loop = anatomy.stretch(body, blob(rng, center, rng.uniform(0.04, 0.15, 2), 0.35))
        soft -= rng.uniform(0.06, 0.25) * soft_mask(shape, [scene.outline(loop)], 0.02 * unit)
    return np.clip(soft, 0, None)


def _abdomen(scene: Scene) -> np.ndarray:
    """Return a mask of the dense part under the domes; its upper border is the diaphragm."""
    right, left = scene.body.dome
    top = [(-1.3, right + 0.42), (-0.95, right + 0.2), (-0.55, right), (-0.1, right + 0.1), (0.1, left + 0.1)]
    top += [(0.56, left), (0.95, left + 0.2), (1.3, left + 0.42)]
    below = np.vstack([open_curve(top), [(2.5, 1.6), (2.5, 2.8), (-2.5, 2.8), (-2.5, 1.6)]])
    return soft_mask(scene.shape, [scene.outline(anatomy.stretch(scene.body, below))], 0.08 * scene.unit)


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
    sharp = soft_mask(shape, polygons, 0.009 * unit)
    deep = soft_mask(shape, polygons, 0.16 * unit)
    air = sharp * np.clip(0.50 + 0.56 * deep * deep, 0, 1)
    heart = soft_mask(shape, [scene.outline(anatomy.heart(body))], 0.014 * unit)
    vessels = soft_mask(shape, [scene.outline(anatomy.pedicle(body))], 0.022 * unit)
    knob = soft_mask(shape, [scene.outline(anatomy.knob(body))], 0.010 * unit)
    aorta = soft_mask(shape, [scene.outline(band(anatomy.descending_aorta(body), 0.17))], 0.012 * unit)
    heart, solid = np.maximum(heart, vessels), np.maximum(0.88 * knob, 0.50 * aorta)
    air *= 1 - np.maximum(0.93 * heart, solid)
    air *= 1 + 0.06 * smooth_noise(scene.grain, shape, 0.30 * unit)
    for side, polygon in scene.lungs.items():
        mask = filled(shape, [polygon])
        mask[(heart > 0.5) | (knob > 0.5)] = 0
        scene.visible[side] = mask
    windpipe = np.array([(0.02, -1.7), (0.015, -1.0), (-0.02, -0.6), (-0.03, -0.32)])
    bronchi = [open_curve([(-0.03, -0.36), (-0.12, -0.2), (-0.28, -0.05)]), open_curve([(-0.03, -0.36), (0.3, -0.12)])]
    shadows = [band(open_curve(windpipe), 0.14), *(band(line, 0.085) for line in bronchi)]
    shadows = [scene.outline(anatomy.stretch(body, shadow)) for shadow in shadows]
    return np.clip(air + 0.24 * soft_mask(shape, shadows, 0.018 * unit), 0, 1)


def _markings(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Return vessels that branch outwards from the hila, thinner and fainter, and the texture of small airways."""
    coarse, fine, hub = (np.zeros(scene.shape, np.uint8) for _ in range(3))
    unit, rich = scene.unit, rng.uniform(0.7, 1.3)
    for side, sign in SIDES.items():
        hilum = np.array([0.22 + rng.uniform(-0.02, 0.04), -0.08 if side == "left" else 0.02])
        for direction in np.linspace(-1.5, 1.4, 12) + rng.uniform(-0.16, 0.16, 12):
            start = hilum + rng.normal(0, 0.04, 2) * [0.5, 1.6]
            _branch(rng, scene, (coarse, fine), start, float(direction), rng.uniform(0.016, 0.034), sign, 0)
        for _ in range(6):
            spot = blob(rng, hilum + rng.normal(0, 0.05, 2) * [0.5, 1.9], rng.uniform(0.03, 0.075, 2), 0.25)
            fill(hub, scene.outline(anatomy.stretch(scene.body, spot * [sign, 1])))
    markings = blurred(coarse.astype(np.float32), 0.009 * unit) * (0.17 * rich / 255)
    markings += blurred(fine.astype(np.float32), 0.005 * unit) * (0.13 * rich / 255)
    markings += blurred(hub.astype(np.float32), 0.035 * unit) * (0.13 * rich / 255)
    markings += smooth_noise(scene.grain, scene.shape, max(1.5, 0.016 * unit)) * 0.010
    return markings + smooth_noise(scene.grain, scene.shape, 0.05 * unit) * 0.012


def _branch(rng, scene: Scene, canvases, start, direction: float, width: float, sign: float, depth: int) -> None:
    """Draw one vessel of three short steps, and two smaller branches; `width` is in body units."""
    steps = rng.uniform(0.6, 1.25, 3) * (0.085, 0.095, 0.085, 0.07)[min(depth, 3)]
    turns = direction + np.cumsum(rng.normal(0, 0.20, 3))
    line = start + np.vstack([[0, 0], np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * steps[:, None], axis=0)])
    smooth = open_curve(line, 3) if depth < 3 else line
    pixels = scene.outline(anatomy.stretch(scene.body, smooth * [sign, 1]))
    canvas = canvases[0] if width > 0.014 else canvases[1]
    stroke(canvas, pixels, width * scene.unit, min(255, 70 + 6000 * width))
    if depth >= 5 or width < 0.0045:
        return
    for _ in range(2):
        child = float(turns[-1] + rng.normal(0, 0.5))
        _branch(rng, scene, canvases, line[-1 - int(rng.integers(0, 2))], child, width * 0.70, sign, depth + 1)


def _bones(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    body, shape, unit = scene.body, scene.shape, scene.unit
    strength = rng.uniform(0.75, 1.25)
    bone = np.zeros(shape, np.float32)
    behind = [anatomy.posterior_rib(body, index, side) for side in SIDES for index in range(10)]
    front = [anatomy.anterior_rib(body, index, side) for side in SIDES for index in range(7)]
    bone += _tubes(scene, behind, body.rib_width, 0.115 * strength, 0.045 * strength)
    bone += _tubes(scene, front, body.rib_width * 1.1, 0.045 * strength, 0.022 * strength)
    clavicles = [anatomy.clavicle(body, side) for side in SIDES]
    bone += _tubes(scene, clavicles, 0.085, 0.075 * strength, 0.085 * strength)
    for side, sign in SIDES.items():
        blade = scene.outline(anatomy.scapula(body, side))
        bone += 0.09 * strength * soft_mask(shape, [blade], 0.012 * unit)
        head = _circle(16) * 0.19 + [1.36 + body.arms, -0.86]
        shaft = band(open_curve([(1.44 + body.arms, -0.85), (1.55, -0.2), (1.60, 0.6)]), 0.2)
        arm = [scene.outline(anatomy.stretch(body, part * [sign, 1])) for part in (head, shaft)]
        bone += 0.14 * strength * soft_mask(shape, arm, 0.014 * unit)
    return bone + _spine(rng, scene) * strength


def _tubes(scene: Scene, lines, width: float, inside: float, edge: float) -> np.ndarray:
    """Return hollow bones: bands with brighter borders, where the beam is parallel to the cortex."""
    filled, borders = (np.zeros(scene.shape, np.uint8) for _ in range(2))
    for line in lines:
        taper = width * np.interp(np.linspace(0, 1, len(line)), [0, 0.15, 0.75, 1], [0.8, 1.0, 1.0, 0.7])
        outline = scene.outline(band(line, taper))
        fill(filled, outline)
        stroke(borders, outline, 0.012 * scene.unit, closed=True)
    soft = cv2.addWeighted(filled, inside / (inside + edge), borders, edge / (inside + edge), 0)
    return blurred(soft.astype(np.float32), 0.011 * scene.unit) * ((inside + edge) / 255)


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
    soft = column.astype(np.float32) * 0.06 + bodies * np.float32(0.04) + processes * np.float32(0.035)
    return blurred(soft, 0.014 * unit) / 255
