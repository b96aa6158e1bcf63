"""The strong view of a radiograph that a student learns from: the same geometry, other gray values, some of it hidden.

Unbiased Teacher (Liu et al. 2021, https://arxiv.org/abs/2102.09480) changes color, blurs and cuts rectangles out. A
radiograph has no color; contrast, brightness, gamma and noise take its place. Boxes stay where they are.
"""

from __future__ import annotations

import cv2
import numpy as np

from d2_cxr.datasets.augmentations import gray_values

_CHANGE_CHANCE, _BLUR_CHANCE, _NOISE_CHANCE = 0.8, 0.5, 0.5
_CONTRAST = _BRIGHTNESS = 0.4  # at most, relative to the mean
_GAMMA = 0.3  # at most, of the exponent's logarithm
_BLUR = 1 / 100  # largest sigma, of the image's longer side
_NOISE = 0.05  # largest sigma, of the gray range
_CUTS = ((0.7, 0.05, 0.20), (0.5, 0.02, 0.10), (0.3, 0.01, 0.05))  # chance, least and largest part of the area


def strong_view(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a strongly augmented copy of a radiograph.

    Args:
        pixels: (H, W) uint8.
        random: decides everything.

    Returns:
        (H, W) uint8.
    """
    image = pixels.astype(np.float32) / 255
    if random.random() < _CHANGE_CHANCE:
        gamma, contrast, brightness = (random.uniform(-most, most) for most in (_GAMMA, _CONTRAST, _BRIGHTNESS))
        image = gray_values(image, gamma, contrast, brightness)
    if random.random() < _BLUR_CHANCE:
        sigma = random.uniform(0.1, max(0.2, _BLUR * max(image.shape)))
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))
    if random.random() < _NOISE_CHANCE:
        sigma = random.uniform(0, _NOISE)
        image = image + sigma * random.standard_normal(image.shape, dtype=np.float32)
    for chance, least, largest in _CUTS:
        if random.random() < chance:
            _cut(image, random.uniform(least, largest), random)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _cut(image: np.ndarray, part: float, random: np.random.Generator) -> None:
    """Fill a rectangle that covers `part` of the image with noise, in place."""
    height, width = image.shape
    ratio = np.exp(random.uniform(-1, 1))
    h = int(np.clip(round(np.sqrt(part * ratio) * height), 1, height))
    w = int(np.clip(round(np.sqrt(part / ratio) * width), 1, width))
    top, left = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
    image[top : top + h, left : left + w] = random.random((h, w), dtype=np.float32)
