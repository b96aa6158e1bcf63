"""Prepared images as pixels: from images.npy, all in one memory-mapped array, for loaders that cannot wait for PNGs."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets import manifest
from d2_cxr.image_name import image_name, png_name

ARRAY, INDEX = "images.npy", "images.csv"


def write(folder: Path) -> None:
    """Write images.npy, (N, size, size) uint8, and images.csv, the image of each row; do nothing where they are.

    Raises:
        FileNotFoundError: an image of the manifest has no PNG.
    """
    if (folder / ARRAY).is_file() and (folder / INDEX).is_file():
        return
    for leftover in folder.glob(".unfinished-*"):
        leftover.unlink()
    rows = manifest.read(folder / "manifest.csv")
    images = sorted(row["image_name"] for row in rows if row["outcome"] == "prepared")
    size = artifacts.read_json(folder / "dataset.json")["preprocess"]["size"]
    artifacts.write_with(folder / ARRAY, lambda path: _fill(path, folder, images, size))
    artifacts.write_csv(folder / INDEX, [{"image_name": image} for image in images], ["image_name"])


def read(file_name: str | Path) -> np.ndarray:
    """Return a prepared image (H, W) uint8, not to be written to: its row of the set's memory-mapped array where there
    is one, else its PNG.

    Args:
        file_name: .../SET/images/IMAGE.png, whether that file is there or not.

    Raises:
        FileNotFoundError: it is in neither.
    """
    folder, image = os.path.dirname(file_name), image_name(file_name)
    array, rows = open_array(os.path.dirname(folder)) if os.path.basename(folder) == "images" else (None, {})
    if array is not None and image in rows:
        return np.asarray(array[rows[image]])  # no copy: that takes longer than the cut that a view makes of it
    return read_png(file_name)


def read_png(path: str | Path) -> np.ndarray:
    """Return the pixels (H, W) uint8 of a prepared PNG itself, whatever an array of its set holds.

    Raises:
        FileNotFoundError: it is missing or not an image.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise FileNotFoundError(f"{path} is missing or not an image; prepare the set again")
    return pixels


def read_small(file_name: str | Path, side: int) -> np.ndarray:
    """Return `read`'s image, made smaller where its longer side has more pixels than `side`: for pages."""
    pixels = read(file_name)
    scale = side / max(pixels.shape)
    return pixels if scale >= 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def open_array(root: str | Path) -> tuple[np.ndarray | None, dict[str, int]]:
    """Return a set's memory-mapped array and the row of each image; (None, {}) where it has none."""
    try:
        written = os.stat(os.path.join(root, ARRAY)).st_mtime_ns
    except FileNotFoundError:
        return None, {}
    return _open_array(Path(root), written)


def require_images(file_names: Iterable[str]) -> None:
    """Refuse images without pixels before hours are spent on the others.

    Raises:
        FileNotFoundError: says how many and names the first.
    """
    missing, there = [], {}
    for file_name in file_names:
        root, name = Path(file_name).parents[1], os.path.basename(file_name)
        if root not in there:
            folder = root / "images"
            there[root] = {png_name(image) for image in open_array(root)[1]}
            there[root] |= set(os.listdir(folder)) if folder.is_dir() else set()
        if name not in there[root]:
            missing.append(file_name)
    if missing:
        raise FileNotFoundError(
            f"{counted(len(missing), 'prepared image is', 'prepared images are')} missing, first: {missing[0]}; "
            "prepare the set again"
        )


@functools.lru_cache(maxsize=8)
def _open_array(root: Path, written: int) -> tuple[np.ndarray | None, dict[str, int]]:
    """Open it once a process; `written` keeps an array that has been replaced from being taken for the new one."""
    if not (root / INDEX).is_file():
        return None, {}
    rows = {row["image_name"]: index for index, row in enumerate(artifacts.read_csv(root / INDEX))}
    return np.load(root / ARRAY, mmap_mode="r"), rows


def _fill(path: str, folder: Path, images: list[str], size: int) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(images), size, size))
    for index, name in enumerate(images):
        array[index] = read_png(folder / "images" / png_name(name))
    array.flush()
