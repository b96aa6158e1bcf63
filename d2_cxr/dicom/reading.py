"""DICOM files -> stored pixels and their grayscale transform; the only place where DICOM pixels are decoded.

One answer for every transfer syntax (PS3.5 section 8 and annex A): pydicom reads headers, native pixels and the
encapsulation; codecs.py decodes compressed frames. The rules of the header are in header.py and grayscale.py, what a
file may claim in limits.py.
"""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array

from d2_cxr.counted import counted
from d2_cxr.dicom import grayscale, header, limits
from d2_cxr.dicom.codecs import JPEG_2000, JPEG_LS, SOC_SIZ, decode_jpeg_2000, decode_samples, stored_bits
from d2_cxr.dicom.header import PixelFormat, syntax_name
from d2_cxr.dicom.stored_image import ImageError, StoredImage, gray_of_color, shown

NATIVE = {uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian}
NATIVE |= {uids.DeflatedExplicitVRLittleEndian}  # deflates the data set, not the frame; undone while reading

_ITEM = b"\xfe\xff\x00\xe0"  # encapsulated Pixel Data begins with an item, PS3.5 A.4
_STARTS = {
    SOC_SIZ: uids.JPEG2000,
    b"\x00\x00\x00\x0cjP": uids.JPEG2000,  # in a JP2 box
    b"\xff\xd8\xff": uids.JPEGBaseline8Bit,  # the decoder sees which JPEG it is, but for JPEG-LS
}
_JPEG_LS_FRAME = b"\xff\xf7"  # SOF55, ISO/IEC 14495-1 C.2.2


def read(path: str | Path, min_size: int | None = None, check_modality: bool = True) -> StoredImage:
    """Read a radiograph's stored pixels and what brings them to gray values as displayed (P-values).

    Args:
        path: DICOM file with one gray frame.
        min_size: JPEG 2000 may be decoded at a reduced resolution that keeps both sides a fifth longer than this.
        check_modality: raise if Modality is present and is not a radiograph's (CR, DX, ...).

    Raises:
        ImageError: the file is none that can be shown as a radiologist would see it; says which tag and value.
    """
    return decode(Path(path).read_bytes(), min_size, check_modality)


def decode(content: bytes, min_size: int | None = None, check_modality: bool = True) -> StoredImage:
    """Read the same from a file's bytes.

    Raises:
        ImageError: also where the header or the pixels make a library fail in any other way.
    """
    try:
        return _decode(content, min_size, check_modality)
    except ImageError:
        raise
    except Exception as error:  # pydicom and the codecs raise a dozen kinds, and their text may quote the header
        raise ImageError(
            f"the DICOM file cannot be read ({type(error).__name__}): an element or the pixels are damaged"
        ) from error


def _decode(content: bytes, min_size: int | None, check_modality: bool) -> StoredImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about values that we do not use, and quotes them
        dataset = read_header(content)
        if check_modality:
            header.check_modality(dataset)
        notes: list[str] = []
        form = header.pixel_format(dataset, notes)
        limits.check_pixels(form.columns, form.rows, len(content))
        syntax = _transfer_syntax(dataset, notes)
        transform = grayscale.transform(dataset, form, notes)
        may_reduce = transform.table is None and "PixelPaddingValue" not in dataset  # averages of those mean nothing
        pixels = _decode_frame(dataset, form, syntax, min_size if may_reduce else None, notes)
        image = StoredImage(
            pixels=pixels,
            source_width=form.columns,
            source_height=form.rows,
            transform=transform,
            attributes=grayscale.attributes(dataset, form, syntax_name(syntax), notes),
            notes=(*notes, *header.view_notes(dataset)),
            padding=header.padding(dataset),
        )
        return shown(image)


