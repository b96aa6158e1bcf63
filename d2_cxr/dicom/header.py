"""The header of a DICOM image: which elements are read, and what its pixels are (PS3.3 C.7.6.3, PS3.5 section 8).

Each rule is next to its tag and section of the standard. What the standard defines is followed; what it forbids
but real files hold is handled where only one reading makes sense, and noted; the rest is refused by tag and value.
Values are quoted only where they are codes or numbers: a header may hold names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from d2_cxr.dicom.stored_image import ImageError

# PS3.3 C.7.3.1.1.1. VinDr-CXR's images have no modality. OT and SC hold what scanners and converters made.
RADIOGRAPHS = ("CR", "DX", "RG", "RF", "OT", "SC")

# Codes that may be quoted. Anything else in these elements may be a name or a number of a patient.
_KNOWN_CODES = {
    keyword: frozenset(codes.split("|"))
    for keyword, codes in {
        "Modality": "AR|AU|BDUS|BI|BMD|CD|CR|CT|DG|DX|ECG|EPS|ES|GM|HD|IO|IVOCT|IVUS|KO|LS|MG|MR|NM|OCT|OP|OT|PT|PX"
        "|RF|RG|RTDOSE|RTIMAGE|RTPLAN|RTSTRUCT|SC|SEG|SM|SR|TG|US|VA|XA|XC",
        "PhotometricInterpretation": "MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|ARGB|CMYK|HSV|XYB|YBR_FULL|YBR_FULL_422"
        "|YBR_PARTIAL_420|YBR_PARTIAL_422|YBR_ICT|YBR_RCT",
        "VOILUTFunction": "LINEAR|LINEAR_EXACT|SIGMOID",
        "RescaleType": "OD|HU|US|MGML|Z_EFF|ED|EDW|HU_MOD|PCT",  # PS3.3 C.11.1.1.2
        "PresentationLUTShape": "IDENTITY|INVERSE|LIN OD",
        "ViewPosition": "PA|AP|LL|RL|LLD|RLD|LLO|RLO|RAO|LAO|RPO|LPO|LAT|LATERAL",
        "BodyPartExamined": "ABDOMEN|ANKLE|ARM|BREAST|CHEST|CLAVICLE|CSPINE|ELBOW|FEMUR|FINGER|FOOT|FOREARM|HAND"
        "|HEAD|HIP|HUMERUS|JAW|KNEE|LEG|LSPINE|LUNG|NECK|PELVIS|PORT CHEST|RIB|SHOULDER|SKULL|SPINE|SSPINE|THORAX|TIBIA"
        "|TSPINE|WHOLEBODY|WRIST",
    }.items()
}
UNKNOWN_CODE = "(not a known code)"
_FRONTAL = ("", "PA", "AP")
_CHEST = ("", "CHEST", "THORAX", "LUNG", "PORT CHEST", "RIB")

OVERLAY_BIT_POSITION = Tag(0x6000, 0x0102)
SPECIFIC_TAGS: list[Any] = [  # nothing else is read, so nothing else can leak
    *("Modality", "ViewPosition", "BodyPartExamined"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", OVERLAY_BIT_POSITION),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("FloatPixelData", "DoubleFloatPixelData", "PixelData"),
]


@dataclass(frozen=True)
class PixelFormat:
    """How one frame's samples lie in memory, PS3.5 section 8.1.

    Attributes:
        rows, columns: of the frame.
        samples: 1 for gray, 3 for RGB.
        allocated, stored, high_bit: bits of a cell, bits in use, and their highest.
        signed: two's complement.
        planar: color by plane (1) or by pixel (0).
        has_overlay_bits: unused high bits may hold an overlay (retired, PS3.5 section 8.1.2).
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: int
    has_overlay_bits: bool


