"""Damaged image files are prepared or refused in one line; no worker dies, hangs, or meets an unknown exception.

FUZZ_CASES sets the number of damaged files, FUZZ_SEED chooses others; the same seed and number damage alike.
"""

import io
import os
import struct
from collections import Counter

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid as uids

from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.preparation import workers

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("FUZZ_CASES", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
_ODD = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 20)).astype(np.uint16)
GRAY = (PIXELS >> 4).astype(np.uint8)


def damaged(content: bytes, number: int, start: int = 0) -> bytes:
    """Return content with a few bytes changed, a part removed, repeated, swapped, or its end cut.

    Args:
        content: a good file.
        number: of the case; decides with SEED what is done.
        start: bytes before it stay, so that the file is still known for what it is.
    """
    rng = np.random.default_rng([SEED, number])
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(start, max(start + 1, len(data))))
        length = int(rng.integers(1, 17))
        kind = rng.integers(6)
        if kind == 0:
            data[place : place + 1] = bytes([int(rng.integers(256))])
        elif kind == 1:
            data[place : place + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 2:
            data[place : place + length] = bytes([int(rng.choice(_ODD))]) * length
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length]
        else:
            del data[max(start + 1, place) :]
    return bytes(data)


def picture(kind: str, pixels: np.ndarray, **more) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **more)
    return buffer.getvalue()


def rle() -> bytes:
    planes = [(PIXELS >> 8).astype(np.uint8), (PIXELS & 255).astype(np.uint8)]
    segments = [imagecodecs.packbits_encode(plane.tobytes()) for plane in planes]
    return struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13) + b"".join(segments)


@pytest.fixture
def good_files(make_dicom) -> dict[str, bytes]:
    color = np.dstack([GRAY] * 3)
    wide = {"bits_stored": 12, "WindowCenter": 2000, "WindowWidth": 3000}
    narrow = {"bits_allocated": 8, "bits_stored": 8}
    frames = {
        "jpeg": (GRAY, uids.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(GRAY), narrow),
        "jpeg_lossless": (PIXELS, uids.JPEGLosslessSV1, imagecodecs.ljpeg_encode(PIXELS, bitspersample=12), wide),
        "jpeg_ls": (PIXELS, uids.JPEGLSLossless, imagecodecs.jpegls_encode(PIXELS), wide),
        "jpeg_2000": (PIXELS, uids.JPEG2000Lossless, picture("JPEG2000", PIXELS, no_jp2=True), {"bits_stored": 16}),
        "rle": (PIXELS, uids.RLELossless, rle(), wide),
    }
    files = {"native": make_dicom(PIXELS, **wide).read_bytes()}
    for name, (pixels, syntax, frame, elements) in frames.items():
        files[name] = make_dicom(pixels, syntax=syntax, frame=frame, **elements).read_bytes()
    files |= {kind.lower(): picture(kind, GRAY) for kind in ("PNG", "JPEG", "TIFF", "BMP")}
    return files | {"color_png": picture("PNG", color), "wide_png": imagecodecs.png_encode(PIXELS)}


def test_damaged_images_are_prepared_or_refused(good_files, tmp_path):
    kinds, tasks = list(good_files), []
    for number in range(CASES):
        kind = kinds[number % len(kinds)]
        content = good_files[kind]
        start = 132 if content[128:132] == b"DICM" else 2
        path = tmp_path / f"{number}_{kind}"
        path.write_bytes(damaged(content, number, start))
        outputs = {"png": str(tmp_path / "out.png"), "refused_png": str(tmp_path / "refused.png")}
        tasks.append({"path": str(path), **outputs, "rules": Preprocess(32).to_dict()})
    outcomes, wrong = Counter(), []
    for task, result in workers.run(tasks, 1, limit_s=30):
        outcomes[result["outcome"]] += 1
        if result["outcome"] not in ("prepared", "refused") or "unexpected" in result["reason"]:
            wrong.append((task["path"].rsplit("/", 1)[1], result["reason"]))
        assert "\n" not in result["reason"]
    assert not wrong, wrong[:10]
    assert outcomes["prepared"] and outcomes["refused"], outcomes
