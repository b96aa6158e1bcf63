"""Images written as DICOM in the variants that occur in archives: depth, polarity, windows, rescale, spacing, transfer
syntax.

`write_dicom` takes an image after the grayscale transform and a `Style`; `wrap` writes stored pixels as they are.
Attributes are those that remain after VinDr-CXR's de-identification (no UIDs of study or series, no names); PS3.5 and
PS3.3 C.7.6.3, C.11.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from d2_cxr import artifacts

SYNTAXES = {  # PS3.5 annex A
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "jpeg_lossless": "1.2.840.10008.1.2.4.70",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}
_DX_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
_ROOT = "2.25."  # UIDs derived from UUIDs, PS3.5 B.2


@dataclass(frozen=True)
class Style:
    """How an image is stored. Windows are (center, width) in modality units, which is stored * slope + intercept."""

    syntax: str = "explicit"
    photometric: str = "MONOCHROME2"
    bits_stored: int = 12
    level: tuple[float, float] = (0.0, 1.0)  # stored range used, as fractions of the depth
    gamma: float = 1.0  # stored = display ** gamma before scaling
    windows: tuple[str, ...] = ()  # "full" spans the used range, "soft" and "hard" cut it
    rescale: tuple[float, float] | None = None  # slope, intercept
    pixel_spacing: float | None = None  # mm
    spacing_tag: str = "PixelSpacing"  # or ImagerPixelSpacing
    sex: str | None = None
    age: str | None = None


def draw_style(rng: np.random.Generator, size: int) -> Style:
    """Draw a random style of a mixed archive; RLE rarely, because pydicom's encoder is slow."""
    syntax = str(rng.choice(list(SYNTAXES), p=[0.12, 0.38, 0.22, 0.22, 0.06]))
    bits = int(rng.choice([12, 12, 12, 14, 15, 16, 10]))
    low = rng.uniform(0.0, 0.15)
    windows = [(), ("full",), ("full",), ("soft", "full"), ("full", "soft", "hard")][int(rng.integers(5))]
    rescale = [None, None, (1.0, 0.0), (1.0, -1024.0), (0.5, 100.0)][int(rng.integers(5))]
    spacing = [None, 0.1, 0.125, 0.139, 0.143, 0.148, 0.168, 0.2][int(rng.integers(8))]
    return Style(
        syntax=syntax,
        photometric="MONOCHROME1" if rng.random() < 0.2 else "MONOCHROME2",
        bits_stored=bits,
        level=(low, rng.uniform(0.75, 1.0)),
        gamma=rng.uniform(0.8, 1.25),
        windows=windows,
        rescale=rescale,
        pixel_spacing=None if spacing is None else round(spacing * 2800 / size, 4),
        spacing_tag="ImagerPixelSpacing" if rng.random() < 0.3 else "PixelSpacing",
        sex=[None, "M", "F", "O"][int(rng.integers(4))],
        age=None if rng.random() < 0.4 else f"{int(rng.integers(18, 95)):03d}Y",
    )


def write_dicom(path: str | os.PathLike, pixels: np.ndarray, style: Style | None = None) -> None:
    """Write an image as DICOM, atomically.

    Args:
        pixels: float32 (H, W) in [0, 1], after the grayscale transform: 1 is white for any photometric
            interpretation.
        style: how it is stored; default: 12 bits, MONOCHROME2, uncompressed.
    """
    style = style or Style()
    top = 2**style.bits_stored - 1
    low, high = (round(share * top) for share in style.level)
    values = np.clip(pixels, 0, 1) ** np.float32(style.gamma)
    if style.photometric == "MONOCHROME1":  # low values are bright, PS3.3 C.7.6.3.1.2
        values = 1 - values
    stored = np.rint(low + values * (high - low)).astype(np.uint16)
    slope, intercept = style.rescale or (1.0, 0.0)
    bounds = {"full": (0.0, 1.0), "soft": (0.05, 0.9), "hard": (0.3, 0.8)}
    windows = []
    for name in style.windows:
        first, last = (((low + share * (high - low)) * slope + intercept) for share in bounds[name])
        windows.append((round((first + last) / 2, 1), round(last - first, 1)))
    wrap(
        path,
        stored,
        syntax=style.syntax,
        photometric=style.photometric,
        bits_stored=style.bits_stored,
        windows=windows,
        rescale=style.rescale,
        pixel_spacing=style.pixel_spacing,
        spacing_tag=style.spacing_tag,
        sex=style.sex,
        age=style.age,
    )


