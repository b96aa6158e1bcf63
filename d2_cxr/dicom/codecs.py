"""One encapsulated DICOM frame -> its samples: imagecodecs reads JPEG, JPEG-LS and RLE, Pillow reads JPEG 2000.

A stream's claims are compared with the header before it is decoded, because a decoder allocates what a stream claims.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from pydicom import uid as uids

from d2_cxr.dicom import limits
from d2_cxr.dicom.header import PixelFormat, syntax_name
from d2_cxr.dicom.stored_image import ImageError

JPEG = {uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit, uids.JPEGLossless, uids.JPEGLosslessSV1}
JPEG_LS = {uids.JPEGLSLossless, uids.JPEGLSNearLossless}
JPEG_2000 = {uids.JPEG2000Lossless, uids.JPEG2000, uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL, uids.HTJ2K}

SOC_SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000 codestreams begin so, ISO/IEC 15444-1 A.4
_COD = b"\xff\x52"
_MARGIN = 1.2  # a reduced decode is averaged once more: without that its error doubles


def decode_samples(frame: bytes, form: PixelFormat, syntax: str) -> np.ndarray:
    """Decode JPEG (PS3.5 A.4.1, A.4.2), JPEG-LS (A.4.3) or RLE (annex G).

    Returns:
        (H, W) or (H, W, 3) as the codec gives it; of RLE (H * W,) or (H * W, 3).

    Raises:
        ImageError: the stream is damaged or contradicts the header; the transfer syntax is not one of these.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise ImageError(f"{syntax_name(syntax)} needs the package imagecodecs: pip install imagecodecs") from error
    try:
        if syntax == uids.RLELossless:
            return _rle(frame, form, imagecodecs.packbits_decode)
        if syntax in JPEG or syntax in JPEG_LS:
            limits.check_jpeg(frame, form.rows, form.columns)
            if syntax in JPEG:
                return imagecodecs.jpeg8_decode(frame)
            limits.check_jpeg_ls(frame)
            return imagecodecs.jpegls_decode(frame)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"the {syntax_name(syntax)} pixels cannot be decoded ({type(error).__name__})") from error
    name = syntax_name(syntax)
    raise ImageError(f"Transfer Syntax UID (0002,0010) is {name}, which is not supported; decompress the file")


def _rle(frame: bytes, form: PixelFormat, unpack) -> np.ndarray:
    """Unpack each segment by itself; imagecodecs' own reader of whole frames trusts their offsets and crashes."""
    count, cell = form.rows * form.columns, form.allocated // 8
    planes = np.empty((form.samples, cell, count), np.uint8)
    for index, segment in enumerate(limits.rle_segments(frame, form.samples * cell, count)):
        unpacked = unpack(segment)
        if len(unpacked) < count:
            raise ImageError(f"the RLE pixels are cut short: {len(unpacked)} of {count} bytes in a segment")
        planes[index // cell, cell - 1 - index % cell] = np.frombuffer(unpacked, np.uint8, count)  # high byte first
    samples = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f"<u{cell}")[..., 0]
    return samples.T if form.samples > 1 else samples[0]


def decode_jpeg_2000(frame: bytes, form: PixelFormat, min_size: int | None) -> np.ndarray:
    """Decode JPEG 2000 (PS3.5 A.4.4), at reduced resolution where both sides stay at least `min_size`.

    Returns:
        (H, W) uint8, uint16 or int16 stored values.

    Raises:
        ImageError: the codestream is damaged, colored, or contradicts the header.
    """
    start = frame.find(SOC_SIZ)
    if start < 0 or len(frame) < start + 43:
        raise ImageError("the JPEG 2000 pixels hold no codestream: damaged or cut short")
    components = int.from_bytes(frame[start + 40 : start + 42], "big")  # Csiz, ISO/IEC 15444-1 A.5.1
    depth = frame[start + 42]  # Ssiz: sign, and precision less one
    precision, signed = (depth & 0x7F) + 1, bool(depth & 0x80)
    if components != 1 or precision > 16:
        raise ImageError(f"the JPEG 2000 pixels have {components} components of {precision} bits: a radiograph has one")
    _check_size(frame[start : start + 43], form)
    reduce = _reduction(frame, form, min_size)
    pixels = _pillow_jpeg_2000(frame, reduce)
    expected = (-(-form.rows >> reduce), -(-form.columns >> reduce))
    if pixels.shape != expected:
        raise ImageError(f"the JPEG 2000 pixels are {pixels.shape}, the header says {form.rows} x {form.columns}")
    if pixels.dtype == np.uint16:  # Pillow scales to 16 bits by the stream's precision, not by Bits Stored
        pixels = pixels >> (16 - precision)
    elif precision < 8:
        pixels = pixels >> (8 - precision)
    if signed:  # Pillow adds half the range to signed streams
        pixels = (pixels.astype(np.int32) - (1 << (precision - 1))).astype(np.int16)
    if form.signed != signed:  # the header decides what the bits mean
        pixels = stored_bits(pixels.astype(np.uint16) & ((1 << form.stored) - 1), form)
    return _align(pixels, form, reduce) if reduce else pixels


