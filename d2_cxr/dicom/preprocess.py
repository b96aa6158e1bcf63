"""Images -> network input: clip, resize, P-values, equalize; the same code in preparation and in prediction.

A window that cuts into the image's values is applied before resizing, because averages of what the window would have
cut are wrong; everything else is applied after it, on few pixels. The box map goes there and back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from d2_cxr.boxes import BoxMap
from d2_cxr.dicom.stored_image import GrayscaleTransform, ImageError, StoredImage, padded, value_range

_CHOICES = {
    "resize": ("squash", "letterbox"),
    "equalize": ("histogram", "stretch", "none"),
    "window": ("file", "full"),
}
_STRETCHED = (0.5, 99.5)  # percentiles of the prepared image that "stretch" shows as black and white


@dataclass(frozen=True)
class Preprocess:
    """How images become network input; travels with sets and weights.

    Attributes:
        size: side of the square result, in pixels.
        resize: "squash", width and height each scale to `size`; "letterbox", the longer side does, the image is
            centered and the rest is 0.
        equalize: "histogram", 256 bins over the image's display range; "stretch", the gray values between the .5 and
            99.5 percentiles of the resized image spread over black to white, in straight proportion; "none".
        window: "file", the window of the file where it has one; "full", from the darkest to the brightest value.
    """

    size: int = 512
    resize: str = "squash"
    equalize: str = "histogram"
    window: str = "file"

    def __post_init__(self):
        if not 16 <= self.size <= 4096:
            raise ValueError(f"size {self.size} is outside 16 to 4096 pixels")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(choices)}")

    def to_dict(self) -> dict:
        """Return the rules as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Preprocess:
        """Inverse of `to_dict`.

        Raises:
            ValueError: a key that this version does not know.
        """
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"preprocessing has unknown keys {sorted(unknown)}")
        return cls(**values)


def prepare_image(image: StoredImage, rules: Preprocess) -> tuple[np.ndarray, BoxMap]:
    """Return the network's image, (size, size) uint8, and the box map from the source image's pixels to it.

    Raises:
        ImageError: every pixel of the image has the same value, or is padding.
    """
    width, height, left, top = _placement(image.source_width, image.source_height, rules)
    transform = _transform(image, rules)
    outside = padded(image)
    black, white = transform.limits(image.pixels if outside is None else image.pixels[~outside].reshape(1, -1))
    pixels = image.pixels if outside is None else np.where(outside, _dark(transform, black), image.pixels)
    low, high = value_range(pixels)
    if low == high:
        raise ImageError(f"every pixel has the value {low:g}")
    if transform.table is None:
        gray = transform.gray(_resize(_clip(pixels, low, high, black, white), width, height), black, white)
    else:
        gray = _resize(transform.gray(pixels, black, white), width, height)
    inside = None if outside is None else _resize((~outside).astype(np.float32), width, height) >= 0.5
    result = _to_bytes(gray, rules.equalize, inside)
    if rules.resize == "letterbox":
        result = _center(result, rules.size, left, top)
    return result, box_map(image.source_width, image.source_height, rules)


def box_map(source_width: int, source_height: int, rules: Preprocess) -> BoxMap:
    """Return the map of boxes from an image's own pixels to the prepared image; its inverse comes back."""
    width, height, left, top = _placement(source_width, source_height, rules)
    return BoxMap(width / source_width, height / source_height, left, top)


def _placement(source_width: int, source_height: int, rules: Preprocess) -> tuple[int, int, int, int]:
    """Return width, height, left and top of the image within the prepared image, in whole pixels."""
    if rules.resize == "squash":
        return rules.size, rules.size, 0, 0
    longer = max(source_width, source_height)
    width = max(1, round(source_width * rules.size / longer))
    height = max(1, round(source_height * rules.size / longer))
    return width, height, (rules.size - width) // 2, (rules.size - height) // 2


def _transform(image: StoredImage, rules: Preprocess) -> GrayscaleTransform:
    if rules.window == "file" or image.transform.table is not None:
        return image.transform
    own = image.transform
    inverted = own.inverted if own.black is None or own.white is None else own.inverted or own.black > own.white
    return GrayscaleTransform(inverted=inverted)


def _dark(transform: GrayscaleTransform, black: float) -> float:
    """Return the stored value that is shown darkest."""
    if transform.table is not None:
        return transform.table_start + int(transform.table.argmin())
    return black


def _clip(pixels: np.ndarray, low: float, high: float, black: float, white: float) -> np.ndarray:
    """Cut values that the window shows as plain black or white, where there are any."""
    first, last = min(black, white), max(black, white)
    if first <= low and last >= high:
        return pixels
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize == 1:
        pixels = pixels.astype(np.float32)
        return np.clip(pixels, first, last)
    whole = np.iinfo(pixels.dtype)
    halves = first % 1 != 0 or last % 1 != 0  # common: center - 0.5
    first, last = (min(max(end, whole.min), whole.max) for end in (first, last))
    if halves and last - first < 64:  # where half a step shows
        return np.clip(pixels.astype(np.float32), first, last)
    return np.clip(pixels, int(np.floor(first)), int(np.ceil(last)))


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Area-average where a side shrinks, interpolate where it grows; 8-bit values keep their fractions."""
    if pixels.dtype.itemsize == 1 or pixels.dtype == np.float64:
        pixels = pixels.astype(np.float32)
    smaller = (min(width, pixels.shape[1]), min(height, pixels.shape[0]))
    if smaller != pixels.shape[::-1]:
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels


def _to_bytes(gray: np.ndarray, equalize: str, inside: np.ndarray | None) -> np.ndarray:
    """Return (H, W) uint8 of gray in [0, 1]; what is not `inside` is left out of the histogram and comes out 0."""
    levels = (gray * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
    curve = _CURVES[equalize](levels if inside is None else levels[inside])
    result = (curve + 0.5).astype(np.uint8)[levels]
    if inside is not None:
        result[~inside] = 0
    return result


def equalization_curve(levels: np.ndarray) -> np.ndarray:
    """Return the map (65536,) of 16-bit gray to [0, 255] that makes the histogram flat, by 256 bins.

    The cumulative fraction is taken at the bins' edges and joined by straight lines, so that a value in the middle of a
    bin gets the middle of its ranks: a curve that begins at the first bin's count would shift all grays with the
    fraction of black.
    """
    counts = np.bincount(((levels.ravel().astype(np.int32) + 128) // 257), minlength=256)  # bin k is around k / 255
    ranks = np.concatenate([[0], np.cumsum(counts)]) / max(1, levels.size)
    edges = (np.arange(257) - 0.5) * 257
    return np.interp(np.arange(65536), edges, ranks) * 255


def stretch_curve(levels: np.ndarray) -> np.ndarray:
    """Return the map (65536,) of 16-bit gray to [0, 255] that spreads the middle 99 % of `levels` over all grays.

    Where these percentiles are one value (nearly all of the image is), the darkest and the brightest take their place.
    """
    if not levels.size:
        return _unchanged(levels)
    black, white = np.percentile(levels, _STRETCHED)
    if white <= black:
        black, white = levels.min(), levels.max()
    return ((np.arange(65536) - black) / max(1.0, white - black)).clip(0, 1) * 255


def _unchanged(_levels: np.ndarray) -> np.ndarray:
    return np.arange(65536) / 257


_CURVES = {"histogram": equalization_curve, "stretch": stretch_curve, "none": _unchanged}


def _center(image: np.ndarray, size: int, left: int, top: int) -> np.ndarray:
    canvas = np.zeros((size, size), np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas
