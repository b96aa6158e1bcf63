"""What a data-set name means: `named_set("vindr_cxr_train_labeled_60")` parses it once, at the door.

Parsing opens no file. set_folders.py knows which sets there are. Nothing here needs Detectron2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets import set_folders
from d2_cxr.datasets.coco_file import check_coco_file
from d2_cxr.datasets.provenance import require_same_annotations
from d2_cxr.image_name import image_name
from d2_cxr.labels import splits, vindr_cxr

FORMAT_VERSION = 2  # of a prepared set: dataset.json's format_version
PARTS = ("train", "val", "test")
HELD_OUT = ("val", "test", "negative_val", "negative_test")
PERCENTS = tuple(range(10, 100, 10))

PUBLISHED_SET = "vindr_cxr"  # the only set with a published split; everywhere else NAME_* is the stratified one

_ENDING = re.compile(
    r"(?P<part>train|val|test)|negative_(?P<negative>train|val|test)|(?P<unlabeled>unlabeled)"
    r"|(?P<official>official_test)|(?P<whole>train_unlabeled)"
    r"|train_(?P<kind>labeled|unlabeled)_(?P<percent>[1-9]0)(_seed(?P<seed>\d))?"
)
_POOL = re.compile(r"(?P<whole>.+)_pool_(?P<percent>[1-9]\d?)_seed(?P<seed>\d)")
POOL_PARTS = ("train", "negative_train", "unlabeled")
_OTHER_ORDER = 1000  # added to a pool's seed: in the labels' own order a small pool would be the labeled images


class UnknownDatasetError(KeyError, ValueError):
    """A name that means no data set: a KeyError, as in Detectron2's catalog, that prints as a user's mistake."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError's own puts it in quotes


