"""Files below 1 MB that claim as many pixels as they may need no more than 600 MB of a preparation worker."""

import io
import os
import struct
import subprocess
import sys

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

pytestmark = pytest.mark.slow
SIDE = 4990  # just below the limit of 25 million pixels
LIMIT_MB = 600
_MEASURE = """
import resource, sys
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.preparation.image_worker import prepare_file
result = prepare_file(sys.argv[1], sys.argv[2], Preprocess(512), sys.argv[3])
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(result["outcome"], peak // 1024, result["reason"], sep="|")
"""


def peak_of(path, tmp_path) -> tuple[str, int, str]:
    """Return outcome, most memory in MB and reason of preparing a file in a process of its own."""
    command = [sys.executable, "-c", _MEASURE, path, tmp_path / "out.png", tmp_path / "refused.png"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    outcome, peak, reason = done.stdout.strip().split("|", 2)
    return outcome, int(peak), reason


def bars() -> np.ndarray:
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[100:200] = 200
    return pixels


def picture(kind: str) -> bytes:
    gray = bars()
    if kind == "wide.png":
        wide = np.dstack([gray.astype(np.uint16) * 200] * 3)
        return cv2.imencode(".png", wide, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    buffer = io.BytesIO()
    opaque = np.full_like(gray, 255)
    pixels = {"rgba.png": [gray, gray, gray, opaque], "la.png": [gray, opaque]}.get(kind, [gray] * 3)
    form = {"jpg": "JPEG", "tif": "TIFF", "png": "PNG"}[kind.split(".")[-1]]
    more = {"JPEG": {"progressive": True}, "TIFF": {"compression": "tiff_deflate"}, "PNG": {}}[form]
    Image.fromarray(np.dstack(pixels)).save(buffer, form, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["rgba.png", "la.png", "wide.png", "rgb.jpg", "rgb.tif"])
def test_a_small_picture_of_many_pixels_needs_little_memory(tmp_path, kind):
    path = tmp_path / kind
    path.write_bytes(picture(kind))
    assert path.stat().st_size < 10**6
    outcome, peak, reason = peak_of(path, tmp_path)
    assert outcome == "prepared" and peak < LIMIT_MB, (peak, reason)


def frame_of(syntax: str) -> bytes:
    wide = bars().astype(np.uint16) * 16
    if syntax == uids.JPEG2000Lossless:
        buffer = io.BytesIO()
        Image.fromarray(wide).save(buffer, "JPEG2000", no_jp2=True)
        return buffer.getvalue()
    if syntax == uids.JPEGLSLossless:
        return imagecodecs.jpegls_encode(wide)
    run = SIDE * SIDE // 128 + 4
    high, low = b"\x81\x05" * (run // 2 * 2), b"\x81\x80" * (run // 4) + b"\x81\x10" * run
    return struct.pack("<16I", 2, 64, 64 + len(high), *[0] * 13) + high + b"\x81\x07" * 2 + low


@pytest.mark.parametrize("syntax", [uids.JPEG2000Lossless, uids.JPEGLSLossless, uids.RLELossless])
def test_a_small_dicom_file_of_many_pixels_needs_little_memory(make_dicom, tmp_path, syntax):
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
    size = {"Rows": SIDE, "Columns": SIDE, "bits_stored": 16}
    table = {} if syntax == uids.JPEG2000Lossless else {"VOILUTSequence": Sequence([item]), "PixelPaddingValue": 65535}
    path = make_dicom([[0]], syntax=syntax, frame=frame_of(syntax), **size, **table)
    assert path.stat().st_size < 10**6
    outcome, peak, reason = peak_of(path, tmp_path)
    assert outcome == "prepared" and peak < LIMIT_MB, (peak, reason)
