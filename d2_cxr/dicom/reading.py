"""DICOM files -> stored pixels and their way to display sense; the only place where DICOM pixels are decoded.

One answer for every transfer syntax (PS3.5 section 8 and annex A): pydicom reads headers, native pixels and the
encapsulation; Pillow decodes JPEG 2000, at reduced resolution where the target allows; imagecodecs decodes JPEG, JPEG
lossless, JPEG-LS and RLE. The rules of the header stand in header.py and grayscale.py.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array

from d2_cxr.dicom import grayscale, header
from d2_cxr.dicom.header import Layout
from d2_cxr.dicom.stored_image import ImageError, StoredImage

NATIVE = {uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian}
NATIVE |= {uids.DeflatedExplicitVRLittleEndian}  # deflates the data set, not the frame; undone while reading
JPEG = {uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit, uids.JPEGLossless, uids.JPEGLosslessSV1}
JPEG_LS = {uids.JPEGLSLossless, uids.JPEGLSNearLossless}
JPEG_2000 = {uids.JPEG2000Lossless, uids.JPEG2000, uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL, uids.HTJ2K}

_SOC_SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000 codestreams begin so, ISO/IEC 15444-1 A.4
_COD = b"\xff\x52"
_MARGIN = 1.2  # a reduced decode is averaged once more: without that its error doubles
_ITEM = b"\xfe\xff\x00\xe0"  # encapsulated Pixel Data begins with an item, PS3.5 A.4
_STARTS = {
    _SOC_SIZ: uids.JPEG2000,
    b"\x00\x00\x00\x0cjP": uids.JPEG2000,  # in a JP2 box
    b"\xff\xd8\xff": uids.JPEGBaseline8Bit,  # the decoder sees which JPEG it is, but for JPEG-LS
}
_JPEG_LS_FRAME = b"\xff\xf7"  # SOF55, ISO/IEC 14495-1 C.2.2


def read(path: str | Path, min_size: int | None = None, check_modality: bool = True) -> StoredImage:
    """Read a radiograph's stored pixels and what brings them to display sense.

    Args:
        path: DICOM file with one gray frame.
        min_size: JPEG 2000 may be decoded at a reduced resolution that keeps both sides a fifth longer than this.
        check_modality: refuse what says of itself that it is no radiograph.

    Raises:
        ImageError: the file is none that can be shown as a radiologist would see it; says which tag and value.
    """
    return decode(Path(path).read_bytes(), min_size, check_modality)


def decode(content: bytes, min_size: int | None = None, check_modality: bool = True) -> StoredImage:
    """The same from a file's bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about values that we do not use, and quotes them
        dataset = read_header(content)
        if check_modality:
            header.check_modality(dataset)
        notes: list[str] = []
        form = header.layout(dataset, notes)
        syntax = _transfer_syntax(dataset, notes)
        display = grayscale.display(dataset, form, notes)
        may_reduce = display.table is None and "PixelPaddingValue" not in dataset  # averages of those mean nothing
        pixels = _decode_frame(dataset, form, syntax, min_size if may_reduce else None, notes)
        return StoredImage(
            pixels=pixels,
            source_width=form.columns,
            source_height=form.rows,
            display=display,
            attributes=grayscale.attributes(dataset, form, _syntax_name(syntax), notes),
            notes=tuple(notes),
            padding=header.padding(dataset),
        )