@dataclass(frozen=True)
class NamedSet:
    """A parsed data-set name; its files are read on demand.

    Attributes:
        name: "vindr_cxr_stratified_train_labeled_30_seed1".
        set_name: "vindr_cxr".
        split: "published" or "stratified"; "" for images outside the splits (NAME_unlabeled, official_test).
        part: its JSON's name in the split's folder: "train", "negative_val", "unlabeled", "official_test".
        kind: "boxes", "negative" (images without findings), "unlabeled" (no annotation may be seen).
        percent_labeled: percentage of the training images *with* labels if the name cuts a fraction, else None.
        seed: of a nested random fraction; None for the cut in the JSON's order.
        pool_percent: percentage of the unlabeled images if the name cuts a pool to it, else None.
        pool_seed: of that nested random cut.
    """

    name: str
    set_name: str
    split: str
    part: str
    kind: str
    percent_labeled: int | None = None
    seed: int | None = None
    pool_percent: int | None = None
    pool_seed: int = 0

    @property
    def folder(self) -> Path:
        """Folder of the prepared set."""
        return set_folders.set_folder(self.set_name)

    @property
    def json(self) -> Path:
        """COCO JSON that holds the images of the name, and others where the name is a fraction."""
        return self.folder / "annotations" / self.split / f"{self.part}.json"

    @property
    def image_root(self) -> Path:
        """Folder of the prepared PNGs."""
        return self.folder / "images"

    @property
    def exists(self) -> bool:
        """Whether the name's JSON is there."""
        return self.json.is_file()

    @property
    def is_whole_split_with_boxes(self) -> bool:
        """Whether the name means all images of its JSON, with boxes: no fraction, negatives or unlabeled images."""
        return self.kind == "boxes" and self.percent_labeled is None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the set: those of its dataset.json, else of its card.

        Raises:
            FileNotFoundError: a set without a card that is not prepared.
        """
        classes = set_folders.classes_of_set(self.set_name)
        if classes is None:
            raise FileNotFoundError(self.missing_message(self.folder / "dataset.json"))
        return classes

    def sibling(self, part: str) -> NamedSet:
        """Return another part of the same split: named_set("x_train_labeled_30").sibling("test") is "x_test"."""
        middle = "_stratified" if self.set_name == PUBLISHED_SET and self.split == "stratified" else ""
        return named_set(f"{self.set_name}{middle}_{part}")

    def negatives(self) -> NamedSet | None:
        """Return the no-finding images of a val or test name (NAME_negative_test for NAME_test), None without any."""
        if not self.is_whole_split_with_boxes or self.part not in ("val", "test"):
            return None
        other = self.sibling(f"negative_{self.part}")
        return other if other.exists and artifacts.read_json(other.json)["images"] else None

    def held_out(self) -> list[NamedSet]:
        """Return the prepared val and test names that nothing of this name's split may be trained on.

        An image outside the splits is compared with every split of its set, and with its official test set.
        """
        middles = [""]
        if self.set_name == PUBLISHED_SET:
            middles = {"published": [""], "stratified": ["_stratified"]}.get(self.split, ["", "_stratified"])
        names = [f"{self.set_name}{middle}_{part}" for middle in middles for part in HELD_OUT]
        if self.set_name == PUBLISHED_SET:
            names.append(f"{self.set_name}_official_test")
        return [named for named in map(named_set, names) if named.exists]

    def dataset_json(self) -> dict:
        """Return the set's dataset.json; {} where there is none.

        Raises:
            ValueError: it has the format of another version.
        """
        path = self.folder / "dataset.json"
        if not path.is_file():
            return {}
        values = artifacts.read_json(path)
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds a {type(values).__name__}, not an object; prepare the set again")
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {str(version)[:40]}, this version of d2_cxr reads {FORMAT_VERSION}; prepare the "
                f"set again: python tools/prepare_vindr_cxr.py --name {self.set_name} --output {self.folder} ..."
            )
        return values

    @property
    def preprocess(self) -> dict:
        """How the set's images were prepared, as its dataset.json says; {} where that is not known."""
        return self.dataset_json().get("preprocess") or {}

    def images(self) -> list[dict]:
        """Return the COCO images that the name means, in the order of its JSON.

        Raises:
            FileNotFoundError: the set is not prepared.
            ValueError: the set was prepared by another version, is not the published split that its name promises, or
                its annotations are malformed or were changed after preparation.
        """
        if not self.exists:
            raise FileNotFoundError(self.missing_message())
        self.dataset_json()
        check_coco_file(self.json)
        require_same_annotations(self.folder)
        images = artifacts.read_json(self.json)["images"]
        self._check_published(images)
        if self.percent_labeled is None and self.pool_percent is None:
            return images
        names = [image_name(image["file_name"]) for image in images]
        patients = {
            name: str(image["patient"]) for name, image in zip(names, images, strict=True) if "patient" in image
        }
        wanted = set(self._cut_to_pool(self._cut_to_fraction(names, patients), patients))
        return [image for name, image in zip(names, images, strict=True) if name in wanted]

    def _cut_to_fraction(self, names: list[str], patients: dict[str, str]) -> list[str]:
        if self.percent_labeled is None:
            return names
        if self.seed is None:
            labeled, unlabeled = splits.published_fraction(names, self.percent_labeled, patients)
        else:
            labeled, unlabeled = splits.nested_fraction(names, self.percent_labeled, self.seed, patients)
        return unlabeled if self.kind == "unlabeled" else labeled

    def _cut_to_pool(self, names: list[str], patients: dict[str, str]) -> list[str]:
        if self.pool_percent is None:
            return names
        return splits.nested_fraction(names, self.pool_percent, _OTHER_ORDER + self.pool_seed, patients)[0]

    def image_names(self) -> list[str]:
        """Return the names of `images()`."""
        return [image_name(image["file_name"]) for image in self.images()]

    def coco(self) -> dict:
        """Return the COCO dict of the name, cut to the images that it means."""
        images = self.images()
        ids = {image["id"] for image in images}
        whole = artifacts.read_json(self.json)
        boxes = [box for box in whole.get("annotations", []) if box["image_id"] in ids]
        return {**whole, "images": images, "annotations": boxes}

    def missing_message(self, path: Path | None = None) -> str:
        """Return one line for a set that is not prepared: the file, the root and the command that prepares it."""
        path = self.json if path is None else path
        line = f"data set {self.name}: {path} is missing ($DETECTRON2_DATASETS is {set_folders.root()})"
        if self.split == "published" and (self.folder / "dataset.json").is_file():
            notes = artifacts.read_json(self.folder / "dataset.json").get("notes", [])
            why = next((note for note in notes if "published split was not written" in note), "it was not written")
            return f"{line}; {why}; the stratified names are {self.set_name}_stratified_train, ..."
        if self.part == "official_test":
            return f"{line}; prepare with --test-dicom-dir DIR --test-annotations annotations_test.csv"
        return (
            f"{line}; prepare it with: python tools/prepare_vindr_cxr.py --dicom-dir DIR --annotations TRAIN.csv "
            f"--name {self.set_name} --output {self.folder}"
        )

    def _check_published(self, images: list[dict]) -> None:
        """Raise if the images of a published split of VinDr-CXR, or their order, are not the published ones."""
        if self.split != "published" or self.part not in vindr_cxr.FINGERPRINTS:
            return
        if not vindr_cxr.matches_published(self.part, [image_name(image["file_name"]) for image in images]):
            raise ValueError(
                f"data set {self.name}: the {len(images)} images of {self.json} are not those of the published split "
                "(row order of the CSV?); prepare again with --order-csv train.csv, or use the stratified names"
            )


