"""The header of a DICOM film: what its pixels are, and the rule that brings them to display sense.

Each rule stands beside its tag and section of the standard. What the standard defines is followed; what it forbids
but real files hold is handled where only one reading makes sense, and noted; the rest is refused by tag and value.
Values are quoted only where they are codes or numbers: a header may hold names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from d2_cxr.data.film import Display, FilmRefused

# PS3.3 C.7.3.1.1.1. VinDr-CXR's films carry no modality. OT and SC hold what scanners and converters made.
RADIOGRAPHS = ("CR", "DX", "RG", "RF", "OT", "SC")
MAX_PIXELS = 150_000_000  # a header may claim any size; no detector is larger

KEYWORDS = (
    "Modality SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated "
    "BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept "
    "ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction PresentationLUTShape PixelSpacing "
    "ImagerPixelSpacing NominalScannedPixelSpacing FloatPixelData DoubleFloatPixelData PixelData"
).split()
OVERLAY_BIT_POSITION = Tag(0x6000, 0x0102)
SPECIFIC_TAGS = [*KEYWORDS, OVERLAY_BIT_POSITION]  # nothing else is read, so nothing else can leak


@dataclass(frozen=True)
class Layout:
    """How one frame's samples lie in memory, PS3.5 section 8.1.

    Attributes:
        rows, columns: of the frame.
        samples: 1 for grey, 3 for RGB.
        allocated, stored, high_bit: bits of a cell, bits in use, and their highest.
        signed: two's complement.
        planar: colour by plane (1) or by pixel (0).
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


