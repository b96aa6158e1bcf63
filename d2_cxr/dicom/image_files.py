"""Any image file -> stored pixels: DICOM, PNG or JPEG, told apart by content and not by suffix."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np

from d2_cxr.dicom import reading
from d2_cxr.dicom.stored_image import Display, ImageError, StoredImage

__all__ = ["ImageError", "StoredImage", "decode_image", "kind_of", "preview", "read_image"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PREVIEW = 160  # pixels
_GRAY_TOLERANCE = 3.0  # mean levels between channels; JPEG's color transform moves grays by less


def read_image(path: str | Path, min_size: int | None = None) -> StoredImage:
    """Read an image.

    Args:
        path: DICOM file with one MONOCHROME1 or MONOCHROME2 frame, or a gray PNG or JPEG.
        min_size: side of what the image will be resized to; JPEG 2000 may be decoded at a reduced resolution that
            keeps both sides a fifth longer.

    Raises:
        ImageError: the file is none of these; says which tag and value.
    """
    return decode_image(Path(path).read_bytes(), min_size)


def decode_image(content: bytes, min_size: int | None = None) -> StoredImage:
    """The same from a file's bytes."""
    kind = kind_of(content)
    if kind == "DICOM":
        return reading.decode(content, min_size)
    if kind in ("PNG", "JPEG"):
        return _with_pillow(content, kind)
    raise ImageError("neither DICOM nor PNG nor JPEG by its first bytes" if content else "the file is empty")


def kind_of(content: bytes) -> str | None:
    """Return "DICOM", "PNG" or "JPEG" by a file's first 133 bytes, or None."""
    if content.startswith(_PNG):
        return "PNG"
    if content.startswith(_JPEG):
        return "JPEG"
    return "DICOM" if reading.is_dicom(content) else None


def preview(content: bytes) -> np.ndarray | None:
    """Return what there is to see of a file that was refused, (H, W) uint8 of 160 pixels at most, or None.

    Gray by the least and greatest value, no look-up table: it shows a person what kind of picture this is. Not more
    than a quarter of the source's pixels a side, so that text burnt into a picture is not to be read.
    """
    try:
        if kind_of(content) == "DICOM":
            pixels = reading.raw_frame(content)
        else:
            from PIL import Image

            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                pixels = np.asarray(image.convert("RGB"))
        gray = pixels.astype(np.float32).mean(axis=2) if pixels.ndim == 3 else pixels.astype(np.float32)
        scale = min(0.25, _PREVIEW / max(gray.shape))
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    except Exception:  # what was refused may be broken in any way; a preview is not owed
        return None
    low, high = float(small.min()), float(small.max())
    return ((small - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)


def _with_pillow(content: bytes, kind: str) -> StoredImage:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            image.load()  # Pillow refuses what is cut short, OpenCV fills it with gray
            mode, pixels = image.mode, _as_array(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError
        raise ImageError(f"the {kind} cannot be decoded ({type(error).__name__}): damaged or cut short") from error
    height, width = pixels.shape
    return StoredImage(
        pixels=pixels,
        source_width=width,
        source_height=height,
        display=Display(0, 255) if pixels.dtype == np.uint8 else Display(),  # 16 bits rarely use their whole range
        attributes={
            "transfer_syntax": kind,
            "photometric": mode.replace(";", ""),
            "bits_stored": pixels.dtype.itemsize * 8,
            "signed": False,
            "window": "",
            "rescale": "",
            "pixel_spacing": None,
            "spacing_tag": "",
        },
    )


def _as_array(image) -> np.ndarray:
    """Return (H, W) uint8 or uint16 of a Pillow image.

    Raises:
        ImageError: it is colored, or partly transparent.
    """
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"))
    has_alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    pixels = np.array(image.convert("RGBA" if has_alpha else "RGB"))
    if has_alpha and pixels[..., 3].min() < 255:
        raise ImageError("the image is partly transparent: what lies beneath is unknown")
    channels = pixels[..., :3].astype(np.int16)
    if np.abs(np.diff(channels, axis=2)).mean() > _GRAY_TOLERANCE:
        raise ImageError("the image is colored: no radiograph")
    return np.array(image.convert("RGB").convert("L"))