def _check_size(codestream: bytes, form: PixelFormat) -> None:
    """Refuse another size than the header's: Xsiz, Ysiz less XOsiz, YOsiz, ISO/IEC 15444-1 A.5.1."""
    right, bottom, left, top = (int.from_bytes(codestream[place : place + 4], "big") for place in (8, 12, 16, 20))
    if (bottom - top, right - left) != (form.rows, form.columns):
        raise ImageError(
            f"the JPEG 2000 pixels are {(bottom - top, right - left)}, the header says {form.rows} x {form.columns}"
        )


def _reduction(frame: bytes, form: PixelFormat, min_size: int | None) -> int:
    """Return how many times the resolution may be halved."""
    if not min_size:
        return 0
    cod = frame.find(_COD, frame.find(SOC_SIZ))
    levels = frame[cod + 9] if 0 < cod < len(frame) - 9 else 0  # decomposition levels, ISO/IEC 15444-1 A.6.1
    reduce = 0
    while reduce < levels and min(form.rows, form.columns) >> (reduce + 1) >= _MARGIN * min_size:
        reduce += 1
    return reduce


def _pillow_jpeg_2000(frame: bytes, reduce: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as image:
            if reduce:
                # Pillow rounds the reduced size, the standard rounds it up: give it a size on which both agree.
                width, height = (-(-side >> reduce) << reduce for side in image.size)
                image._size = (width, height)
                image.reduce = reduce  # type: ignore[method-assign, assignment]  # as Pillow does
            image.load()
            return np.asarray(image)
    except Exception as error:
        raise ImageError(
            f"the JPEG 2000 pixels cannot be decoded ({type(error).__name__}): damaged or cut short"
        ) from error


def _align(reduced: np.ndarray, form: PixelFormat, reduce: int) -> np.ndarray:
    """Shift a reduced decode so that it covers the frame as an area average would.

    Sample k of a low-pass band sits on pixel k * 2^reduce of the frame, an average over 2^reduce pixels in their
    middle: the two lie (1 - 2^-reduce) / 2 reduced pixels apart. The last column may also reach beyond the frame.
    """
    height, width = reduced.shape
    scale_x, scale_y = form.columns / 2**reduce / width, form.rows / 2**reduce / height
    phase = (1 - 2.0**-reduce) / 2
    to_reduced = np.array([[scale_x, 0, 0.5 * scale_x - 0.5 + phase], [0, scale_y, 0.5 * scale_y - 0.5 + phase]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(reduced, to_reduced, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def stored_bits(pixels: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Return the stored bits as unsigned or signed values, PS3.5 section 8.1.1."""
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    shift = form.high_bit + 1 - form.stored
    if shift:
        unsigned = unsigned >> shift
    if form.signed:
        spare = unsigned.dtype.itemsize * 8 - form.stored  # sign-extend: up to the top, and back with the sign
        signed = (unsigned << spare).view(f"i{unsigned.dtype.itemsize}") >> spare
        return signed.astype(np.int16, copy=False)
    limit = (1 << form.stored) - 1
    if form.stored < unsigned.dtype.itemsize * 8 and cv2.minMaxLoc(unsigned)[1] > limit:
        if not form.has_overlay_bits:
            raise ImageError(f"pixel values above {limit} contradict Bits Stored (0028,0101) {form.stored}")
        unsigned = unsigned & limit
    return unsigned
