"""images.npy: every prepared film in one memory-mapped array, for loaders that cannot wait for PNGs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from d2_cxr import artifacts
from d2_cxr.data import manifest

ARRAY, INDEX = "images.npy", "images.csv"


def write(folder: Path) -> None:
    """Write images.npy, (N, size, size) uint8, and images.csv, the film of each row; do nothing where they are.

    Raises:
        FileNotFoundError: a film of the manifest has no PNG.
    """
    if (folder / ARRAY).is_file() and (folder / INDEX).is_file():
        return
    for leftover in folder.glob(".unfinished-*"):
        leftover.unlink()
    rows = manifest.read(folder / "manifest.csv")
    films = sorted(row["image_id"] for row in rows if row["outcome"] == "prepared")
    size = artifacts.read_json(folder / "dataset.json")["preprocess"]["size"]
    artifacts.write_with(folder / ARRAY, lambda path: _fill(path, folder, films, size))
    artifacts.write_csv(folder / INDEX, [{"image_id": film} for film in films], ["image_id"])


def _fill(path: str, folder: Path, films: list[str], size: int) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(films), size, size))
    for index, film in enumerate(films):
        png = folder / "images" / f"{film}.png"
        image = cv2.imread(str(png), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise FileNotFoundError(f"{png} is missing; prepare the set again")
        array[index] = image
    array.flush()
