"""From stored values to P-values: modality LUT or rescale, VOI LUT or window, polarity (PS3.3 C.11).

A straight line where the header describes one, else a table of every value that the stored bits can hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from d2_cxr.counted import counted
from d2_cxr.dicom.header import PixelFormat, code, number, numbers, pixel_spacing
from d2_cxr.dicom.stored_image import GrayscaleTransform, ImageError


def transform(dataset: Dataset, form: PixelFormat, notes: list[str]) -> GrayscaleTransform:
    """Return the map from stored value to gray values as displayed (P-values), PS3.3 C.11.1, C.11.2 and C.7.6.3.1.2."""
    inverted = _is_inverted(dataset, notes)
    slope, intercept = rescale(dataset)
    modality_lut = _lut(dataset, "ModalityLUTSequence", form.signed)
    voi_lut = _lut(dataset, "VOILUTSequence", modality_lut is None and (form.signed or intercept < 0))
    if voi_lut is not None:
        voi_lut = _reached(voi_lut, notes)
    window = _window(dataset, notes) if voi_lut is None else None
    function = (code(dataset, "VOILUTFunction") or "LINEAR") if window else "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ImageError(f"VOI LUT Function (0028,1056) is {function}, not LINEAR, LINEAR_EXACT or SIGMOID")
    if modality_lut is not None or voi_lut is not None or function == "SIGMOID":
        return _table(form, slope, intercept, modality_lut, voi_lut, window, function, inverted)
    falls = inverted != (slope < 0)  # high stored values are dark
    if window is None:
        return GrayscaleTransform(inverted=falls)
    black, white = ((value - intercept) / slope for value in _window_ends(window, function))
    if not (math.isfinite(black) and math.isfinite(white)):
        notes.append("Window Center (0028,1050) and Width (0028,1051) are out of range: full range used")
        return GrayscaleTransform(inverted=falls)
    return GrayscaleTransform(white, black, falls) if inverted else GrayscaleTransform(black, white, falls)


def rescale(dataset: Dataset) -> tuple[float, float]:
    """Return Rescale Slope (0028,1053) and Intercept (0028,1052), PS3.3 C.11.1.1.2; 1 and 0 where absent."""
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope == 0:
        raise ImageError("Rescale Slope (0028,1053) is 0: every pixel would have one value")
    return 1.0 if slope is None else slope, intercept or 0.0


def attributes(dataset: Dataset, form: PixelFormat, transfer_syntax: str, notes: list[str]) -> dict:
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
        "view_position": code(dataset, "ViewPosition"),
        "body_part": code(dataset, "BodyPartExamined"),
    }


def _is_inverted(dataset: Dataset, notes: list[str]) -> bool:
    monochrome1 = code(dataset, "PhotometricInterpretation") == "MONOCHROME1"  # low values are bright, C.7.6.3.1.2
    shape = code(dataset, "PresentationLUTShape")  # PS3.3 C.11.6; INVERSE goes with MONOCHROME1, C.8.11.3
    if shape == "INVERSE" and not monochrome1:
        notes.append("Presentation LUT Shape (2050,0020) is INVERSE on MONOCHROME2: inverted")
        return True
    return monochrome1


def _window(dataset: Dataset, notes: list[str]) -> tuple[float, float] | None:
    """Return (center, width): the first of several, PS3.3 C.11.2.1.2, or None where there is none that is valid."""
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None and width is None:
        return None
    if center is None or width is None:
        absent = "Window Center (0028,1050)" if center is None else "Window Width (0028,1051)"
        notes.append(f"{absent} is missing although its partner is there: full range used")
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


def _table(
    form: PixelFormat,
    slope: float,
    intercept: float,
    modality_lut: _Lut | None,
    voi_lut: _Lut | None,
    window: tuple[float, float] | None,
    function: str,
    inverted: bool,
) -> GrayscaleTransform:
    """Return the gray of every value that the stored bits can hold, as a table."""
    start = -(1 << (form.stored - 1)) if form.signed else 0
    values = np.arange(start, start + (1 << form.stored), dtype=np.float64)
    values = modality_lut.apply(values) if modality_lut is not None else values * slope + intercept
    if voi_lut is not None:
        gray = voi_lut.apply(values) / ((1 << voi_lut.bits) - 1)
    elif window and function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        gray = 1 / (1 + np.exp(np.clip(-4 * (values - window[0]) / window[1], -700, 700)))
    else:
        low, high = _window_ends(window, function) if window else (values.min(), values.max())
        gray = (values - low) / (high - low) if high > low else (values > low).astype(np.float64)
    gray = np.clip(np.asarray(gray, np.float64), 0, 1)
    if not np.isfinite(gray).all():
        raise ImageError("the rescale or the window maps stored values to no finite number")
    table = (1 - gray if inverted else gray).astype(np.float32)
    falls = (values[-1] < values[0]) != inverted  # of the whole range: how it is shown where the table shows nothing
    return GrayscaleTransform(table=table, table_start=start, inverted=bool(falls))


@dataclass(frozen=True)
class _Lut:
    """A look-up table: LUT Descriptor (0028,3002) and LUT Data (0028,3006), PS3.3 C.11.1.1.1 and C.11.2.1.1."""

    first: int
    bits: int
    entries: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        index = np.clip(np.floor(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def _reached(voi_lut: _Lut, notes: list[str]) -> _Lut:
    """Return a VOI LUT with the bits that its entries reach.

    The third value of LUT Descriptor (0028,3002) is the range of the entries, PS3.3 C.11.2.1.1; some devices write the
    width of a cell there, 16, for entries of 12 bits.
    """
    bits = max(1, int(voi_lut.entries.max()).bit_length())
    if bits == voi_lut.bits:
        return voi_lut
    notes.append(f"LUT Descriptor (0028,3002) says {voi_lut.bits} bits, the entries reach {bits}: scaled by {bits}")
    return replace(voi_lut, bits=bits)


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
        raise ImageError(f"{keyword} holds no table that can be read: LUT Descriptor (0028,3002), Data (0028,3006)")
    count, first, bits = (int(value) for value in descriptor)
    count = count if count > 0 else count + 65536  # 0 says 65536; read as signed, large counts come out negative
    if signed_input and first >= 32768:
        first -= 65536
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, "<u2" if len(entries) >= 2 * count else "u1")
    entries = np.asarray(entries, np.float64)[:count] % 65536
    if len(entries) < count or not 8 <= bits <= 16:
        raise ImageError(
            f"{keyword} promises {counted(count, 'entry', 'entries')} of {bits} bits and holds {len(entries)}"
        )
    return _Lut(first, bits, entries)