def layout(dataset: Dataset, notes: list[str]) -> Layout:
    """Read the image pixel module (PS3.3 C.7.6.3).

    Raises:
        FilmRefused: no pixels, more than one frame, colour by its photometric interpretation, or an odd cell.
    """
    _refuse_without_pixels(dataset)
    rows, columns = (int(_required(dataset, keyword)) for keyword in ("Rows", "Columns"))
    if not 0 < rows * columns <= MAX_PIXELS:
        raise FilmRefused(f"Rows (0028,0010) {rows} x Columns (0028,0011) {columns} is no size of a film")
    frames = number(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise FilmRefused(f"Number of Frames (0028,0008) is {frames:g}: a film has one")
    allocated = int(_required(dataset, "BitsAllocated"))
    if allocated not in (8, 16):
        raise FilmRefused(f"Bits Allocated (0028,0100) is {allocated}: films have 8 or 16")
    stored = number(dataset, "BitsStored")
    if stored is None:
        notes.append(f"Bits Stored (0028,0101) is missing: {allocated} assumed")
        stored = allocated
    if not 2 <= stored <= allocated:
        raise FilmRefused(f"Bits Stored (0028,0101) is {stored:g} of {allocated} allocated")
    high_bit = number(dataset, "HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if not stored - 1 <= high_bit < allocated:
        raise FilmRefused(f"High Bit (0028,0102) is {high_bit:g} with {stored:g} bits stored of {allocated}")
    return Layout(
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
    """Refuse what says of itself that it is no radiograph; a missing modality passes."""
    modality = code(dataset, "Modality")
    if modality and modality not in RADIOGRAPHS:
        raise FilmRefused(f"Modality (0008,0060) is {modality}: no radiograph ({', '.join(RADIOGRAPHS)})")


def display(dataset: Dataset, form: Layout, notes: list[str]) -> Display:
    """Return the map from stored value to display sense, PS3.3 C.11.1, C.11.2 and C.7.6.3.1.2."""
    inverted = _is_inverted(dataset, notes)
    slope, intercept = rescale(dataset)
    modality_lut = _lut(dataset, "ModalityLUTSequence", form.signed)
    voi_lut = _lut(dataset, "VOILUTSequence", modality_lut is None and (form.signed or intercept < 0))
    window = _window(dataset, notes) if voi_lut is None else None
    function = (code(dataset, "VOILUTFunction") or "LINEAR") if window else "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise FilmRefused(f"VOI LUT Function (0028,1056) is {function}: none of LINEAR, LINEAR_EXACT, SIGMOID")
    if modality_lut is not None or voi_lut is not None or function == "SIGMOID":
        return _table(form, slope, intercept, modality_lut, voi_lut, window, function, inverted)
    if window is None:
        return Display(inverted=inverted != (slope < 0))
    black, white = ((value - intercept) / slope for value in _window_ends(window, function))
    return Display(white, black) if inverted else Display(black, white)


def rescale(dataset: Dataset) -> tuple[float, float]:
    """Return Rescale Slope (0028,1053) and Intercept (0028,1052), PS3.3 C.11.1.1.2; 1 and 0 where absent."""
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope == 0:
        raise FilmRefused("Rescale Slope (0028,1053) is 0: every pixel would have one value")
    return 1.0 if slope is None else slope, intercept or 0.0


def padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return first and last Pixel Padding Value (0028,0120), (0028,0121), PS3.3 C.7.5.1.1.2, or None."""
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = number(dataset, "PixelPaddingRangeLimit")
    last = first if last is None else last
    return int(min(first, last)), int(max(first, last))


def attributes(dataset: Dataset, form: Layout, transfer_syntax: str, notes: list[str]) -> dict:
    """Return what the manifest keeps of a header."""
    window = _window(dataset, [])
    if "VOILUTSequence" in dataset and _items(dataset, "VOILUTSequence"):
        window_text = "VOI LUT"
    else:
        window_text = "" if window is None else f"{window[0]:g}/{window[1]:g}"
    slope, intercept = rescale(dataset)
    has_lut = "ModalityLUTSequence" in dataset and _items(dataset, "ModalityLUTSequence")
    has_rescale = any(number(dataset, keyword) is not None for keyword in ("RescaleSlope", "RescaleIntercept"))
    spacing, tag = pixel_spacing(dataset, notes)
    return {
        "transfer_syntax": transfer_syntax,
        "photometric": code(dataset, "PhotometricInterpretation"),
        "bits_stored": form.stored,
        "signed": form.signed,
        "window": window_text,
        "rescale": "modality LUT" if has_lut else f"{slope:g}/{intercept:g}" if has_rescale else "",
        "pixel_spacing": spacing,
        "spacing_tag": tag,
    }


def pixel_spacing(dataset: Dataset, notes: list[str]) -> tuple[tuple[float, float] | None, str]:
    """Return ((row, column) spacing in mm, the tag's keyword), PS3.3 10.7.1.3; 0 or unreadable means absent.

    Pixel Spacing may be calibrated to the patient, Imager Pixel Spacing is measured at the detector, so that lengths
    come out magnified: whoever measures needs the tag's name.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            values = numbers(dataset, keyword)
        except FilmRefused:
            notes.append(f"{keyword} is unreadable: taken as absent")
            continue
        if len(values) == 2 and min(values) > 0:
            return (values[0], values[1]), keyword
    return None, ""


def code(dataset: Dataset, keyword: str) -> str:
    """Return a code string, "" where absent; what does not look like a code is not repeated."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return ""
    value = value if isinstance(value, str) else value[0] if len(value) else ""
    value = str(value).strip().upper()
    return value if re.fullmatch(r"[A-Z0-9_ ]{0,16}", value) else "(not a code)"


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric element, None where it is absent or empty."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return every value of a numeric element.

    Raises:
        FilmRefused: what stands there is not a number.
    """
    try:
        value = dataset.get(keyword)
        if value is None or (isinstance(value, str) and not value.strip()):
            return []
        values = [value] if isinstance(value, (str, int, float)) else list(value)
        values = [float(item) for item in values if item is not None and str(item).strip() != ""]
    except (TypeError, ValueError, OverflowError) as error:
        raise FilmRefused(f"{_name(keyword)} is not a number") from error
    if not all(np.isfinite(values)):
        raise FilmRefused(f"{_name(keyword)} is not a finite number")
    return values


def _refuse_without_pixels(dataset: Dataset) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise FilmRefused("Float Pixel Data (7FE0,0008): films have integers")
    if "PixelData" not in dataset or dataset["PixelData"].is_empty:
        raise FilmRefused("Pixel Data (7FE0,0010) is missing")


def _samples(dataset: Dataset) -> int:
    photometric = code(dataset, "PhotometricInterpretation")  # PS3.3 C.7.6.3.1.2
    samples = int(number(dataset, "SamplesPerPixel") or 1)
    if (photometric in ("MONOCHROME1", "MONOCHROME2") and samples == 1) or (photometric == "RGB" and samples == 3):
        return samples
    raise FilmRefused(
        f"Photometric Interpretation (0028,0004) is {photometric or 'missing'} with {samples} samples a pixel: films "
        "are MONOCHROME1, MONOCHROME2 or grey RGB"
    )


def _is_inverted(dataset: Dataset, notes: list[str]) -> bool:
    monochrome1 = code(dataset, "PhotometricInterpretation") == "MONOCHROME1"  # low values are bright, C.7.6.3.1.2
    shape = code(dataset, "PresentationLUTShape")  # PS3.3 C.11.6; INVERSE goes with MONOCHROME1, C.8.11.3
    if shape == "INVERSE" and not monochrome1:
        notes.append("Presentation LUT Shape (2050,0020) is INVERSE on MONOCHROME2: inverted")
        return True
    return monochrome1


def _window(dataset: Dataset, notes: list[str]) -> tuple[float, float] | None:
    """Return (centre, width): the first of several, PS3.3 C.11.2.1.2, or None where there is none that is valid."""
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None and width is None:
        return None
    if center is None or width is None:
        absent = "Window Center (0028,1050)" if center is None else "Window Width (0028,1051)"
        notes.append(f"{absent} is missing beside its partner: full range used")
        return None
    exact = code(dataset, "VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID")  # these allow any width above 0
    if width <= 0 or (width < 1 and not exact):
        notes.append(f"Window Width (0028,1051) is {width:g}: full range used")
        return None
    return center, width


def _window_ends(window: tuple[float, float], function: str) -> tuple[float, float]:
    """Return the modality values shown black and white, PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2."""
    center, width = window
    if function == "LINEAR":
        return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    return center - width / 2, center + width / 2


def _table(form: Layout, slope, intercept, modality_lut, voi_lut, window, function: str, inverted: bool) -> Display:
    """Return the display of every value that the stored bits can hold, as a table."""
    start = -(1 << (form.stored - 1)) if form.signed else 0
    values = np.arange(start, start + (1 << form.stored), dtype=np.float64)
    values = modality_lut.apply(values) if modality_lut is not None else values * slope + intercept
    if voi_lut is not None:
        grey = voi_lut.apply(values) / ((1 << voi_lut.bits) - 1)
    elif function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        grey = 1 / (1 + np.exp(np.clip(-4 * (values - window[0]) / window[1], -700, 700)))
    else:
        low, high = _window_ends(window, function) if window else (values.min(), values.max())
        grey = (values - low) / (high - low) if high > low else values > low
    grey = np.clip(np.asarray(grey, np.float64), 0, 1)
    return Display(table=(1 - grey if inverted else grey).astype(np.float32), table_start=start)


@dataclass(frozen=True)
class _Lut:
    """A look-up table: LUT Descriptor (0028,3002) and LUT Data (0028,3006), PS3.3 C.11.1.1.1 and C.11.2.1.1."""

    first: int
    bits: int
    entries: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        index = np.clip(np.floor(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = dataset.get(keyword)
    return list(value) if value else []


def _lut(dataset: Dataset, keyword: str, signed_input: bool) -> _Lut | None:
    """Return the first table of a sequence, or None where there is none."""
    items = _items(dataset, keyword)
    if not items:
        return None
    descriptor, entries = numbers(items[0], "LUTDescriptor"), items[0].get("LUTData")
    if len(descriptor) != 3 or entries is None:
        raise FilmRefused(f"{keyword} holds no table that can be read: LUT Descriptor (0028,3002), Data (0028,3006)")
    count, first, bits = (int(value) for value in descriptor)
    count = count if count > 0 else count + 65536  # 0 says 65536; read as signed, large counts come out negative
    if signed_input and first >= 32768:
        first -= 65536
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, "<u2" if len(entries) >= 2 * count else "u1")
    entries = np.asarray(entries, np.float64)[:count] % 65536
    if len(entries) < count or not 8 <= bits <= 16:
        raise FilmRefused(f"{keyword} promises {count} entries of {bits} bits and holds {len(entries)}")
    return _Lut(first, bits, entries)


def _required(dataset: Dataset, keyword: str) -> float:
    value = number(dataset, keyword)
    if value is None:
        raise FilmRefused(f"{_name(keyword)} is missing")
    return value


def _name(keyword: str) -> str:
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = Tag(tag_for_keyword(keyword))
    return f"{dictionary_description(tag)} ({tag.group:04X},{tag.element:04X})"
