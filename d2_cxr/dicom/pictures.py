"""PNG, JPEG, TIFF and BMP -> stored pixels, turned as every viewer turns them (EXIF), with all bits that they have.

Pillow reads the files and refuses what is cut short; OpenCV reads 16-bit color and 16-bit gray with alpha, of which
Pillow keeps 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator

import cv2
import numpy as np

from d2_cxr.dicom import limits
from d2_cxr.dicom.stored_image import GrayscaleTransform, ImageError, StoredImage, gray_of_color

_FIRST_BYTES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
}
_OTHER = {
    b"GIF8": "GIF",
    b"\x00\x00\x00\x0cjP": "JPEG 2000 without DICOM",
    b"\xff\x4f\xff\x51": "JPEG 2000 without DICOM",
    b"\x00\x00\x00\x0cJXL": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"%PDF": "PDF",
    b"\x93NUMPY": "a NumPy array",
    b"NRRD": "NRRD",
    b"\x1f\x8b": "gzip (NIfTI?)",
    b"PK\x03\x04": "a ZIP archive",
}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths of BMP's second header
_ORIENTATION = 0x0112  # EXIF and TIFF tag; 1 is upright
_WHITE_IS_ZERO = 0
_WIDE_GRAY = ("I;16", "I;16L", "I;16B", "I")


def kind_of(content: bytes) -> str | None:
    """Return "PNG", "JPEG", "TIFF" or "BMP" by a file's first 18 bytes, or None."""
    for start, kind in _FIRST_BYTES.items():
        if content.startswith(start):
            return kind
    is_bmp = content[:2] == b"BM" and int.from_bytes(content[14:18], "little") in _BMP_HEADERS
    return "BMP" if is_bmp else None


def other_kind(content: bytes) -> str | None:
    """Return the name of a kind of file that is known and not read, or None."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((name for start, name in _OTHER.items() if content.startswith(start)), None)


def decode(content: bytes, kind: str) -> StoredImage:
    """Read a gray picture.

    Args:
        content: of the file.
        kind: as given by `kind_of`.

    Raises:
        ImageError: it is colored, transparent, of several pages, larger than the limit, damaged or cut short.
    """
    try:
        with _quiet(), _opened(content, kind) as image:
            notes: list[str] = []
            mode, is_inverted = image.mode, _is_inverted(image)
            orientation = image.getexif().get(_ORIENTATION, 1)  # asked before decoding, which may turn a TIFF
            pixels = _pixels(image, content, kind)
            is_turned = kind == "TIFF" and not _is_wide_color(image, content, kind)
            pixels = _turned(pixels, orientation, is_turned, notes)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, ...
        raise ImageError(f"the {kind} cannot be decoded ({type(error).__name__}): damaged or cut short") from error
    height, width = pixels.shape
    is_wide = pixels.dtype != np.uint8
    return StoredImage(
        pixels=pixels,
        source_width=width,
        source_height=height,
        transform=GrayscaleTransform(inverted=is_inverted) if is_wide else GrayscaleTransform(0, 255),
        attributes={
            "transfer_syntax": kind,
            "photometric": mode.replace(";", ""),
            "bits_stored": pixels.dtype.itemsize * 8,
            "signed": pixels.dtype == np.int16,
            "window": "",
            "rescale": "",
            "pixel_spacing": None,
            "spacing_tag": "",
            "view_position": "",
            "body_part": "",
        },
        notes=tuple(notes),
    )


def raw_pixels(content: bytes) -> np.ndarray:
    """Return (H, W) or (H, W, 3) uint8 of any picture within the limits: to be looked at only.

    Raises:
        Exception: any, where there is nothing to look at.
    """
    with _quiet(), _opened(content, kind_of(content)) as image:
        return np.asarray(image.convert("L" if image.mode in (*_WIDE_GRAY, "F") else "RGB"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow from warning of sizes, whose limit is another here, and of damaged tags, which it leaves out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _opened(content: bytes, kind: str | None):
    """Return a Pillow image, not decoded yet, whose size is within the limits."""
    from PIL import Image

    if kind == "JPEG":
        limits.jpeg_size(content)
    try:
        image = Image.open(io.BytesIO(content), formats=(kind or "",))
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise ImageError(
            f"{pixels // 10**6} million pixels: more than the limit of {limits.MAX_PIXELS // 10**6} million; make the "
            "image smaller"
        ) from error
    limits.check_pixels(*image.size, len(content))
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and kind == "TIFF":
        raise ImageError(f"the TIFF has {pages} pages: only one page is read")
    return image


def _pixels(image, content: bytes, kind: str) -> np.ndarray:
    """Return (H, W) uint8, uint16 or int16 as they lie in the file, not turned."""
    image.load()  # Pillow refuses what is cut short, OpenCV fills it with gray
    if _is_wide_color(image, content, kind):
        return _wide_color(content)
    if image.mode in _WIDE_GRAY:
        return _wide_gray(np.asarray(image))
    if image.mode == "F":
        raise ImageError("the pixels are floating-point numbers: only integers are read")
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"))
    has_alpha = image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
    if has_alpha and image.convert("RGBA").getextrema()[3][0] < 255:
        raise ImageError("the image is partly transparent: what lies beneath is unknown")
    return gray_of_color(np.asarray(image.convert("RGB")), 256)[0]


def _is_wide_color(image, content: bytes, kind: str) -> bool:
    """Whether Pillow would cut samples of 16 bits to 8."""
    if kind == "PNG":  # IHDR: bit depth, color type: gray 0, RGB 2, palette 3, gray and alpha 4, RGBA 6
        return content[24] == 16 and content[25] != 0
    bits = image.tag_v2.get(258, (1,)) if kind == "TIFF" else (8,)  # BitsPerSample
    return len(bits) > 1 and max(bits) > 8


def _wide_color(content: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ImageError("the pixels are color of more than 8 bits that cannot be decoded; save the image as gray")
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 65535:
        raise ImageError("the image is partly transparent: what lies beneath is unknown")
    return gray_of_color(pixels[..., 2::-1], 65536)[0]  # OpenCV puts blue first


def _wide_gray(pixels: np.ndarray) -> np.ndarray:
    low, high = int(pixels.min()), int(pixels.max())
    if low < -32768 or high > (32767 if low < 0 else 65535):
        raise ImageError(f"the pixels reach from {low} to {high}: at most 16 bits are read")
    return pixels.astype(np.int16 if low < 0 else np.uint16)


def _is_inverted(image) -> bool:
    """Whether low values are bright: TIFF's WhiteIsZero, which Pillow undoes for 8 bits alone."""
    tags = getattr(image, "tag_v2", {})
    return image.mode in _WIDE_GRAY and tags.get(262) == _WHITE_IS_ZERO


def _turned(pixels: np.ndarray, orientation: int, is_turned: bool, notes: list[str]) -> np.ndarray:
    """Return the pixels as every viewer shows them, by EXIF's Orientation (CIPA DC-008, 4.6.4 A)."""
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: a.T[:, ::-1],
        7: lambda a: a.T[::-1, ::-1],
        8: lambda a: a.T[::-1],
    }
    if orientation not in turns:
        return pixels
    notes.append(f"EXIF Orientation is {orientation}: turned as viewers show it, boxes count in the turned image")
    return pixels if is_turned else np.ascontiguousarray(turns[orientation](pixels))
