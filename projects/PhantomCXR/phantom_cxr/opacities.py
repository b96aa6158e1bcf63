"""Findings in the lungs: nodules, calcifications, opacities, reticular patterns, bands, and "other lesion".

Each function draws into the scene's layers and returns its `Finding`s. Radii are in body units (14 cm): a nodule is
up to 3 cm in diameter, a mass larger (Fleischner Society glossary, doi 10.1148/radiol.2462070712).
"""

from __future__ import annotations

import numpy as np
from d2_cxr.projects.phantom_cxr import anatomy
from d2_cxr.projects.phantom_cxr.anatomy import SIDES_ORDER
from d2_cxr.projects.phantom_cxr.canvas import band, blob, blurred, extent, open_curve, stroke
from d2_cxr.projects.phantom_cxr.finding import Finding, add_water, local_mask, place, window
from d2_cxr.projects.phantom_cxr.scene import Scene


def nodule_or_mass(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw one to three round lesions."""
    found = []
    for _ in range(1 + int(rng.random() < 0.35) + int(rng.random() < 0.15)):
        is_mass = rng.random() < 0.68
        radius = (rng.uniform(0.12, 0.24) if is_mass else rng.uniform(0.055, 0.11)) * scene.unit
        point = place(rng, scene, radius)
        if point is None:
            continue
        outline = blob(rng, point, (radius, radius * rng.uniform(0.8, 1.15)), rng.uniform(0.03, 0.14), lobes=9)
        strength = rng.uniform(0.45, 0.95)
        add_water(scene, [outline], strength, rng.uniform(0.008, 0.022) * scene.unit)
        obvious = np.clip(strength * (0.45 + 3.0 * radius / scene.unit), 0.1, 1)
        found.append(Finding("Nodule/Mass", extent(outline)[None], float(obvious)))
    return found


def calcification(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw a calcified aortic arch, or one or two groups of specks."""
    if rng.random() < 0.3:  # in the wall of the aortic arch
        arch = scene.outline(anatomy.knob(scene.body))
        start = int(rng.integers(26, 34))
        arc = np.roll(arch, -start, axis=0)[: int(rng.integers(9, 15))]
        _brighten(scene, arc, 0.02 * scene.unit, rng.uniform(0.10, 0.18))
        box = extent(arc) + np.array([-1, -1, 1, 1]) * 0.015 * scene.unit
        return [Finding("Calcification", box[None], 0.5)]
    found = []
    for _ in range(1 + int(rng.random() < 0.4)):
        spread = rng.uniform(0.02, 0.09) * scene.unit
        point = place(rng, scene, spread)
        if point is None:
            continue
        specks = [
            blob(rng, point + rng.normal(0, 0.5, 2) * spread, rng.uniform(0.012, 0.03, 2) * scene.unit, 0.3)
            for _ in range(int(rng.integers(1, 6)))
        ]
        where, mask = local_mask(scene, specks, 0.004 * scene.unit)
        if where is not None:
            scene.bone[where] += np.float32(rng.uniform(0.16, 0.32)) * mask
            found.append(Finding("Calcification", extent(np.vstack(specks))[None], 0.45))
    return found


def consolidation(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw one or two dense patches with air bronchograms."""
    found = []
    for _ in range(1 + int(rng.random() < 0.3)):
        drawn = _patch(rng, scene, "Consolidation", (0.20, 0.40), (0.65, 1.0), texture=0.25)
        for finding in drawn:
            _air_bronchograms(rng, scene, finding.box_xyxy[0])
        found += drawn
    return found


def infiltration(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw one or two faint, textured patches."""
    times = 1 + int(rng.random() < 0.35)
    return [f for _ in range(times) for f in _patch(rng, scene, "Infiltration", (0.16, 0.34), (0.28, 0.5), 0.7)]


def lung_opacity(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw one or two patches of medium density."""
    times = 1 + int(rng.random() < 0.4)
    return [f for _ in range(times) for f in _patch(rng, scene, "Lung Opacity", (0.13, 0.34), (0.4, 0.75), 0.4)]


def _patch(rng, scene: Scene, name: str, radii, strengths, texture: float) -> list[Finding]:
    radius = rng.uniform(*radii) * scene.unit
    point = place(rng, scene, 0.8 * radius, zone=(0.15, 0.95))
    if point is None:
        return []
    outline = blob(rng, point, (radius, radius * rng.uniform(0.6, 1.2)), 0.3, angle=rng.uniform(0, 3.1))
    strength = rng.uniform(*strengths)
    add_water(scene, [outline], strength, rng.uniform(0.03, 0.06) * scene.unit, texture)
    return [Finding(name, extent(outline)[None], float(np.clip(0.25 + 0.7 * strength, 0, 1)))]


def _air_bronchograms(rng: np.random.Generator, scene: Scene, box: np.ndarray) -> None:
    """Draw airways that stay open in a consolidation: thin branching dark lines."""
    where = window(scene.shape, box, 2)
    if where is None:
        return
    rows, columns = where
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    center = (box[:2] + box[2:]) / 2 - [columns.start, rows.start]
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(2, 5))):
        reach = rng.uniform(0.2, 0.4) * (box[2:] - box[:2]).min()
        bend = rng.normal(0, 0.25, 3).cumsum() + angle
        steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * reach / 3
        stroke(canvas, center + np.vstack([[0, 0], steps.cumsum(axis=0)]), 0.016 * scene.unit)
    cut = blurred(canvas.astype(np.float32) / 255, 0.006 * scene.unit)
    scene.water[where] *= 1 - 0.45 * cut


def interstitial(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw a reticular pattern on both sides, mostly in the lower lungs."""
    start, strength = rng.uniform(0.05, 0.45), rng.uniform(0.5, 1.0)
    found = []
    for side in SIDES_ORDER:
        box = extent(scene.lungs[side])
        box[1] += start * (box[3] - box[1])
        seen = _lung_part(scene, side, box)
        if seen is None:
            continue
        _net(scene, side, seen, strength)
        found.append(Finding("ILD", seen[None], float(np.clip(0.2 + 0.6 * strength, 0, 1))))
    return found


def _lung_part(scene: Scene, side: str, box: np.ndarray) -> np.ndarray | None:
    """Return the box of the visible lung inside a box, or None."""
    where = window(scene.shape, box, 0)
    if where is None:
        return None
    rows, columns = np.nonzero(scene.visible[side][where][::2, ::2])
    if len(rows) == 0:
        return None
    top, left = where[0].start, where[1].start
    return np.array(
        [left + 2 * columns.min(), top + 2 * rows.min(), left + 2 * columns.max() + 2, top + 2 * rows.max() + 2.0]
    )


def _net(scene: Scene, side: str, box: np.ndarray, strength: float) -> None:
    """Draw a reticular net in the visible lung of a box: short arcs and small rings."""
    where = window(scene.shape, box, 2)
    if where is None:
        return
    rows, columns = where
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    unit = scene.unit
    number = int(300 * canvas.size / unit**2)
    centers = scene.grain.uniform(0, 1, (number, 2)) * [canvas.shape[1], canvas.shape[0]]
    sizes, turns = scene.grain.uniform(0.02, 0.09, number) * unit, scene.grain.uniform(0, 2 * np.pi, number)
    for center, size, turn in zip(centers, sizes, turns, strict=True):
        arc = turn + np.linspace(0, scene.grain.uniform(0.8, 3.6), 8)
        stroke(canvas, center + size * np.stack([np.cos(arc), np.sin(arc)], axis=1), 0.011 * unit, 200)
    mask = blurred(scene.visible[side][where].astype(np.float32) / 255, 0.04 * unit)
    fade = np.clip(np.arange(mask.shape[0]) / (0.15 * unit), 0, 1).astype(np.float32)  # no visible edge at its top
    mask *= fade[:, None]
    net = blurred(canvas.astype(np.float32) / 255, 0.005 * unit) * mask
    scene.markings[where] += np.float32(0.20 * strength) * net
    scene.water[where] += np.float32(0.10 * strength) * mask


def fibrosis(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw converging streaks, most often in an upper lobe."""
    found = []
    for _ in range(1 + int(rng.random() < 0.45)):
        radius = rng.uniform(0.13, 0.28) * scene.unit
        upper = rng.random() < 0.7
        point = place(rng, scene, 0.7 * radius, zone=(0.08, 0.4) if upper else (0.5, 0.9))
        if point is None:
            continue
        strength = rng.uniform(0.5, 1.0)
        found.append(_streaks(rng, scene, point, radius, strength))
    return found


def _streaks(rng: np.random.Generator, scene: Scene, point: np.ndarray, radius: float, strength: float) -> Finding:
    outline = blob(rng, point, (radius, radius * rng.uniform(0.7, 1.3)), 0.15)
    box = extent(outline)
    add_water(scene, [outline], 0.16 * strength, 0.04 * scene.unit, 0.8)
    where, mask = local_mask(scene, [outline], 0.03 * scene.unit)
    if where is not None:
        canvas = np.zeros(mask.shape, np.uint8)
        corner = np.array([where[1].start, where[0].start])
        main = rng.uniform(0, np.pi)
        for _ in range(int(rng.integers(16, 28))):
            angle = main + rng.normal(0, 0.45)
            start = point + rng.normal(0, 0.4, 2) * radius
            bend = angle + rng.normal(0, 0.12, 4).cumsum()
            steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * radius * rng.uniform(0.12, 0.35)
            line = start + np.vstack([[0, 0], steps.cumsum(axis=0)])
            stroke(canvas, line - corner, rng.uniform(0.008, 0.02) * scene.unit, float(rng.uniform(90, 220)))
        streaks = blurred(canvas.astype(np.float32), 0.007 * scene.unit) * mask
        scene.markings[where] += np.float32(0.36 * strength / 255) * streaks
    return Finding("Pulmonary fibrosis", box[None], float(0.3 + 0.5 * strength))


def atelectasis(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw plate-like bands above the diaphragm, or a collapsed segment as a dense wedge."""
    reach = rng.uniform(0.16, 0.32) * scene.unit
    point = place(rng, scene, 0.8 * reach, zone=(0.45, 0.95))
    if point is None:
        return []
    if rng.random() < 0.45:
        corners = point + np.array([(-1, 0.7), (0.1, -0.9), (1, 0.6)]) * reach * rng.uniform(0.7, 1.0)
        add_water(scene, [corners], rng.uniform(0.7, 1.0), 0.02 * scene.unit)
        return [Finding("Atelectasis", extent(corners)[None], 0.5)]
    tilt = rng.uniform(-0.5, 0.5)
    line = point + open_curve([(-reach, -reach * tilt), (0, -0.08 * reach), (reach, reach * tilt)])
    thick = (
        rng.uniform(0.03, 0.06)
        * scene.unit
        * np.interp(np.linspace(0, 1, len(line)), [0, 0.3, 0.8, 1], [0.4, 1, 1, 0.5])
    )
    plate = band(line, thick)
    add_water(scene, [plate], rng.uniform(0.45, 0.8), 0.010 * scene.unit)
    return [Finding("Atelectasis", extent(plate)[None], 0.45)]


def other_lesion(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw a cavity, a hernia, a rib lesion or a bulla."""
    kind = (_cavity, _hernia, _rib_lesion, _bulla)[int(rng.integers(4))]
    return kind(rng, scene)


def _cavity(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    radius = rng.uniform(0.09, 0.2) * scene.unit
    point = place(rng, scene, radius)
    if point is None:
        return []
    outer = blob(rng, point, (radius, radius), 0.08)
    inner = point + (outer - point) * rng.uniform(0.6, 0.78)
    strength = rng.uniform(0.6, 0.9)
    add_water(scene, [outer], strength, 0.009 * scene.unit)
    add_water(scene, [inner], -0.95 * strength, 0.009 * scene.unit)
    return [Finding("Other lesion", extent(outer)[None], 0.5)]


def _bulla(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    radius = rng.uniform(0.14, 0.26) * scene.unit
    point = place(rng, scene, radius, zone=(0.05, 0.6))
    if point is None:
        return []
    outline = blob(rng, point, (radius, radius * rng.uniform(0.9, 1.3)), 0.08)
    where, mask = local_mask(scene, [outline], 0.01 * scene.unit)
    if where is not None:
        scene.markings[where] *= 1 - 0.9 * mask
        scene.air[where] = np.clip(scene.air[where] * (1 + 0.2 * mask), 0, 1)
    _brighten(scene, np.vstack([outline, outline[:1]]), 0.011 * scene.unit, 0.10)
    return [Finding("Other lesion", extent(outline)[None], 0.4)]


def _hernia(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw a hiatal hernia: a round shadow behind the heart with a fluid level."""
    radius = rng.uniform(0.16, 0.28)
    center = (rng.uniform(-0.02, 0.22), scene.body.dome[1] - 0.6 * radius)
    outline = scene.outline(anatomy.stretch(scene.body, blob(rng, center, (radius, radius), 0.06)))
    add_water(scene, [outline], 0.8, 0.008 * scene.unit)
    gas = np.minimum(outline, [np.inf, outline[:, 1].mean()])
    where, mask = local_mask(scene, [outline.mean(axis=0) + (gas - outline.mean(axis=0)) * 0.85], 0.008 * scene.unit)
    if where is not None:
        scene.soft[where] -= np.float32(0.20) * mask
    return [Finding("Other lesion", extent(outline)[None], 0.5)]


def _rib_lesion(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Draw a swollen rib: a healed fracture or a metastasis."""
    side = SIDES_ORDER[int(rng.integers(2))]
    rib = anatomy.posterior_rib(scene.body, int(rng.integers(2, 8)), side)
    middle = int(rng.integers(len(rib) // 3, len(rib) - 5))
    part = rib[middle - 3 : middle + 4]
    swelling = 1 + rng.uniform(0.5, 1.2) * np.hanning(len(part))
    outline = scene.outline(band(part, scene.body.rib_width * swelling))
    where, mask = local_mask(scene, [outline], 0.01 * scene.unit)
    if where is None:
        return []
    scene.bone[where] += np.float32(rng.uniform(0.10, 0.2)) * mask
    return [Finding("Other lesion", extent(outline)[None], 0.35)]


def _brighten(scene: Scene, line: np.ndarray, thickness: float, value: float) -> None:
    """Add a bright line (pixel points) to the bone layer."""
    where = window(scene.shape, extent(line), 2 * thickness + 3)
    if where is None:
        return
    canvas = np.zeros((where[0].stop - where[0].start, where[1].stop - where[1].start), np.uint8)
    stroke(canvas, line - [where[1].start, where[0].start], thickness)
    scene.bone[where] += np.float32(value / 255) * blurred(canvas.astype(np.float32), 0.3 * thickness)