def raw_frame(content: bytes) -> np.ndarray:
    """Return the first frame of any DICOM pixels, as pydicom decodes them, (H, W) or (H, W, 3): to be looked at only.

    Raises:
        Exception: whatever pydicom raises, where there is nothing to look at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = read_header(content)
        limits.check_pixels(dataset.Columns, dataset.Rows * dataset.SamplesPerPixel, len(content))
        if dataset.file_meta.TransferSyntaxUID not in NATIVE | {uids.RLELossless} | JPEG_2000:
            limits.check_jpeg(_encapsulated(dataset.PixelData), dataset.Rows, dataset.Columns)
        if dataset.file_meta.TransferSyntaxUID in JPEG_LS:
            limits.check_jpeg_ls(_encapsulated(dataset.PixelData))
        return pixel_array(dataset, index=0)


def is_dicom(content: bytes) -> bool:
    """Whether a file is DICOM by its bytes: the prefix of PS3.10 7.1, or, without it, a first element."""
    without_prefix = content[:2] in (b"\x02\x00", b"\x08\x00") and content[3:4] == b"\x00"  # group 0002 or 0008
    return content[128:132] == b"DICM" or (without_prefix and len(content) > 132)


def read_header(content: bytes) -> Dataset:
    """Read the elements that matter, pixels undecoded; files without the prefix of PS3.10 too."""
    deflated = limits.deflated_part(content)
    if deflated is not None:
        limits.check_inflated(deflated, len(content))
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
        raise ImageError(
            "Transfer Syntax UID (0002,0010) is missing, and the first bytes of the pixels fit none that is known"
        )
    notes.append(f"Transfer Syntax UID (0002,0010) is missing: {found.keyword}, as the pixels' first bytes show")
    return found


def _decode_frame(
    dataset: Dataset, form: PixelFormat, syntax: str, min_size: int | None, notes: list[str]
) -> np.ndarray:
    if syntax in NATIVE:
        return _gray(_native(dataset, form, syntax, notes), form, notes)
    frame = _encapsulated(dataset.PixelData)
    if syntax in JPEG_2000:
        return decode_jpeg_2000(frame, form, min_size)
    return _gray(decode_samples(frame, form, syntax), form, notes)


def _encapsulated(data: bytes) -> bytes:
    try:
        frame = get_frame(data, 0, number_of_frames=1)
    except Exception as error:
        raise ImageError("Pixel Data (7FE0,0010) is cut short: its encapsulation does not end (PS3.5 A.4)") from error
    if not frame:
        raise ImageError("Pixel Data (7FE0,0010) is empty")
    return frame


def _native(dataset: Dataset, form: PixelFormat, syntax: str, notes: list[str]) -> np.ndarray:
    """Return uncompressed samples, PS3.5 section 8.2.1."""
    data, cell = dataset.PixelData, form.allocated // 8
    count = form.rows * form.columns * form.samples
    if len(data) < count * cell:
        raise ImageError(f"Pixel Data (7FE0,0010) is cut short: {len(data)} of {count * cell} bytes")
    if len(data) > count * cell + 1:  # one byte may pad to an even length
        notes.append(
            f"Pixel Data (7FE0,0010) is {counted(len(data) - count * cell, 'byte')} too long: the first frame was taken"
        )
    big = syntax == uids.ExplicitVRBigEndian
    if big and cell == 1 and dataset["PixelData"].VR == "OW":  # bytes travel as swapped words
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    pixels = np.frombuffer(data, f"{'>' if big else '<'}u{cell}", count=count)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _gray(samples: np.ndarray, form: PixelFormat, notes: list[str]) -> np.ndarray:
    """Return (H, W) stored values of decoded samples; color only where it is gray, bits beyond the stored refused."""
    is_shaped = samples.ndim == (3 if form.samples == 3 else 2)  # native and RLE samples come in one row
    expected = (form.rows, form.columns)
    if samples.size != form.rows * form.columns * form.samples or (is_shaped and samples.shape[:2] != expected):
        raise ImageError(f"the pixels are {samples.shape}, the header says {form.rows} rows x {form.columns} columns")
    if form.samples == 3:
        samples = _one_channel(samples, form, notes)
    return stored_bits(samples.reshape(form.rows, form.columns), form)


def _one_channel(samples: np.ndarray, form: PixelFormat, notes: list[str]) -> np.ndarray:
    planar = form.planar == 1 and samples.ndim == 1  # codecs and RLE give their own order
    color = samples.reshape(3, -1).T if planar else samples.reshape(-1, 3)
    gray, is_exact = gray_of_color(color.reshape(form.rows, form.columns, 3), 1 << form.stored)
    if not is_exact:
        notes.append("Photometric Interpretation (0028,0004) is RGB and the channels differ a little: taken as gray")
    return gray
