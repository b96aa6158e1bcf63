"""What every reader of images returns: stored pixels, and the grayscale transform to P-values.

Display sense: 0 is black and 1 is white as the image is meant to be seen, so bone is bright. The rule follows DICOM
PS3.3 C.11: modality LUT or rescale, then VOI LUT or window, then presentation polarity. All three together are one
map from a stored value to [0, 1]: a straight line between two stored values, or a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

GRAY_TOLERANCE = 3.0  # mean levels of 256 between channels; JPEG's color transform moves grays by less
_LOOKED_AT = 1 << 18  # pixels
_FEWEST_GRAYS, _MOST_CUT = 8, 0.95


class ImageError(ValueError):
    """The file is not an image that can be read as a radiologist would see it; the message names tag and value."""


@dataclass(frozen=True)
class GrayscaleTransform:
    """The grayscale transform: stored value -> gray in [0, 1].

    Attributes:
        black, white: the stored values shown black and white; black > white where high values are dark. None: the
            darkest and the brightest value of the image itself, in the sense that `inverted` tells.
        inverted: high values are dark; only read where black and white are None.
            Beside a table: how the full range would be shown.
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
            gray = np.empty(pixels.shape, np.float32)
            for row, values in enumerate(pixels):  # row by row: indices take eight bytes a pixel
                index = np.clip(values.astype(np.int64) - self.table_start, 0, len(self.table) - 1)
                gray[row] = self.table[index]
            return gray
        if black == white:  # a window of width 1 is a threshold, PS3.3 C.11.2.1.2.1
            return (pixels > black).astype(np.float32)
        scale = 1.0 / (white - black)
        return np.clip(pixels.astype(np.float32) * np.float32(scale) - np.float32(black * scale), 0, 1)


@dataclass(frozen=True)
class StoredImage:
    """An image as stored in its file.

    Attributes:
        pixels: (H, W) uint8, uint16 or int16, as stored; may be reduced, but always covers the whole frame.
        source_width, source_height: of the full frame, in pixels.
        transform: the way to gray values as displayed (P-values).
        attributes: what the manifest keeps: transfer_syntax, photometric, bits_stored, signed, window, rescale,
            pixel_spacing ((row, column) in mm or None), spacing_tag, view_position, body_part. Codes and numbers only,
            no text of the header.
        notes: what was unusual, and how it was handled.
        padding: first and last stored value that mark pixels outside the image, or None.
    """

    pixels: np.ndarray
    source_width: int
    source_height: int
    transform: GrayscaleTransform = GrayscaleTransform()
    attributes: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    padding: tuple[int, int] | None = None


def shown(image: StoredImage) -> StoredImage:
    """Return the image, with its full range where its window or look-up table shows next to nothing of it.

    The rule: if the file's window or table leaves fewer than 8 of 256 grays, or cuts more than 95 % of the pixels to
    plain black or white, and the full range, from the darkest to the brightest value, shows more (8 at least, or 2
    where there is one), then the full range is used and a note says so. A quarter of a million pixels, evenly spread,
    are looked at.
    """
    if image.transform.black is None and image.transform.table is None:
        return image
    step = max(1, int((image.pixels.size / _LOOKED_AT) ** 0.5))
    pixels = image.pixels[::step, ::step]
    if image.padding is not None:
        pixels = pixels[(pixels < image.padding[0]) | (pixels > image.padding[1])].reshape(1, -1)
    full = GrayscaleTransform(inverted=image.transform.inverted)
    if not pixels.size:
        return image
    levels, cut = _looks(image.transform, pixels)
    if levels >= _FEWEST_GRAYS and cut <= _MOST_CUT:
        return image
    full_levels = _looks(full, pixels)[0]
    if full_levels <= levels or (full_levels < _FEWEST_GRAYS and levels > 1):
        return image
    name = "window" if image.transform.table is None else "window or look-up table"
    note = f"the {name} cuts {100 * cut:.0f} % of the pixels and leaves {levels} of 256 grays: full range used"
    return replace(image, transform=full, notes=(*image.notes, note))


def _looks(transform: GrayscaleTransform, pixels: np.ndarray) -> tuple[int, float]:
    """Return how many of 256 grays are shown, and the fraction of pixels cut to black or white, without extremes."""
    gray = transform.gray(pixels, *transform.limits(pixels))
    low, high = value_range(pixels)
    cut = ((gray <= 0) | (gray >= 1)) & (pixels != low) & (pixels != high)
    return len(np.unique((gray * 255).round().astype(np.uint8))), float(cut.mean())


def gray_of_color(color: np.ndarray, levels: int) -> tuple[np.ndarray, bool]:
    """Return the gray of an image stored as color whose channels are nearly equal.

    Args:
        color: (H, W, 3) uint8 or uint16, red first.
        levels: number of values that a channel can have.

    Returns:
        (H, W) of the same dtype, and whether the channels are equal everywhere.

    Raises:
        ImageError: neighboring channels differ by more than 3 of 256 levels in the mean.
    """
    differences, gray = 0, np.empty(color.shape[:2], color.dtype)
    for row, values in enumerate(color):
        red, green, blue = values.T
        differences += int(cv2.absdiff(red, green).sum(dtype=np.int64) + cv2.absdiff(green, blue).sum(dtype=np.int64))
        wide = values.T.astype(np.uint32)  # NumPy 1 would multiply bytes by these numbers as 16 bits
        weighted = wide[0] * 19595 + wide[1] * 38470 + wide[2] * 7471  # ITU-R BT.601, as Pillow
        gray[row] = (weighted + 32768) >> 16
    if differences / (2 * gray.size) > GRAY_TOLERANCE * levels / 256:
        raise ImageError("the image is colored: not a radiograph")
    return gray, differences == 0


def value_range(pixels: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest value of (H, W) pixels; OpenCV finds both in one pass."""
    low, high, _, _ = cv2.minMaxLoc(np.ascontiguousarray(pixels))
    return float(low), float(high)


def to_display(image: StoredImage) -> np.ndarray:
    """Return an image as displayed (P-values), (H, W) float32 in [0, 1]; pixels outside the image are black."""
    outside = padded(image)
    inside = image.pixels if outside is None else image.pixels[~outside].reshape(1, -1)
    gray = image.transform.gray(image.pixels, *image.transform.limits(inside))
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