def raw_frame(content: bytes) -> np.ndarray:
    """Return the first frame of any DICOM pixels, as pydicom decodes them, (H, W) or (H, W, 3): to be looked at only.

    Raises:
        Exception: whatever pydicom raises, where there is nothing to look at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pixel_array(read_header(content), index=0)


def is_dicom(content: bytes) -> bool:
    """Tell by its bytes whether a file is DICOM: the prefix of PS3.10 7.1, or, without it, a first element."""
    without_prefix = content[:2] in (b"\x02\x00", b"\x08\x00") and content[3:4] == b"\x00"  # group 0002 or 0008
    return content[128:132] == b"DICM" or (without_prefix and len(content) > 132)


def read_header(content: bytes) -> Dataset:
    """Read the elements that matter, pixels undecoded; files without the prefix of PS3.10 too."""
    quiet = logging.getLogger("pydicom")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        force = content[128:132] != b"DICM"
        return pydicom.dcmread(io.BytesIO(content), force=force, specific_tags=header.SPECIFIC_TAGS)
    except Exception as error:  # pydicom raises a dozen kinds, and some quote the header
        raise ImageError(f"the DICOM header cannot be read ({type(error).__name__}): cut short?") from error
    finally:
        quiet.setLevel(level)


def _transfer_syntax(dataset: Dataset, notes: list[str]) -> str:
    """Return Transfer Syntax UID (0002,0010), or what the bytes show where it is missing."""
    meta = getattr(dataset, "file_meta", None)
    syntax = getattr(meta, "TransferSyntaxUID", None) if meta is not None else None
    if syntax:
        return syntax
    data = dataset.PixelData
    if not data.startswith(_ITEM):
        notes.append("Transfer Syntax UID (0002,0010) is missing: native pixels, as their bytes show")
        return uids.ImplicitVRLittleEndian if dataset.original_encoding[1] is not False else uids.ExplicitVRBigEndian
    frame = _encapsulated(data)
    found = next((uid for start, uid in _STARTS.items() if frame.startswith(start)), None)
    if found == uids.JPEGBaseline8Bit and _JPEG_LS_FRAME in frame[:256]:
        found = uids.JPEGLSLossless
    if found is None:
        raise ImageError("Transfer Syntax UID (0002,0010) is missing and the pixels begin like none that is known")
    notes.append(f"Transfer Syntax UID (0002,0010) is missing: {found.keyword}, as the pixels' first bytes show")
    return found


def _decode_frame(dataset: Dataset, form: Layout, syntax: str, min_size: int | None, notes: list[str]) -> np.ndarray:
    if syntax in NATIVE:
        return _gray(_native(dataset, form, syntax, notes), form)
    frame = _encapsulated(dataset.PixelData)
    if syntax in JPEG_2000:
        return _jpeg_2000(frame, form, min_size)
    return _gray(_with_imagecodecs(frame, form, syntax), form)


def _encapsulated(data: bytes) -> bytes:
    try:
        frame = get_frame(data, 0, number_of_frames=1)
    except Exception as error:
        raise ImageError("Pixel Data (7FE0,0010) is cut short: its encapsulation does not end (PS3.5 A.4)") from error
    if not frame:
        raise ImageError("Pixel Data (7FE0,0010) is empty")
    return frame


def _native(dataset: Dataset, form: Layout, syntax: str, notes: list[str]) -> np.ndarray:
    """Return uncompressed samples, PS3.5 section 8.2.1."""
    data, cell = dataset.PixelData, form.allocated // 8
    count = form.rows * form.columns * form.samples
    if len(data) < count * cell:
        raise ImageError(f"Pixel Data (7FE0,0010) is cut short: {len(data)} of {count * cell} bytes")
    if len(data) > count * cell + 1:  # one byte may pad to an even length
        notes.append(f"Pixel Data (7FE0,0010) is {len(data) - count * cell} bytes too long: the first frame taken")
    big = syntax == uids.ExplicitVRBigEndian
    if big and cell == 1 and dataset["PixelData"].VR == "OW":  # bytes travel as swapped words
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    pixels = np.frombuffer(data, f"{'>' if big else '<'}u{cell}", count=count)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _with_imagecodecs(frame: bytes, form: Layout, syntax: str) -> np.ndarray:
    try:
        import imagecodecs
    except ImportError as error:
        raise ImageError(f"{_syntax_name(syntax)} needs the package imagecodecs: pip install imagecodecs") from error
    try:
        if syntax == uids.RLELossless:  # PS3.5 annex G
            cell = np.dtype(f"<u{form.allocated // 8}")
            planes = np.frombuffer(imagecodecs.dicomrle_decode(frame, cell), cell)
            return planes.reshape(form.samples, -1).T if form.samples > 1 else planes
        if syntax in JPEG:  # PS3.5 A.4.1, A.4.2
            return imagecodecs.jpeg8_decode(frame)
        if syntax in JPEG_LS:  # PS3.5 A.4.3
            return imagecodecs.jpegls_decode(frame)
    except Exception as error:
        raise ImageError(f"the {_syntax_name(syntax)} pixels cannot be decoded ({type(error).__name__})") from error
    raise ImageError(f"Transfer Syntax UID (0002,0010) is {_syntax_name(syntax)}, which is not decoded here")


def _gray(samples: np.ndarray, form: Layout) -> np.ndarray:
    """Return (H, W) stored values of decoded samples; color only where it is gray, bits beyond the stored refused."""
    is_shaped = samples.ndim == (3 if form.samples == 3 else 2)  # native and RLE samples come in one row
    expected = (form.rows, form.columns)
    if samples.size != form.rows * form.columns * form.samples or (is_shaped and samples.shape[:2] != expected):
        raise ImageError(f"the pixels are {samples.shape}, the header says {form.rows} rows x {form.columns} columns")
    if form.samples == 3:
        samples = _one_channel(samples, form)
    return _stored_bits(samples.reshape(form.rows, form.columns), form)


def _one_channel(samples: np.ndarray, form: Layout) -> np.ndarray:
    planar = form.planar == 1 and samples.ndim == 1  # codecs and RLE give their own order
    color = samples.reshape(3, -1).T if planar else samples.reshape(-1, 3)
    if np.abs(np.diff(color.astype(np.int32), axis=1)).max() > 0:
        raise ImageError("Photometric Interpretation (0028,0004) is RGB and the pixels are colored: no radiograph")
    return np.ascontiguousarray(color[:, 0])


def _stored_bits(pixels: np.ndarray, form: Layout) -> np.ndarray:
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


def _jpeg_2000(frame: bytes, form: Layout, min_size: int | None) -> np.ndarray:
    """Decode JPEG 2000 (PS3.5 A.4.4), reduced where both sides stay at least `min_size`."""
    start = frame.find(_SOC_SIZ)
    if start < 0:
        raise ImageError("the JPEG 2000 pixels hold no codestream: damaged or cut short")
    components = int.from_bytes(frame[start + 40 : start + 42], "big")  # Csiz, ISO/IEC 15444-1 A.5.1
    depth = frame[start + 42]  # Ssiz: sign, and precision less one
    precision, signed = (depth & 0x7F) + 1, bool(depth & 0x80)
    if components != 1 or precision > 16:
        raise ImageError(f"the JPEG 2000 pixels have {components} components of {precision} bits: images have one")
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
        pixels = _stored_bits(pixels.astype(np.uint16) & ((1 << form.stored) - 1), form)
    return _align(pixels, form, reduce) if reduce else pixels


def _reduction(frame: bytes, form: Layout, min_size: int | None) -> int:
    """Return how many times the resolution may be halved."""
    if not min_size:
        return 0
    cod = frame.find(_COD, frame.find(_SOC_SIZ))
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
                image._size = tuple(-(-side >> reduce) << reduce for side in image.size)
                image.reduce = reduce
            image.load()
            return np.asarray(image)
    except Exception as error:
        raise ImageError(
            f"the JPEG 2000 pixels cannot be decoded ({type(error).__name__}): damaged or cut short"
        ) from error


def _align(reduced: np.ndarray, form: Layout, reduce: int) -> np.ndarray:
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


def _syntax_name(syntax: str) -> str:
    name = getattr(uids.UID(syntax), "keyword", "") or str(syntax)
    return name if re.fullmatch(r"[A-Za-z0-9.]{1,64}", name) else "an unknown syntax"