def pixel_format(dataset: Dataset, notes: list[str]) -> PixelFormat:
    """Read the image pixel module (PS3.3 C.7.6.3).

    Raises:
        ImageError: no pixels, more than one frame, color by its photometric interpretation, or an odd cell.
    """
    _refuse_without_pixels(dataset)
    rows, columns = (int(required(dataset, keyword)) for keyword in ("Rows", "Columns"))
    if rows <= 0 or columns <= 0:
        raise ImageError(f"Rows (0028,0010) {rows} x Columns (0028,0011) {columns} is not a possible image size")
    frames = number(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise ImageError(f"Number of Frames (0028,0008) is {frames:g}: only images of one frame are read")
    allocated = int(required(dataset, "BitsAllocated"))
    if allocated not in (8, 16):
        raise ImageError(f"Bits Allocated (0028,0100) is {allocated}: only 8 and 16 are read")
    stored = number(dataset, "BitsStored")
    if stored is None:
        notes.append(f"Bits Stored (0028,0101) is missing: {allocated} assumed")
        stored = allocated
    if not 2 <= stored <= allocated:
        raise ImageError(f"Bits Stored (0028,0101) is {stored:g} of {allocated} allocated")
    high_bit = number(dataset, "HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if not stored - 1 <= high_bit < allocated:
        raise ImageError(f"High Bit (0028,0102) is {high_bit:g} with {stored:g} bits stored of {allocated}")
    return PixelFormat(
        rows=rows,
        columns=columns,
        samples=_samples(dataset),
        allocated=allocated,
        stored=int(stored),
        high_bit=int(high_bit),
        signed=number(dataset, "PixelRepresentation") == 1,
        planar=int(number(dataset, "PlanarConfiguration") or 0),
        has_overlay_bits=OVERLAY_BIT_POSITION in dataset,
    )


def check_modality(dataset: Dataset) -> None:
    """Raise ImageError if Modality is present and is not a radiograph (CR, DX, ...)."""
    modality = code(dataset, "Modality")
    if modality and modality not in RADIOGRAPHS:
        raise ImageError(f"Modality (0008,0060) is {modality}: not a radiograph ({', '.join(RADIOGRAPHS)})")


def view_notes(dataset: Dataset) -> list[str]:
    """Return a note each where View Position (0018,5101) or Body Part Examined (0018,0015) is not a frontal chest."""
    view, part = code(dataset, "ViewPosition"), code(dataset, "BodyPartExamined")
    notes = []
    if view not in _FRONTAL:
        notes.append(f"View Position (0018,5101) is {view}: not a frontal view")
    if part not in _CHEST:
        notes.append(f"Body Part Examined (0018,0015) is {part}: not a chest")
    return notes


def padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return first and last Pixel Padding Value (0028,0120), (0028,0121), PS3.3 C.7.5.1.1.2, or None."""
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = number(dataset, "PixelPaddingRangeLimit")
    last = first if last is None else last
    return int(min(first, last)), int(max(first, last))


def pixel_spacing(dataset: Dataset, notes: list[str]) -> tuple[tuple[float, float] | None, str]:
    """Return ((row, column) spacing in mm, the tag's keyword), PS3.3 10.7.1.3; 0 or unreadable means absent.

    Pixel Spacing may be calibrated to the patient, Imager Pixel Spacing is measured at the detector, so that lengths
    are magnified: measurements need the tag's name.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            values = numbers(dataset, keyword)
        except ImageError:
            notes.append(f"{keyword} is unreadable: taken as absent")
            continue
        if len(values) == 2 and min(values) > 0:
            return (values[0], values[1]), keyword
    return None, ""


def code(dataset: Dataset, keyword: str) -> str:
    """Return a known code of an element, "" where it is absent, "(not a known code)" of any other text.

    Unknown text is not repeated: it may be a name.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else ""
    value = str(value).strip().upper()
    return value if value == "" or value in _KNOWN_CODES[keyword] else UNKNOWN_CODE


def syntax_name(syntax: str) -> str:
    """Return the keyword of a transfer syntax that DICOM defines, else "an unknown syntax": it may be a name."""
    return getattr(uids.UID(syntax), "keyword", "") or "an unknown syntax"


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric element, None where it is absent or empty."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return every value of a numeric element.

    Raises:
        ImageError: the value is not a number.
    """
    try:
        value = dataset.get(keyword)
        if value is None or (isinstance(value, str) and not value.strip()):
            return []
        items = [value] if isinstance(value, (str, int, float)) else list(value)
        values = [float(item) for item in items if item is not None and str(item).strip() != ""]
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"{element_name(keyword)} is not a number") from error
    if not all(np.isfinite(values)):
        raise ImageError(f"{element_name(keyword)} is not a finite number")
    return values


def _refuse_without_pixels(dataset: Dataset) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError("the image has Float Pixel Data (7FE0,0008): only integers are read")
    if "PixelData" not in dataset or dataset["PixelData"].is_empty:
        raise ImageError("Pixel Data (7FE0,0010) is missing")


def _samples(dataset: Dataset) -> int:
    photometric = code(dataset, "PhotometricInterpretation")  # PS3.3 C.7.6.3.1.2
    samples = int(number(dataset, "SamplesPerPixel") or 1)
    if (photometric in ("MONOCHROME1", "MONOCHROME2") and samples == 1) or (photometric == "RGB" and samples == 3):
        return samples
    raise ImageError(
        f"Photometric Interpretation (0028,0004) is {photometric or 'missing'} with {samples} samples a pixel: images "
        "are MONOCHROME1, MONOCHROME2 or gray RGB"
    )


def required(dataset: Dataset, keyword: str) -> float:
    """Return the first value of a numeric element.

    Raises:
        ImageError: the element is absent, or holds no number.
    """
    value = number(dataset, keyword)
    if value is None:
        raise ImageError(f"{element_name(keyword)} is missing")
    return value


def element_name(keyword: str) -> str:
    """Return the name and tag of an element, e.g. "Pixel Spacing (0028,0030)"."""
    from pydicom.datadict import dictionary_description

    tag = Tag(keyword)
    return f"{dictionary_description(tag)} ({tag.group:04X},{tag.element:04X})"