def wrap(
    path: str | os.PathLike,
    pixels: np.ndarray,
    syntax: str = "explicit",
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = None,
    windows=(),
    rescale: tuple[float, float] | None = None,
    pixel_spacing: float | None = None,
    spacing_tag: str = "PixelSpacing",
    sex: str | None = None,
    age: str | None = None,
    identified: bool = False,
) -> None:
    """Write stored pixels as a DICOM file, atomically.

    Args:
        pixels: uint8 or uint16 (H, W), stored as they are (no inversion for MONOCHROME1).
        syntax: a key of SYNTAXES.
        bits_stored: depth of the values; default: that of the type.
        windows: (center, width) pairs in modality units; none writes no window tag.
        rescale: (slope, intercept); None writes no rescale tag.
        pixel_spacing: mm, for rows and columns; None writes no tag.
        identified: also write SOP class and the UIDs of study, series and instance (derived from the pixels).

    Raises:
        ValueError: pixels are not uint8/uint16 (H, W), exceed bits_stored, or syntax is not in SYNTAXES.
    """
    pixels = np.ascontiguousarray(pixels)
    bits_stored = _check(pixels, syntax, bits_stored)
    dataset = _dataset(pixels, photometric, bits_stored, windows, rescale, sex, age)
    if pixel_spacing is not None:
        setattr(dataset, spacing_tag, [pixel_spacing, pixel_spacing])
    digest = int(hashlib.sha256(pixels.tobytes()).hexdigest()[:30], 16)
    if identified:
        dataset.SOPClassUID, dataset.Modality = UID(_DX_STORAGE), "DX"
        for number, keyword in enumerate(("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")):
            setattr(dataset, keyword, UID(f"{_ROOT}{digest + number}"))
    _store_pixels(dataset, pixels, syntax, bits_stored)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(SYNTAXES[syntax])
    dataset.file_meta.MediaStorageSOPClassUID = UID(_DX_STORAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{_ROOT}{digest}")
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    artifacts.write_bytes(path, buffer.getvalue())


def _check(pixels: np.ndarray, syntax: str, bits_stored: int | None) -> int:
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 2:
        raise ValueError(f"pixels must be uint8 or uint16 (H, W), got {pixels.dtype} {pixels.shape}")
    if syntax not in SYNTAXES:
        raise ValueError(f"no transfer syntax {syntax!r} here; choose one of {', '.join(SYNTAXES)}")
    bits_stored = bits_stored or 8 * pixels.itemsize
    if bits_stored > 8 * pixels.itemsize or int(pixels.max(initial=0)) >= 2**bits_stored:
        raise ValueError(f"values up to {pixels.max()} ({pixels.dtype}) do not fit into {bits_stored} bits")
    return bits_stored


def _dataset(pixels: np.ndarray, photometric: str, bits_stored: int, windows, rescale, sex, age) -> Dataset:
    dataset = Dataset()
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    if windows:
        centers, widths = ([float(value) for value in column] for column in zip(*windows, strict=True))
        dataset.WindowCenter = centers if len(centers) > 1 else centers[0]
        dataset.WindowWidth = widths if len(widths) > 1 else widths[0]
    if rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
        dataset.RescaleType = "US"
    if sex:
        dataset.PatientSex = sex
    if age:
        dataset.PatientAge = age
    return dataset


def _store_pixels(dataset: Dataset, pixels: np.ndarray, syntax: str, bits_stored: int) -> None:
    if syntax in ("implicit", "explicit"):
        raw = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
        dataset["PixelData"].VR = "OW"
        return
    dataset.PixelData = encapsulate([_encode(pixels, syntax, bits_stored)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _encode(pixels: np.ndarray, syntax: str, bits_stored: int) -> bytes:
    if syntax == "rle":
        from pydicom.pixels.encoders import RLELosslessEncoder

        return RLELosslessEncoder.encode(
            pixels.tobytes(),
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            samples_per_pixel=1,
            bits_allocated=8 * pixels.itemsize,
            bits_stored=bits_stored,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
        )
    import imagecodecs

    if syntax == "jpeg_lossless":
        return imagecodecs.ljpeg_encode(pixels, bitspersample=bits_stored)
    return imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat="j2k", reversible=True, bitspersample=bits_stored, mct=False
    )
