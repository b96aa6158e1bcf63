"""Near duplicates: images that are one image, encoded or resized anew, cropped or mirrored, found in two steps.

1. Candidates, by the lowest 8 x 8 cosine frequencies of a small copy without their mean, as in a perceptual hash
   (Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions*, 2010, section 3.2.1), but kept as
   numbers, so that all pairs are one matrix product. Each image is compared with every other's crops (none, 5 or 10 %
   on each side) and their mirror images.
2. Pixels: the crop is refined to an affine map (Evangelidis and Psarakis, *Parametric Image Alignment Using Enhanced
   Correlation Coefficient Maximization*, 2008), and what is finer than a 24th of the image's side is compared: all
   chests have lungs and a heart in the same places, but no two have the same ribs and vessels.

`near_duplicates.csv` of a prepared set lists the pairs. Preparation leaves near duplicates of val or test images out of
the unlabeled images, and training on an image with one among those held out is refused (leakage.py). How far near
duplicates and other images lie apart was measured by tools/benchmarks/near_duplicates.py
(docs/decisions/035-near-copies.md).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from d2_cxr import artifacts
from d2_cxr.datasets import image_array
from d2_cxr.image_name import png_name

FILE = "near_duplicates.csv"  # in a prepared set
COLUMNS = ("image_name", "other_image_name", "how", "correlation")
CANDIDATE = 0.97  # cosine of two images' frequencies; one in fifty crops of up to 10 % per side is lower
SAME_IMAGE = 0.80  # correlation of fine structure; from here on two images are one
MOST_CROPPED = 40_000  # images; of larger sets only whole images are compared, since the time goes with the square

_SMALL, _FINE = 64, 96  # pixels of the copies whose frequencies, and whose structure, are compared
_FINE_SIGMA = 2.0  # pixels of 96: structure is what this blur takes away
_KEPT = 8  # lowest frequencies of each axis
_CUTS = (0.0, 0.05, 0.10)  # fractions of a side; between two steps the frequencies still agree
_BLOCK = 2048  # images compared at once with all others
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that are one; where one is a crop it is `second`.

    Attributes:
        first, second: indices.
        how: "encoded or resized anew", "cropped", "mirrored", or "cropped and mirrored".
        correlation: of their fine structure where they overlap, up to 1.
    """

    first: int
    second: int
    how: str
    correlation: float


