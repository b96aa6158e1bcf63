"""Is a prepared set what its records say? Annotations, manifest and pixels against the hashes of its preparation.

A set that was changed after it was prepared would otherwise be trained on under the fingerprint of the original.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from d2_cxr import artifacts

_WAY_OUT = "prepare the set again, or restore the file"


def require_same_annotations(folder: Path) -> None:
    """Raise if the annotation files of a set are not those that its preparation wrote; compared once per process.

    Raises:
        ValueError: their sha256 is not `annotations_fingerprint` of dataset.json. A set without one is not compared.
    """
    files = sorted(path for path in (folder / "annotations").rglob("*.json") if not path.name.startswith("."))
    stamps = tuple((str(path), path.stat().st_mtime_ns) for path in [*files, folder / "dataset.json"] if path.is_file())
    _require_same_annotations(folder, stamps)


def images_fingerprint(folder: Path) -> str | None:
    """Return a set's images_fingerprint after computing it from the manifest; None where dataset.json states none.

    Raises:
        ValueError: the manifest is not the one that the fingerprint was computed from.
    """
    if not (folder / "dataset.json").is_file():
        return None
    stated = artifacts.read_json(folder / "dataset.json").get("images_fingerprint")
    if stated is None or not (folder / "manifest.csv").is_file():
        return None
    rows = [row for row in artifacts.read_csv(folder / "manifest.csv") if row["image_sha256"]]
    pairs = sorted((row["image_name"], row["image_sha256"]) for row in rows)
    if artifacts.sha256_lines(f"{image} {sha256}" for image, sha256 in pairs) != stated:
        raise ValueError(f"{folder / 'manifest.csv'} does not fit images_fingerprint of dataset.json; {_WAY_OUT}")
    return stated


def require_same_pixels(images: Sequence[Mapping], count: int) -> None:
    """Raise if prepared images are not those of the manifest.

    Args:
        images: dicts of `file_name` and `image_sha256` (`loading.prepared_images`).
        count: how many are compared, evenly spaced; -1 compares all.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: the pixels of an image have another sha256 than the manifest says; names it.
    """
    from d2_cxr.datasets import image_array

    step = 1 if count < 0 else max(1, math.ceil(len(images) / max(1, count)))
    for image in images[::step] if count else []:
        pixels = image_array.read(image["file_name"])
        if artifacts.sha256_bytes(pixels.tobytes()) != image["image_sha256"]:
            raise ValueError(f"{image['file_name']} is not the image that manifest.csv lists; {_WAY_OUT}")


@functools.lru_cache(maxsize=64)
def _require_same_annotations(folder: Path, stamps: tuple[tuple[str, int], ...]) -> None:
    """Compare; `stamps` makes a file that was written since then count as another one."""
    values = artifacts.read_json(folder / "dataset.json") if (folder / "dataset.json").is_file() else {}
    stated = values.get("annotations_fingerprint")
    if stated is None:
        return
    paths = [Path(path) for path, _ in stamps if not path.endswith("dataset.json")]
    files = {path.relative_to(folder / "annotations").as_posix(): artifacts.read_json(path) for path in paths}
    try:
        same = artifacts.sha256_json(files) == stated
    except ValueError:  # NaN, which the preparation never writes
        same = False
    if not same:
        raise ValueError(
            f"{folder / 'annotations'}: the files are not those that the set was prepared with "
            f"(annotations_fingerprint of dataset.json); {_WAY_OUT}"
        )
