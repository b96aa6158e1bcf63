"""Leakage: training images that are copies of held-out images, or show the same patient.

Exact copies have the same file or the same prepared pixels, byte by byte. Near duplicates within a set (re-encoded,
cropped, mirrored) are those that `prepare` found. Patients of two sets are compared by the pseudonyms that
`prepare --patient-key` stores. A result is no test if a test image was in the training pool, so
loading such a pool raises and names the images. `allow` (`--allow FILE` of the training tools) or the environment
variable D2_CXR_ALLOW_LEAKS, which worker processes inherit, lists exceptions.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets import loading
from d2_cxr.datasets.named_sets import NamedSet
from d2_cxr.image_name import image_name

logger = logging.getLogger(__name__)

ALLOW_VARIABLE = "D2_CXR_ALLOW_LEAKS"
WAY_OUT = f"remove them, or list their names in a file and pass it with --allow FILE ({ALLOW_VARIABLE}=FILE)"
_PATIENT = "of the same patient"
_NAMED = 3  # images that an error names; `find_leaks` returns all of them


class LeakageError(ValueError):
    """A training pool shares images or patients with held-out images."""


@dataclass(frozen=True)
class Leak:
    """A pool image, the held-out image with which it shares something, their data-set names, and what is shared."""

    image: str
    held_out_image: str
    pool: str
    held_out: str
    why: str  # "the same file", "the same pixels", "of the same patient", "the same image (cropped)"
    patient: tuple = ()  # who is on both sides, where that is why


@dataclass(frozen=True)
class _Image:
    """An image and its keys: two images with an equal key are copies or show the same patient."""

    image_name: str
    name: str
    keys: tuple[tuple, ...]


def refuse_leaks(pool: Sequence[NamedSet], held_out: Sequence[NamedSet] | None = None) -> None:
    """Raise if a training pool shares images or patients with held-out data sets.

    Args:
        pool: sets to train on.
        held_out: sets to test on; None: val, test and official_test of the pool's own sets.

    Raises:
        LeakageError: names the first images.
    """
    allowed = allowed_images()
    found = find_leaks(pool, held_out)
    leaks = [leak for leak in found if not allowed & {leak.image, leak.held_out_image}]
    if len(found) > len(leaks):
        number = counted(len(found) - len(leaks), "training image that leaks", "training images that leak")
        logger.warning("allowed (--allow): %s held-out images", number)
    if leaks:
        images = {leak.image for leak in leaks}
        patients = {leak.patient for leak in leaks if leak.patient}
        both = f", {counted(len(patients), 'patient is', 'patients are')} on both sides"
        shown = "; ".join(
            f"{leak.image} is {leak.why} as {leak.held_out_image} of {leak.held_out}" for leak in leaks[:_NAMED]
        )
        pools = ", ".join(dict.fromkeys(leak.pool for leak in leaks))
        raise LeakageError(
            f"{pools}: {counted(len(images), 'image leaks', 'images leak')} held-out images{both if patients else ''} "
            f"({shown}{' ...' if len(leaks) > _NAMED else ''}); {WAY_OUT}"
        )


def find_leaks(pool: Sequence[NamedSet], held_out: Sequence[NamedSet] | None = None) -> list[Leak]:
    """Return every leak, in the order of the pool's images; sets that are not prepared are skipped."""
    if held_out is None:
        held_out = list(dict.fromkeys(other for named in pool for other in named.held_out()))
    by_key: dict[tuple, _Image] = {}
    for image in _images(held_out):
        for key in image.keys:
            by_key.setdefault(key, image)
    leaks = []
    for image in _images(pool):
        found = next(((key, by_key[key]) for key in image.keys if key in by_key), None)
        if found:
            (why, *rest), other = found
            patient = tuple(rest) if why == _PATIENT else ()
            leaks.append(Leak(image.image_name, other.image_name, image.name, other.name, why, patient))
    return leaks


def patients_not_compared(pool: Sequence[NamedSet], held_out: Sequence[NamedSet]) -> list[str]:
    """Return a sentence for every two sets whose common patients cannot be found."""
    keys = {named.set_name: named.dataset_json().get("patient_key") for named in [*pool, *held_out]}
    ours, theirs = (dict.fromkeys(named.set_name for named in sets) for sets in (pool, held_out))
    found = []
    for one, other in ((one, other) for one in ours for other in theirs if one != other):
        without = [name for name in (one, other) if keys[name] is None]
        if without or keys[one] != keys[other]:
            why = f"{' and '.join(without)} prepared without --patient-key" if without else "their keys differ"
            found.append(f"patients of {one} and {other} are not compared ({why})")
    return found


def allow(path: str | Path) -> None:
    """Allow leaks of the images that a file lists by name, one per line, in this process and its children.

    Either name works: the pool image's or the held-out image's.

    Raises:
        FileNotFoundError: no such file.
    """
    _read_allowed(path)
    os.environ[ALLOW_VARIABLE] = str(Path(path).resolve())


def allowed_images() -> set[str]:
    """Return the names of the allowed images, from `allow` or the environment.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    path = os.environ.get(ALLOW_VARIABLE)
    return _read_allowed(path) if path else set()


def _read_allowed(path: str | Path) -> set[str]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; list in it the images to allow, one name per line")
    return {line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()}


def _images(sets: Iterable[NamedSet]) -> list[_Image]:
    """Return the images of sets with the keys that reveal copies and patients."""
    found = []
    for named in sets:
        folder = named.folder.resolve()
        copies = _near_copies(folder)
        by_name = {image_name(image["file_name"]): image for image in (named.images() if named.exists else [])}
        for image in loading.prepared_images([named]) if by_name else []:
            own = image["image_name"]
            keys: list[tuple] = [("the same file", image["source_sha256"]), ("the same pixels", image["image_sha256"])]
            keys += _patient_keys(by_name[own], folder)
            keys += copies.get(own, [])
            found.append(_Image(own, named.name, tuple(keys)))
    return found


def _patient_keys(image: Mapping, folder: Path) -> list[tuple]:
    """Return a key for a COCO image's patient within its set, and one across the sets of one key file."""
    keys = [] if image.get("patient") is None else [(_PATIENT, str(folder), image["patient"])]
    return keys + ([(_PATIENT, image["patient_code"])] if image.get("patient_code") else [])


def _near_copies(folder: Path) -> dict[str, list[tuple]]:
    """Return image name -> one key per near duplicate of it; the duplicate has the same key."""
    keys: dict[str, list[tuple]] = {}
    for copy in read_near_duplicates(folder):
        images = (copy["image_name"], copy["other_image_name"])
        for image in images:
            keys.setdefault(image, []).append((f"the same image ({copy['how']})", str(folder), *images))
    return keys


def read_near_duplicates(folder: Path) -> list[dict[str, str]]:
    """Read near_duplicates.csv of a prepared set; a set of an earlier version has none."""
    path = folder / "near_duplicates.csv"
    return artifacts.read_csv(path) if path.is_file() else []