def named_set(name: str) -> NamedSet:
    """Parse a data-set name without opening a file.

    Raises:
        UnknownDatasetError: the name begins with no known set or ends in no known way.
    """
    for set_name in sorted(set_folders.known_sets(), key=len, reverse=True):
        if name.startswith(f"{set_name}_"):
            parsed = _parse(name, set_name)
            if parsed is not None:
                return parsed
    hint = ""
    if "_normal_" in name:
        hint = f"; it is called {name.replace('_normal_', '_negative_')} now"
    known = ", ".join(sorted(set_folders.known_sets()))
    raise UnknownDatasetError(
        f"no data set {name!r}{hint}; known sets are {known}, their names are listed in docs/formats.md"
    )


def sets_of(set_name: str) -> list[NamedSet]:
    """Return what the names of one set mean, without the seeded fractions, which exist on demand."""
    fractions = [f"train_{kind}_{percent}" for kind in ("labeled", "unlabeled") for percent in PERCENTS]
    split = [*PARTS, *fractions, "train_unlabeled", *(f"negative_{part}" for part in PARTS)]
    names = [f"{set_name}_{ending}" for ending in [*split, "unlabeled"]]
    if set_name == PUBLISHED_SET:
        names += [f"{set_name}_stratified_{ending}" for ending in split] + [f"{set_name}_official_test"]
    return list(map(named_set, names))


def add_own(name: str, folder: Path) -> None:
    """Let a name mean the prepared set in a folder.

    Raises:
        ValueError: the name is empty, or could be a split's.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or _ENDING.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a set: use letters, digits and _ and none of train, val, test alone")
    set_folders.FOLDERS[name] = folder
    set_folders.OWN.add(name)


def _parse(name: str, set_name: str) -> NamedSet | None:
    """Return what a name of the set means, None where its ending is unknown."""
    if pool := _POOL.fullmatch(name):
        whole = _parse(pool["whole"], set_name)
        if whole is None or whole.kind == "boxes" or whole.part not in POOL_PARTS or whole.pool_percent:
            return None
        return replace(whole, name=name, pool_percent=int(pool["percent"]), pool_seed=int(pool["seed"]))
    ending = name[len(set_name) + 1 :]
    split = "published" if set_name == PUBLISHED_SET else "stratified"
    if set_name == PUBLISHED_SET and ending.startswith("stratified_"):
        split, ending = "stratified", ending.removeprefix("stratified_")
    match = _ENDING.fullmatch(ending)
    if match is None:
        return None
    outside = bool(match["official"] or match["unlabeled"])
    if outside and f"{set_name}_{ending}" != name:  # vindr_cxr_stratified_unlabeled
        return None
    if match["official"]:
        return NamedSet(name, set_name, "", "official_test", "boxes") if set_name == PUBLISHED_SET else None
    if match["unlabeled"]:
        return NamedSet(name, set_name, "", "unlabeled", "unlabeled")
    if match["negative"]:
        return NamedSet(name, set_name, split, f"negative_{match['negative']}", "negative")
    if match["part"]:
        return NamedSet(name, set_name, split, match["part"], "boxes")
    if match["whole"]:
        return NamedSet(name, set_name, split, "train", "unlabeled")
    percent, seed = int(match["percent"]), int(match["seed"]) if match["seed"] else None
    if match["kind"] == "labeled":
        return NamedSet(name, set_name, split, "train", "boxes", percent, seed)
    return NamedSet(name, set_name, split, "train", "unlabeled", 100 - percent, seed)  # complement of the labeled
