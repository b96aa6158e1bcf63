"""A contact sheet of phantoms with their true boxes, to compare with real images."""

from __future__ import annotations

import os

import numpy as np
from d2_cxr.projects.phantom_cxr.image import render_image

from d2_cxr import artifacts
from d2_cxr.drawing import class_color, contact_sheet, draw_boxes, encode_rgb
from d2_cxr.labels.vindr_cxr import CLASS_NAMES


def write_contact_sheet(
    path: str | os.PathLike,
    num_images: int,
    size: int = 512,
    seed: int = 0,
    finding_share: float = 0.75,
    boxes: bool = True,
    most: int = 24,
) -> None:
    """Write the first images of a set (at most `most`) as one PNG, with their true boxes unless `boxes` is False."""
    pictures = []
    for index in range(min(num_images, most)):
        image = render_image(seed, index, size, finding_share)
        gray = np.rint(image.pixels * 255).astype(np.uint8)
        names = [name for name, _ in image.findings]
        colors = [class_color(CLASS_NAMES.index(name)) for name in names]
        found = image.findings if boxes else []
        labels = names if boxes else []
        pictures.append(draw_boxes(gray, [box for _, box in found], labels, colors if boxes else []))
    artifacts.write_bytes(path, encode_rgb(contact_sheet(pictures, tile=384)))
