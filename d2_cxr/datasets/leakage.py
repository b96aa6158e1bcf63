"""Images that would stand on both sides: copies, and images of one patient, between a pool and what is held out.

An image is an exact copy where its file or its prepared pixels are equal to another's, byte by byte; near copies within a
set (encoded anew, cropped, mirrored) are those that its preparation found (near_duplicates.py). A number learned
with a test image in the pool is no test: so loading such a pool raises, and names the images. Images that may stay are
listed in a file and allowed by `allow` (`--allow FILE` of the tools that learn), or the environment variable
D2_CXR_ALLOW_LEAKS, which worker processes inherit.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets import loading
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.image_name import image_name

logger = logging.getLogger(__name__)

ALLOW_VARIABLE = "D2_CXR_ALLOW_LEAKS"
WAY_OUT = f"take them out, or list their ids in a file and give it with --allow FILE ({ALLOW_VARIABLE}=FILE)"
_NAMED = 3  # images in an error; all of them in `find_leaks`


class LeakageError(ValueError):
    """A pool shares images or patients with what is held out."""


@dataclass(frozen=True)
class Leak:
    """An image of the pool, the held-out image it gives away, the names of both sets, and why."""

    image: str
    held_out_image: str
    pool: str
    held_out: str
    why: str  # "the same file", "the same pixels", "the same patient", "the same image (cropped)"


@dataclass(frozen=True)
class _Image:
    """Keys are equal where images give each other away."""

    image_name: str
    name: str
    keys: tuple[tuple, ...]


def refuse_leaks(pool: Sequence[str], held_out: Sequence[str] | None = None) -> None:
    """Raise where data-set names that are learned from share images or patients with names that are held out.

    Args:
        pool: names to learn from.
        held_out: names to be tested on; None: val, test and official_test of the pool's own sets.

    Raises:
        LeakageError: they do; names the first images.
    """
    allowed = allowed_images()
    found = find_leaks(pool, held_out)
    leaks = [leak for leak in found if not allowed & {leak.image, leak.held_out_image}]
    if len(found) > len(leaks):
        logger.warning("%d images that give held-out images away are allowed to stay", len(found) - len(leaks))
    if leaks:
        images = sorted({leak.image for leak in leaks})
        shown = "; ".join(
            f"{leak.image} is {leak.why} as {leak.held_out_image} of {leak.held_out}" for leak in leaks[:_NAMED]
        )
        raise LeakageError(
            f"{', '.join(dict.fromkeys(leak.pool for leak in leaks))}: {len(images)} images give held-out images away "
            f"({shown}{' ...' if len(leaks) > _NAMED else ''}); {WAY_OUT}"
        )


def find_leaks(pool: Sequence[str], held_out: Sequence[str] | None = None) -> list[Leak]:
    """Return every leak, in the order of the pool's images; names of sets that are not prepared are passed over."""
    if held_out is None:
        held_out = dict.fromkeys(other.name for name in pool for other in named_set(name).held_out())
    by_key: dict[tuple, _Image] = {}
    for image in _images(held_out):
        for key in image.keys:
            by_key.setdefault(key, image)
    leaks = []
    for image in _images(pool):
        found = next(((key, by_key[key]) for key in image.keys if key in by_key), None)
        if found:
            (why, *_), other = found
            leaks.append(Leak(image.image_name, other.image_name, image.name, other.name, why))
    return leaks


def allow(path: str | Path) -> None:
    """Allow, in this process and its children, the images whose ids stand in a file, one a line.

    Either id will do, the pool's or that of the image given away.

    Raises:
        FileNotFoundError: no such file.
    """
    _read_allowed(path)
    os.environ[ALLOW_VARIABLE] = str(Path(path).resolve())


def allowed_images() -> set[str]:
    """Return the ids of the images that may stay, as `allow` or the environment says.

    Raises:
        FileNotFoundError: the environment names a file that is not there.
    """
    path = os.environ.get(ALLOW_VARIABLE)
    return _read_allowed(path) if path else set()


def _read_allowed(path: str | Path) -> set[str]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; list the images that may stay in it, one id a line")
    return {line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()}


def _images(names: Iterable[str]) -> list[_Image]:
    """Return the images of names with what would give them away."""
    found = []
    for name in names:
        named = named_set(name)
        folder = named.folder.resolve()
        listed = artifacts.read_json(named.json)["images"] if named.exists else []
        copies = _near_copies(folder)
        patients = {image_name(image["file_name"]): image.get("patient") for image in listed}
        for image in loading.prepared_images([name]) if listed else []:
            own = image["image_name"]
            keys = [("the same file", image["source_sha256"]), ("the same pixels", image["image_sha256"])]
            if patients.get(own) is not None:
                keys.append(("the same patient", str(folder), patients[own]))
            keys += copies.get(own, [])
            found.append(_Image(own, name, tuple(keys)))
    return found


def _near_copies(folder: Path) -> dict[str, list[tuple]]:
    """Return image -> a key for each near copy that it has, which the copy has as well."""
    keys: dict[str, list[tuple]] = {}
    for copy in read_near_copies(folder):
        images = (copy["image_name"], copy["other_image_name"])
        for image in images:
            keys.setdefault(image, []).append((f"the same image ({copy['how']})", str(folder), *images))
    return keys


def read_near_copies(folder: Path) -> list[dict[str, str]]:
    """Read near_copies.csv of a prepared set; a set of an earlier version has none."""
    path = folder / "near_copies.csv"
    return artifacts.read_csv(path) if path.is_file() else []
