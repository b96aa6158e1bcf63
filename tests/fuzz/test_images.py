"""Damaged image files are prepared or refused in one line; no worker dies, hangs, or meets an unknown exception."""

import io
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
PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 20)).astype(np.uint16)
GRAY = (PIXELS >> 4).astype(np.uint8)


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


def test_damaged_images_are_prepared_or_refused(good_files, tmp_path, fuzz):
    kinds, tasks = list(good_files), []
    for number in range(fuzz.cases):
        kind = kinds[number % len(kinds)]
        content = good_files[kind]
        start = 132 if content[128:132] == b"DICM" else 2
        path = tmp_path / f"{number}_{kind}"
        path.write_bytes(fuzz.damaged(content, number, start))
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
