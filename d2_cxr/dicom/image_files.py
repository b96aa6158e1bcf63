"""Any image file -> stored pixels: DICOM, or a picture (PNG, JPEG, TIFF, BMP), known by its content, not its suffix."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from d2_cxr.dicom import pictures, reading
from d2_cxr.dicom.stored_image import ImageError, StoredImage

__all__ = ["ImageError", "StoredImage", "decode_image", "kind_of", "preview", "read_image"]

_PREVIEW = 160  # pixels


def read_image(path: str | Path, min_size: int | None = None) -> StoredImage:
    """Read an image.

    Args:
        path: DICOM file with one MONOCHROME1 or MONOCHROME2 frame, or a gray PNG, JPEG, TIFF or BMP.
        min_size: side of what the image will be resized to; JPEG 2000 may be decoded at a reduced resolution that
            keeps both sides a fifth longer.

    Raises:
        ImageError: the file is not one of these, or damaged; names tag and value.
        OSError: the file cannot be opened.
    """
    return decode_image(Path(path).read_bytes(), min_size)


def decode_image(content: bytes, min_size: int | None = None) -> StoredImage:
    """Read the same from a file's bytes."""
    kind = kind_of(content)
    if kind == "DICOM":
        return reading.decode(content, min_size)
    if kind:
        return pictures.decode(content, kind)
    if not content:
        raise ImageError("the file is empty")
    other = pictures.other_kind(content)
    if other:
        raise ImageError(f"the file is {other}, which is not supported; convert it to PNG or TIFF")
    raise ImageError("neither DICOM nor PNG nor JPEG nor TIFF nor BMP by its first bytes")


def kind_of(content: bytes) -> str | None:
    """Return "DICOM", "PNG", "JPEG", "TIFF" or "BMP" by a file's first 133 bytes, or None.

    DICOM is tried first: its preamble may contain the first bytes of a TIFF file (PS3.10 7.1).
    """
    if content[128:132] == b"DICM":
        return "DICOM"
    return pictures.kind_of(content) or ("DICOM" if reading.is_dicom(content) else None)


def preview(content: bytes) -> np.ndarray | None:
    """Return what there is to see of a file that was refused, (H, W) uint8 of 160 pixels at most, or None.

    Gray between the 1st and 99th percentile, no look-up table: it shows a person what kind of picture this is. Not more
    than a quarter of the source's pixels a side, so that text burnt into a picture is not to be read. A file that was
    refused for its size has no preview.
    """
    try:
        if kind_of(content) == "DICOM":
            pixels = reading.raw_frame(content)
        else:
            pixels = pictures.raw_pixels(content)
        gray = cv2.transform(pixels, np.full((1, 3), 1 / 3)) if pixels.ndim == 3 else pixels
        scale = min(0.25, _PREVIEW / max(gray.shape))
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)
    except Exception:  # a refused file may be broken in any way, and a preview is optional
        return None
    low, high = np.percentile(small, [1, 99])  # one bright label or pixel does not make the rest black
    if high - low < 1:  # one color all over: mid-gray, as black would look like an empty picture
        return np.full(small.shape, 128, np.uint8)
    return np.clip((small - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
