"""What `CXR.AUGMENTATION` adds to resizing and flip: other gray values, and another place and size in the frame.

Detectron2's augmentations, which draw from numpy's global generator; the mapper seeds that by the position in the
sampler's stream. Gray values come first: what comes into the frame from outside the image stays black, as padding is.
"""

from __future__ import annotations

import numpy as np
from detectron2.data import transforms as T

CHOICES = ("off", "gray", "geometry", "light")  # light: both

_GAMMA = 0.25  # at most, of the exponent's logarithm: 0.78 to 1.28
_CONTRAST = 0.2  # at most, about the mean
_BRIGHTNESS = 0.1  # at most, of the mean
_SCALE = (0.8, 1.25)
_ASPECT = 0.1  # at most, of the logarithm of height to width
_SHIFT = 0.1  # at most, of the side


def of_choice(choice: str) -> list[T.Augmentation]:
    """Return the augmentations of a value of `CXR.AUGMENTATION`.

    Raises:
        ValueError: there is no such value.
    """
    if choice not in CHOICES:
        raise ValueError(f"CXR.AUGMENTATION is {choice!r}; choose one of {', '.join(CHOICES)}")
    steps: list[T.Augmentation] = []
    if choice in ("gray", "light"):
        steps.append(RandomGrayValues())
    if choice in ("geometry", "light"):
        steps.append(RandomPlacement())
    return steps


class RandomGrayValues(T.Augmentation):
    """Change gamma, contrast and brightness a little; boxes stay."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the change of an image (H, W) uint8."""
        gamma, contrast, brightness = (np.random.uniform(-most, most) for most in (_GAMMA, _CONTRAST, _BRIGHTNESS))

        def change(pixels: np.ndarray) -> np.ndarray:
            gray = gray_values(pixels.astype(np.float32) / 255, gamma, contrast, brightness)
            return (gray * 255).round().astype(np.uint8)

        return T.ColorTransform(change)


class RandomPlacement(T.Augmentation):
    """Scale the image by 0.8 to 1.25, change its aspect by 10 %, shift it by 10 % of its sides, in the same frame."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the placement of an image (H, W)."""
        scale = np.exp(np.random.uniform(*np.log(_SCALE)))
        aspect = np.exp(np.random.uniform(-_ASPECT, _ASPECT) / 2)
        shift = np.random.uniform(-_SHIFT, _SHIFT, size=2)
        return placement(image.shape[:2], (scale / aspect, scale * aspect), (float(shift[0]), float(shift[1])))


def placement(shape: tuple[int, ...], scale: tuple[float, float], shift: tuple[float, float]) -> T.Transform:
    """Return the transform that enlarges an image about its center and then shifts it, in a frame of the same size.

    Args:
        shape: (H, W) of image and frame.
        scale: of x and y.
        shift: of x and y, in parts of the frame's width and height; positive is right and down.
    """
    height, width = shape
    sides = np.array([width, height])
    seen = sides / scale  # the part of the plane that fills the frame
    first = sides / 2 - seen / 2 - np.array(shift) * seen
    return T.ExtentTransform((*first.tolist(), *(first + seen).tolist()), (height, width))


def gray_values(image: np.ndarray, gamma: float, contrast: float, brightness: float) -> np.ndarray:
    """Return (H, W) float32 in [0, 1] with other gray values.

    Args:
        image: (H, W) float32 in [0, 1].
        gamma: logarithm of the exponent.
        contrast: change about the mean, 0.2 is 20 % more.
        brightness: change of the mean, in parts of it.
    """
    image = image ** np.float32(np.exp(gamma))
    mean = image.mean()
    return ((image - mean) * np.float32(1 + contrast) + mean * np.float32(1 + brightness)).clip(0, 1)
