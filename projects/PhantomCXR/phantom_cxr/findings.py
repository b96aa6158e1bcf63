"""The 14 findings: how often, where, how large, and how each changes the layers of a scene.

A class is a row of `_DRAW`; the drawing is in `opacities.py` and `pleura.py`. Truth boxes come from the outlines that
are drawn, not from thresholds on the picture, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from d2_cxr.projects.phantom_cxr import anatomy, opacities, pleura
from d2_cxr.projects.phantom_cxr.canvas import extent
from d2_cxr.projects.phantom_cxr.finding import Finding
from d2_cxr.projects.phantom_cxr.scene import Scene

from d2_cxr import boxes
from d2_cxr.labels.vindr_cxr import CLASS_NAMES

# Images of 3075 that show the class (Fig. 3 of https://arxiv.org/abs/2206.00344), in the order of CLASS_NAMES.
_IMAGES_WITH = (2178, 161, 355, 1616, 301, 314, 491, 1057, 640, 885, 843, 1560, 81, 1276)
CLASS_SHARE = {name: images / 3075 for name, images in zip(CLASS_NAMES, _IMAGES_WITH, strict=True)}

_MIN_SIDE = 0.008  # of the image's longer side; smaller remnants at a border do not count
_MIN_INSIDE = 0.5  # fraction of a box that must be on the image


def draw_classes(rng: np.random.Generator, finding_share: float) -> tuple[str, ...]:
    """Draw the classes of an image at random, in CLASS_NAMES order; none with probability 1 - finding_share."""
    has_findings = rng.random() < finding_share
    while has_findings:
        chosen = rng.random(len(CLASS_NAMES)) < np.array([CLASS_SHARE[name] for name in CLASS_NAMES])
        if chosen.any():
            return tuple(name for name, shown in zip(CLASS_NAMES, chosen, strict=True) if shown)
    return ()


def add_findings(stream: Callable[[str], np.random.Generator], scene: Scene, classes: tuple[str, ...]) -> list[Finding]:
    """Draw these classes into the scene's layers and return the findings, boxes clipped to the image.

    `stream` gives each class its own random stream.
    """
    drawn = [finding for name in _DRAW if name in classes for finding in _DRAW[name](stream(name), scene)]
    return [finding for finding in (_on_image(scene, one) for one in drawn) if finding is not None]


def _on_image(scene: Scene, finding: Finding) -> Finding | None:
    height, width = scene.shape
    cut = boxes.clip(finding.box_xyxy, width, height)
    sides = cut[0, 2:] - cut[0, :2]
    if sides.min() < _MIN_SIDE * max(height, width) or boxes.pairwise_iobb(finding.box_xyxy, cut)[0, 0] < _MIN_INSIDE:
        return None
    return replace(finding, box_xyxy=cut)


def _cardiomegaly(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    """Return the box of the heart, which was already drawn wide with the body."""
    obvious = np.clip((scene.body.heart_ratio - 0.50) / 0.12, 0.2, 1)
    return [Finding("Cardiomegaly", extent(scene.outline(anatomy.heart(scene.body)))[None], float(obvious))]


def _aortic_enlargement(rng: np.random.Generator, scene: Scene) -> list[Finding]:
    obvious = np.clip((scene.body.knob_radius - 0.15) / 0.09, 0.2, 1)
    return [Finding("Aortic enlargement", extent(scene.outline(anatomy.knob(scene.body)))[None], float(obvious))]


# In the order of drawing: fluid and free air first, so that lesions are placed in the remaining lung.
_DRAW: dict[str, Callable[[np.random.Generator, Scene], list[Finding]]] = {
    "Pneumothorax": pleura.pneumothorax,
    "Pleural effusion": pleura.effusion,
    "Pleural thickening": pleura.thickening,
    "Aortic enlargement": _aortic_enlargement,
    "Cardiomegaly": _cardiomegaly,
    "ILD": opacities.interstitial,
    "Pulmonary fibrosis": opacities.fibrosis,
    "Consolidation": opacities.consolidation,
    "Infiltration": opacities.infiltration,
    "Lung Opacity": opacities.lung_opacity,
    "Atelectasis": opacities.atelectasis,
    "Nodule/Mass": opacities.nodule_or_mass,
    "Calcification": opacities.calcification,
    "Other lesion": opacities.other_lesion,
}