def find_in_set(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the near duplicates among a set's prepared images, the most alike first.

    Args:
        folder: of the set; its PNGs are read.
        rows: of the manifest.

    Returns:
        dicts of COLUMNS; `how` is "the same pixels" where that is so.
    """
    prepared = [row for row in rows if row["outcome"] == "prepared"]
    small = read_small([folder / "images" / png_name(row["image_name"]) for row in prepared])
    found = []
    for copy in find_near_duplicates(small):
        image, other = prepared[copy.first], prepared[copy.second]
        how = "the same pixels" if image["image_sha256"] == other["image_sha256"] else copy.how
        found.append((image["image_name"], other["image_name"], how, f"{copy.correlation:.3f}"))
    return [dict(zip(COLUMNS, values, strict=True)) for values in found]


def write(folder: Path, copies: Sequence[Mapping[str, str]]) -> None:
    """Write near_duplicates.csv of a set."""
    artifacts.write_csv(folder / FILE, copies, COLUMNS)


def read_small(paths: Sequence[Path]) -> np.ndarray:
    """Return small copies of a set's prepared images, uint8 (N, 96, 96).

    Raises:
        FileNotFoundError: an image has no PNG.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV lets other threads run
        small = list(pool.map(_read_small, paths))
    return np.stack(small) if small else np.empty((0, _FINE, _FINE), np.uint8)


def small_copy(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (96, 96) uint8."""
    return cv2.resize(image, (_FINE, _FINE), interpolation=cv2.INTER_AREA)


def find_near_duplicates(images: np.ndarray, first_other: int | None = None) -> list[NearDuplicate]:
    """Return pairs of images that are one image, the most alike first.

    Args:
        images: uint8 (N, 96, 96), from `read_small`.
        first_other: index from which on the images are of another set; then only pairs of both sets are looked for,
            and `first` is of the first set, whichever image is the crop.
    """
    if len(images) < 2:
        return []
    cuts = list(itertools.product(_CUTS, repeat=4)) if len(images) <= MOST_CROPPED else [(0.0,) * 4]
    candidates = _candidates(images, cuts, first_other)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        likeness = pool.map(lambda way: compare(images[way[0]], images[way[1]], cuts[way[2]], way[3]), candidates)
    found: dict[tuple[int, int], NearDuplicate] = {}
    for (first, second, cut, mirrored), alike in zip(candidates, likeness, strict=True):
        pair = (min(first, second), max(first, second))
        if alike >= SAME_IMAGE and (pair not in found or alike > found[pair].correlation):
            found[pair] = NearDuplicate(first, second, _how(any(cuts[cut]), mirrored), round(alike, 3))
    if first_other is not None:
        found = {pair: replace(copy, first=pair[0], second=pair[1]) for pair, copy in found.items()}
    return sorted(found.values(), key=lambda copy: (-copy.correlation, copy.first, copy.second))


def compare(
    image: np.ndarray, other: np.ndarray, cut: Sequence[float] = (0.0, 0.0, 0.0, 0.0), mirrored: bool = False
) -> float:
    """Return the correlation, in [-1, 1], of the fine structure of two images after `other` was laid onto `image`.

    Args:
        image, other: uint8 (96, 96).
        cut: what `other` lacks of `image` at the left, right, top, bottom, in fractions of a side, from which to start.
        mirrored: whether `other` is mirrored first.

    Returns:
        0 where no map was found.
    """
    whole, part = image.astype(np.float32), other.astype(np.float32)
    if mirrored:
        part = np.ascontiguousarray(part[:, ::-1])
    try:
        _, found = cv2.findTransformECC(part, whole, _placement(cut, _FINE), cv2.MOTION_AFFINE, _STOP, None, 3)  # type: ignore[call-overload]  # None is not a mask, as without gaussFiltSize
    except cv2.error:  # its way of saying that the two do not meet
        return 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(whole, found, (_FINE, _FINE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(whole), found, (_FINE, _FINE), flags=flags) > 0.99
    if inside.mean() < 0.5:
        return 0.0
    return _correlation(_structure(laid)[inside], _structure(part)[inside])


def _candidates(
    images: np.ndarray, cuts: Sequence[Sequence[float]], first_other: int | None = None
) -> list[tuple[int, int, int, bool]]:
    """Return (image, other, index of the cut, mirrored), the most alike cut of each pair of different images."""
    small = [cv2.resize(image, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA) for image in images]
    plain = np.stack([_frequencies(image) for image in small])
    odd = np.tile(np.arange(_KEPT) % 2, _KEPT)[1:].astype(bool)
    flipped = np.where(odd, -plain, plain)  # mirroring an image turns the sign of its odd horizontal frequencies
    best: dict[tuple[int, int, bool], tuple[float, int]] = {}
    for number, cut in enumerate(cuts):
        cropped = np.stack([_frequencies(_crop(image, cut)) for image in small]) if any(cut) else plain
        for mirrored, others in ((False, plain), (True, flipped)):
            for first, second, alike in _alike(cropped, others):
                same_set = first_other is not None and (first < first_other) == (second < first_other)
                if first != second and not same_set and alike > best.get((first, second, mirrored), (0.0, 0))[0]:
                    best[first, second, mirrored] = (alike, number)
    return [(first, second, number, mirrored) for (first, second, mirrored), (_, number) in sorted(best.items())]


def _alike(images: np.ndarray, others: np.ndarray) -> list[tuple[int, int, float]]:
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(images), _BLOCK):
        alike = images[start : start + _BLOCK] @ others.T
        first, second = np.nonzero(alike >= CANDIDATE)
        found += zip((first + start).tolist(), second.tolist(), alike[first, second].tolist(), strict=True)
    return found


def _frequencies(small: np.ndarray) -> np.ndarray:
    """Return float32 (63,) of length 1: the lowest cosine frequencies but the mean."""
    values = cv2.dct(small.astype(np.float32))[:_KEPT, :_KEPT].ravel()[1:]
    length = float(np.linalg.norm(values))
    return values / length if length else values


def _crop(small: np.ndarray, cut: Sequence[float]) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, _placement(cut, len(small)), small.shape[::-1], flags=flags)


def _placement(cut: Sequence[float], side: int) -> np.ndarray:
    """Return the map (2, 3) from pixels of a crop, resized to `side`, to pixels of the image that it was cut from."""
    left, right, top, bottom = cut
    x, y = 1 - left - right, 1 - top - bottom
    return np.array([[x, 0, left * side + x / 2 - 0.5], [0, y, top * side + y / 2 - 0.5]], np.float32)


def _structure(image: np.ndarray) -> np.ndarray:
    return image - cv2.GaussianBlur(image, (0, 0), _FINE_SIGMA)


def _correlation(values: np.ndarray, others: np.ndarray) -> float:
    values, others = values - values.mean(), others - others.mean()
    length = float(np.linalg.norm(values) * np.linalg.norm(others))
    return float(values @ others) / length if length else 0.0


def _how(cropped: bool, mirrored: bool) -> str:
    words = [word for word, applies in (("cropped", cropped), ("mirrored", mirrored)) if applies]
    return " and ".join(words) or "encoded or resized anew"


def _read_small(path: Path) -> np.ndarray:
    return small_copy(image_array.read_png(path))  # not the array: it may be of the images before
