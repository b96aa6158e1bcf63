"""What every reader of images returns, whatever the file: stored pixels, and the rule that brings them to display sense.

Display sense: 0 is black and 1 is white as the image is meant to be seen, so bone is bright. The rule follows DICOM
PS3.3 C.11: modality LUT or rescale, then VOI LUT or window, then presentation polarity. All three together are one
map from a stored value to [0, 1]: a straight line between two stored values, or a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np


class ImageError(ValueError):
    """The file is no image that can be read as a radiologist would see it; the message names tag and value."""


@dataclass(frozen=True)
class Display:
    """Stored value -> gray in [0, 1].

    Attributes:
        black, white: the stored values shown black and white; black > white where high values are dark. None: the
            darkest and the brightest value of the image itself, in the sense that `inverted` tells.
        inverted: high values are dark; only read where black and white are None.
        table: (N,) float32 in [0, 1], gray of the stored values from `table_start` on (values beyond its ends take
            the end's); where there is one, nothing else is read.
        table_start: stored value of the first entry.
    """

    black: float | None = None
    white: float | None = None
    inverted: bool = False
    table: np.ndarray | None = field(default=None, repr=False, compare=False)
    table_start: int = 0

    def limits(self, pixels: np.ndarray) -> tuple[float, float]:
        """Return the stored values shown black and white on this image."""
        if self.black is not None and self.white is not None:
            return self.black, self.white
        low, high = value_range(pixels)
        return (high, low) if self.inverted else (low, high)

    def gray(self, pixels: np.ndarray, black: float, white: float) -> np.ndarray:
        """Return (H, W) float32 in [0, 1] of stored values; black and white as given by `limits`."""
        if self.table is not None:
            index = np.clip(np.asarray(pixels, np.int64) - self.table_start, 0, len(self.table) - 1)
            return self.table[index]
        if black == white:  # a window of width 1 is a threshold, PS3.3 C.11.2.1.2.1
            return (pixels > black).astype(np.float32)
        scale = 1.0 / (white - black)
        return np.clip(pixels.astype(np.float32) * np.float32(scale) - np.float32(black * scale), 0, 1)


@dataclass(frozen=True)
class StoredImage:
    """An image as it lies in its file.

    Attributes:
        pixels: (H, W) uint8, uint16 or int16, as stored; may be reduced, but always covers the whole frame.
        source_width, source_height: of the full frame, in pixels.
        display: the way to display sense.
        attributes: what the manifest keeps: transfer_syntax, photometric, bits_stored, signed, window, rescale,
            pixel_spacing ((row, column) in mm or None), spacing_tag. Codes and numbers only, no text of the header.
        notes: what was unusual, and how it was handled.
        padding: first and last stored value that mark pixels outside the image, or None.
    """

    pixels: np.ndarray
    source_width: int
    source_height: int
    display: Display = Display()
    attributes: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    padding: tuple[int, int] | None = None


def value_range(pixels: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest value of (H, W) pixels; OpenCV finds both in one pass."""
    low, high, _, _ = cv2.minMaxLoc(np.ascontiguousarray(pixels))
    return float(low), float(high)


def to_display(image: StoredImage) -> np.ndarray:
    """Return an image in display sense, (H, W) float32 in [0, 1]; pixels outside the image are black."""
    outside = padded(image)
    inside = image.pixels if outside is None else image.pixels[~outside].reshape(1, -1)
    gray = image.display.gray(image.pixels, *image.display.limits(inside))
    if outside is not None:
        gray[outside] = 0
    return gray


def padded(image: StoredImage) -> np.ndarray | None:
    """Return which pixels (H, W) bool lie outside the image, or None where none does.

    Raises:
        ImageError: all of them.
    """
    if image.padding is None:
        return None
    outside = (image.pixels >= image.padding[0]) & (image.pixels <= image.padding[1])
    if outside.all():
        raise ImageError(f"every pixel has the padding value {image.padding[0]}, Pixel Padding Value (0028,0120)")
    return outside if outside.any() else None
