"""What a data-set name says (docs/formats.md), where its set lies and which classes it has.

Needs no Detectron2 and registers nothing; a file is opened for the classes of a set that is prepared, and for nothing
else but to say why one is missing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.labels import nih_bbox, rsna_pneumonia, vindr_cxr

PARTS = ("train", "val", "test")
PERCENTS = tuple(range(10, 100, 10))
SEEDS = tuple(range(10))

# Sets below $DETECTRON2_DATASETS and their classes. Phantoms are rendered with VinDr-CXR's classes, not from its images.
BUILTIN = {
    "vindr_cxr": vindr_cxr.CLASS_NAMES,
    "phantom_cxr": vindr_cxr.CLASS_NAMES,
    "rsna_pneumonia": rsna_pneumonia.CLASS_NAMES,
    "nih_bbox": nih_bbox.CLASS_NAMES,
}
PUBLISHED_SET = "vindr_cxr"  # the only set with a published split; everywhere else NAME_* is the stratified one

_ENDING = re.compile(
    r"(?P<part>train|val|test)|negative_(?P<negative>train|val|test)|(?P<unlabeled>unlabeled)|(?P<official>official_test)"
    r"|train_(?P<kind>labeled|unlabeled)_(?P<percent>[1-9]0)(_seed(?P<seed>\d))?|(?P<whole>train_unlabeled)"
)

FOLDERS: dict[str, Path] = {}  # set name -> folder, where it was registered
OWN: set[str] = set()  # those of them that register_prepared named


class UnknownDatasetError(KeyError, ValueError):
    """A name that means no data set: a KeyError, as in Detectron2's catalog, that reads as a user's mistake."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError's own puts it in quotes


@dataclass(frozen=True)
class NamedSet:
    """What a data-set name says.

    Attributes:
        name: "vindr_cxr_stratified_train_labeled_30_seed1"
        set_name: "vindr_cxr"
        json_path: relative to the set's folder: "annotations/stratified/train.json"
        kind: "boxes", "negative" (images without findings), "unlabeled" (no annotation may be seen)
        percent_labeled: share of the training images *with* labels where the name cuts a fraction, else None
        seed: of a nested random fraction, None for the cut in the JSON's order
    """

    name: str
    set_name: str
    json_path: str
    kind: str
    percent_labeled: int | None = None
    seed: int | None = None


def check_set_name(name: str) -> None:
    """Refuse what cannot be an own set's name.

    Raises:
        ValueError: a name that is empty or could not be told from a built-in split.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or _ENDING.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a set: use letters, digits and _ and none of train, val, test alone")


def set_folder(name: str) -> Path:
    """Return the prepared set's folder for a data-set name ("vindr_cxr_train_labeled_60") or a set's own name.

    Raises:
        UnknownDatasetError: no registered set has such a name; lists the sets.
    """
    return _folder(name if name in _known_sets() else parse_name(name).set_name)


def class_names(name: str) -> tuple[str, ...]:
    """Return the classes of a set, or of the set of a data-set name: its dataset.json's, else its card's.

    Raises:
        FileNotFoundError: an own set that is not prepared.
    """
    folder = set_folder(name)
    if (folder / "dataset.json").is_file():
        return tuple(artifacts.read_json(folder / "dataset.json")["class_names"])
    set_name = name if name in _known_sets() else parse_name(name).set_name
    if set_name in BUILTIN:
        return BUILTIN[set_name]
    raise FileNotFoundError(missing_message(name, folder / "dataset.json"))


def parse_name(name: str) -> NamedSet:
    """Return what a data-set name says, without opening a file.

    Raises:
        UnknownDatasetError: the name begins with no registered set or ends in no known way.
    """
    for set_name in sorted(_known_sets(), key=len, reverse=True):
        if name.startswith(f"{set_name}_"):
            ending = name[len(set_name) + 1 :]
            split = "published" if set_name == PUBLISHED_SET else "stratified"
            if set_name == PUBLISHED_SET and ending.startswith("stratified_"):
                split, ending = "stratified", ending.removeprefix("stratified_")
            match = _ENDING.fullmatch(ending)
            of_no_split = match and (match["official"] or match["unlabeled"]) and f"{set_name}_{ending}" != name
            if match and not of_no_split and not (match["official"] and set_name != PUBLISHED_SET):
                return _named_set(name, set_name, split, match)
    known = ", ".join(sorted(_known_sets()))
    raise UnknownDatasetError(f"no data set {name!r}; registered sets are {known}, names are listed in docs/formats.md")


def names_of_set(set_name: str) -> list[str]:
    """Return every data-set name of one set."""
    fractions = [f"train_labeled_{percent}" for percent in PERCENTS]
    fractions += [f"train_unlabeled_{percent}" for percent in PERCENTS]
    seeded = [f"{fraction}_seed{seed}" for fraction in fractions for seed in SEEDS]
    split = [*PARTS, *fractions, *seeded, "train_unlabeled", *(f"negative_{part}" for part in PARTS)]
    names = [f"{set_name}_{ending}" for ending in [*split, "unlabeled"]]
    if set_name == PUBLISHED_SET:
        names += [f"{set_name}_stratified_{ending}" for ending in split] + [f"{set_name}_official_test"]
    return names


def missing_message(name: str, path: Path) -> str:
    """Return the one line for a set that is not prepared: the file, the root and the command that prepares it."""
    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    folder = set_folder(name)
    set_name = name if name in _known_sets() else parse_name(name).set_name
    line = f"data set {name}: {path} is missing ($DETECTRON2_DATASETS is {root})"
    if set_name == PUBLISHED_SET and "published" in path.parts and (folder / "dataset.json").is_file():
        notes = artifacts.read_json(folder / "dataset.json").get("notes", [])
        why = next((note for note in notes if "published split was not written" in note), "it was not written")
        return f"{line}; {why}; the stratified names are {set_name}_stratified_train, ..."
    if path.name == "official_test.json":
        return f"{line}; prepare with --test-dicom-dir DIR --test-annotations annotations_test.csv"
    return (
        f"{line}; prepare it with: python tools/prepare_vindr_cxr.py --dicom-dir DIR --annotations TRAIN.csv "
        f"--name {set_name} --output {folder}"
    )


def _known_sets() -> set[str]:
    return {*BUILTIN, *FOLDERS}


def _folder(set_name: str) -> Path:
    if set_name in FOLDERS:
        return FOLDERS[set_name]
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / set_name  # Detectron2 not imported, nothing fixed


def _named_set(name: str, set_name: str, split: str, match: re.Match) -> NamedSet:
    if match["unlabeled"]:
        return NamedSet(name, set_name, "annotations/unlabeled.json", "unlabeled")
    if match["official"]:
        return NamedSet(name, set_name, "annotations/official_test.json", "boxes")
    if match["negative"]:
        return NamedSet(name, set_name, f"annotations/{split}/negative_{match['negative']}.json", "negative")
    if match["part"]:
        return NamedSet(name, set_name, f"annotations/{split}/{match['part']}.json", "boxes")
    train = f"annotations/{split}/train.json"
    if match["whole"]:
        return NamedSet(name, set_name, train, "unlabeled")
    percent, seed = int(match["percent"]), match["seed"] and int(match["seed"])
    if match["kind"] == "labeled":
        return NamedSet(name, set_name, train, "boxes", percent, seed)
    return NamedSet(name, set_name, train, "unlabeled", 100 - percent, seed)  # the complement of the labeled share
