"""One phantom image: determined by (seed, index, size), drawn from named random streams.

Each purpose has its own stream, so that a change in one (the noise, for example) does not change the others (which
findings), and an image does not depend on the process that rendered it or on the images before it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from d2_cxr.projects.phantom_cxr import anatomy, exposure, findings
from d2_cxr.projects.phantom_cxr.canvas import Frame
from d2_cxr.projects.phantom_cxr.finding import Finding
from d2_cxr.projects.phantom_cxr.scene import draw_scene

IMAGES_PER_PATIENT = (1, 1, 1, 2, 2, 3)  # drawn from these: most patients have one image


@dataclass(frozen=True)
class RenderedImage:
    """An image after the grayscale transform, and its findings.

    `pixels` is float32 (H, W) in [0, 1], 1 is white; boxes are in its pixels.
    """

    pixels: np.ndarray
    drawn: list[Finding]
    frame: Frame
    heart_ratio: float
    knob_radius: float

    @property
    def findings(self) -> list[tuple[str, tuple[float, float, float, float]]]:
        """(class name, (x_min, y_min, x_max, y_max)) of every finding."""
        return [(one.class_name, tuple(float(v) for v in one.box_xyxy[0])) for one in self.drawn]


def stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Return the random stream of one purpose of one image."""
    words = np.frombuffer(hashlib.sha256(purpose.encode()).digest()[:8], dtype="<u4")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, *words.tolist()])))


def image_name(seed: int, index: int) -> str:
    """Return an image's name: 32 hexadecimal digits, like VinDr-CXR's file names."""
    return hashlib.sha256(f"phantom {seed} {index}".encode()).hexdigest()[:32]


def patients(seed: int, num_images: int) -> list[str]:
    """Return the patient of every image, in image order; a patient's images are neighbors (one to three).

    A longer list starts with the shorter one, so that a set can grow.
    """
    rng = stream(seed, 0, "patients")
    names: list[str] = []
    number = 0
    while len(names) < num_images:
        names += [f"P{number:05d}"] * int(rng.choice(IMAGES_PER_PATIENT))
        number += 1
    return names[:num_images]


def check_settings(size: int, finding_share: float) -> None:
    """Raise ValueError for a size under 64 pixels or a finding_share outside [0, 1]."""
    if size < 64:
        raise ValueError(f"size {size} is too small for an image; give at least 64 pixels")
    if not 0 <= finding_share <= 1:
        raise ValueError(f"finding_share must be between 0 and 1, not {finding_share}")


def render_image(seed: int, index: int, size: int = 512, finding_share: float = 0.75) -> RenderedImage:
    """Render image `index` of set `seed`.

    Args:
        size: pixels of the longer side. Another size shows the same person; few lesions, those drawn close to an
            organ's edge, may be elsewhere.
        finding_share: probability that the image shows findings.

    Raises:
        ValueError: size under 64, or finding_share outside [0, 1].
    """
    check_settings(size, finding_share)
    classes = findings.draw_classes(stream(seed, index, "classes"), finding_share)
    body = anatomy.draw_person(
        stream(seed, index, "body"), "Cardiomegaly" in classes, wide_aorta="Aortic enlargement" in classes
    )
    frame = Frame(*exposure.draw_frame(stream(seed, index, "frame"), size))
    scene = draw_scene(stream(seed, index, "tissue"), stream(seed, index, "grain"), body, frame)
    drawn = findings.add_findings(lambda name: stream(seed, index, name), scene, classes)
    rng = stream(seed, index, "exposure")
    pixels = exposure.finish(rng, exposure.expose(rng, scene.density(), scene.unit), scene.unit)
    return RenderedImage(pixels, drawn, frame, body.heart_ratio, body.knob_radius)
