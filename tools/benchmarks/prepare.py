"""How long one image takes from DICOM file to PNG on one core, against the usual recipe.

    python tools/benchmark.py prepare

The usual recipe is pydicom's `pixel_array`, `apply_voi_lut`, inversion of MONOCHROME1, stretching to 8 bits and
Pillow's resize; ours is what a preparation worker does, hashes of file and pixels included. Both read the same
phantoms of 2800 x 2500 pixels and 12 bits, in turns, and write a PNG. pydicom needs plug-ins for JPEG lossless and
JPEG-LS (python-gdcm); where they are missing, its row says so. Where dicomsdl is installed, the usual recipe is
measured with its pixels, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import _record

ROWS, COLUMNS, BITS = 2800, 2500, 12
TARGETS = {"jpeg2000": 12.0, "jpeg_lossless": 4.5, "explicit": 4.0, "rle": 3.5, "jpeg_ls": 2.0}  # times faster
SIZE = 512


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("prepare", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds, the median counts (%(default)s)")
    parser.add_argument("--images", type=int, default=2, help="phantoms a round (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder), args.images)
        numbers = {"milliseconds_per_image": measure(images, Path(folder), args.rounds)}
        numbers["worker"] = measure_worker([path for paths in images.values() for path in paths], Path(folder))
        numbers["jpeg2000_reduced_error"] = reduced_error(images["jpeg2000"])
    return _record.finish("prepare", numbers, argv, args.json)


def write_images(folder: Path, count: int) -> dict[str, list[Path]]:
    """Write phantoms in every transfer syntax; return syntax -> files."""
    import cv2
    import numpy as np
    from d2_cxr.projects.phantom_cxr import dicom_writer
    from d2_cxr.projects.phantom_cxr.image import render_image

    images: dict[str, list[Path]] = {syntax: [] for syntax in TARGETS}
    for index in range(count):
        pixels = cv2.resize(render_image(0, index, ROWS).pixels, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
        stored = np.rint(np.clip(pixels, 0, 1) * (0.9 * 2**BITS)).astype(np.uint16)
        for syntax in TARGETS:
            path = folder / f"{syntax}-{index}.dicom"
            writer_syntax = "explicit" if syntax == "jpeg_ls" else syntax
            window = [(0.45 * 2**BITS, 0.9 * 2**BITS)]
            dicom_writer.wrap(path, stored, syntax=writer_syntax, bits_stored=BITS, windows=window)
            if syntax == "jpeg_ls":
                _to_jpeg_ls(path, stored)
            images[syntax].append(path)
    return images


def measure(images: dict[str, list[Path]], folder: Path, rounds: int) -> dict:
    """Return for each syntax the median milliseconds of both ways, taken in turns, and their ratio."""
    import cv2

    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.preparation.image_worker import prepare_file

    cv2.setNumThreads(1)
    rules, png = Preprocess(size=SIZE), str(folder / "out.png")
    rows = {}
    for syntax, paths in images.items():
        usual, ours, other = [], [], []
        for path in paths * rounds:
            usual.append(_timed(lambda path=path: usual_recipe(path, png)))
            ours.append(_timed(lambda path=path: _checked(prepare_file(str(path), png, rules))))
            other.append(_timed(lambda path=path: dicomsdl_recipe(path, png)))
        row = {"ours": round(statistics.median(ours), 1), "target": TARGETS[syntax]}
        if None in usual:
            row |= {"usual": None, "note": "pydicom has no plug-in for it here: pip install python-gdcm"}
        else:
            row |= {"usual": round(statistics.median(usual), 1)}
            row["times_faster"] = round(row["usual"] / row["ours"], 2)
        if None not in other:
            row["with_dicomsdl"] = round(statistics.median(other), 1)
        rows[syntax] = row
    return rows


def usual_recipe(path: Path, png: str) -> bool:
    """Do what notebooks do; return False where pydicom cannot decode the file."""
    import pydicom
    from pydicom.pixels import apply_voi_lut

    dataset = pydicom.dcmread(path)
    try:
        pixels = dataset.pixel_array
    except (RuntimeError, NotImplementedError):
        return False
    _write_small(apply_voi_lut(pixels, dataset), dataset.PhotometricInterpretation, png)
    return True


def dicomsdl_recipe(path: Path, png: str) -> bool:
    """Do the usual recipe with the pixels that dicomsdl reads; False where it is not installed or cannot decode."""
    try:
        import dicomsdl
    except ImportError:
        return False
    dataset = dicomsdl.open(str(path))
    try:
        pixels = dataset.pixelData(storedvalue=True)
    except (RuntimeError, dicomsdl.DicomException):
        return False
    center, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    pixels = pixels.clip(center - width / 2, center + width / 2)
    _write_small(pixels, dataset.PhotometricInterpretation, png)
    return True


def _write_small(pixels, photometric: str, png: str) -> None:
    import numpy as np
    from PIL import Image

    if photometric == "MONOCHROME1":
        pixels = np.amax(pixels) - pixels
    pixels = pixels - np.min(pixels)
    pixels = (pixels / np.max(pixels) * 255).astype(np.uint8)
    Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(png)


def measure_worker(paths: list[Path], folder: Path) -> dict:
    """Return the private memory of a worker process after twenty rounds of the images, in MB, and after the first."""
    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.preparation import workers

    rules = Preprocess(size=SIZE).to_dict()
    tasks = [{"path": str(path), "png": str(folder / "out.png"), "rules": rules} for path in paths]
    owned = []
    for _ in workers.run(tasks * 4, jobs=1):
        owned.append(_owned_by_children())
    return {"own_MB_after_first_round": max(owned[: len(tasks)]), "own_MB_at_most": max(owned)}


def reduced_error(paths: list[Path]) -> dict:
    """Return the mean error of reduced decodes against full ones after equalization, in gray levels."""
    import numpy as np

    from d2_cxr.dicom import reading
    from d2_cxr.dicom.preprocess import Preprocess, prepare_image

    rules = Preprocess(size=SIZE)
    errors = []
    for path in paths:
        full, _ = prepare_image(reading.read(path), rules)
        reduced, _ = prepare_image(reading.read(path, min_size=SIZE), rules)
        errors.append(float(np.abs(full.astype(float) - reduced).mean()))
    return {"mean_gray_levels": [round(error, 3) for error in errors]}


def _to_jpeg_ls(path: Path, stored) -> None:
    import imagecodecs
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLSLossless

    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([imagecodecs.jpegls_encode(stored)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.save_as(path)


def _timed(way) -> float | None:
    start = time.perf_counter()
    done = way()
    return (time.perf_counter() - start) * 1000 if done else None


def _checked(result: dict) -> bool:
    assert result["outcome"] == "prepared", result
    return True


def _owned_by_children() -> float:
    """Return the private megabytes of this process's children (Linux)."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rsplit(")", 1)[1].split()[1]) != os.getpid():
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
        except OSError:  # it ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
    return round(total / 1024, 1)
