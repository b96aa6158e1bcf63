"""Images that could be labeled, and those that were picked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets import leakage, loading
from d2_cxr.datasets.named_sets import NamedSet
from d2_cxr.image_name import image_name
from d2_cxr.prediction.findings import Findings


@dataclass(frozen=True)
class Candidate:
    """An unlabeled image of a prepared set.

    Attributes:
        name: of the image.
        dataset: the data-set name that holds it.
        folder: of its set.
        png, image_sha256: the prepared image and the hash of its pixels.
        file: the source file, below the folder that was prepared.
        width, height: of the source image, pixels.
        attributes: `pixel_spacing` and `spacing_tag` of the source.
        patient: (folder, number), None where unknown.
    """

    name: str
    dataset: str
    folder: Path
    png: str
    image_sha256: str
    file: str
    width: int
    height: int
    attributes: Mapping
    patient: tuple[str, int] | None

    def to_dict(self) -> dict:
        """Return what `predict_prepared` takes."""
        return {"file_name": self.png, "image_sha256": self.image_sha256}


@dataclass(frozen=True)
class WorkList:
    """What is to be labeled, and what is to be said about it.

    Attributes:
        images: the findings on the picked images, first to label first; boxes in source pixels.
        num_candidates: images that could have been picked.
        labeled_duplicates: candidates left out as near duplicates of labeled images.
        duplicates: candidates left out as near duplicates of others.
        divided: number of patients with picked and unpicked images.
        negative: number of picked images without a box that reaches its threshold.
    """

    images: list[Findings]
    num_candidates: int
    labeled_duplicates: int
    duplicates: int
    divided: int

    @property
    def negative(self) -> int:
        """Return how many picked images have no box that reaches its threshold."""
        return sum(len(image.reported) == 0 for image in self.images)

    def __str__(self) -> str:
        """The list in words."""
        share = f"{self.negative} of {len(self.images)} predicted negative"
        left_out = f"{counted(self.labeled_duplicates + self.duplicates, 'near duplicate')} left out"
        patients = "no patient is divided" if not self.divided else "1 patient is divided to reach the number"
        return f"{counted(len(self.images), 'image', of=self.num_candidates)}: {share}; {left_out}; {patients}"


def candidates(named: NamedSet) -> list[Candidate]:
    """Return the images of a data-set name.

    Raises:
        FileNotFoundError, ValueError: the set is not prepared, or was changed.
    """
    rows = {row["image_name"]: row for row in artifacts.read_csv(named.folder / "manifest.csv")}
    hashes = {image["image_name"]: image for image in loading.prepared_images([named])}
    found = []
    for image in named.images():
        name = image_name(image["file_name"])
        row, patient = rows[name], image.get("patient")
        spacing = tuple(map(float, row["pixel_spacing"].split())) if row.get("pixel_spacing") else None
        found.append(
            Candidate(
                name=name,
                dataset=named.name,
                folder=named.folder,
                png=hashes[name]["file_name"],
                image_sha256=hashes[name]["image_sha256"],
                file=row.get("file") or image["file_name"],
                width=image.get("source_width", image["width"]),
                height=image.get("source_height", image["height"]),
                attributes={"pixel_spacing": spacing, "spacing_tag": row.get("spacing_tag", "")},
                patient=None if patient is None else (str(named.folder), patient),
            )
        )
    return found


def duplicate_pairs(found: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Return the pairs of candidates that are near duplicates within their set, or have the same pixels."""
    place = {(image.folder, image.name): index for index, image in enumerate(found)}
    first: dict[str, int] = {}
    pairs = [(first.setdefault(image.image_sha256, index), index) for index, image in enumerate(found)]
    for folder in {image.folder for image in found}:
        for pair in leakage.read_near_duplicates(folder):
            both = [place.get((folder, pair[key])) for key in ("image_name", "other_image_name")]
            pairs += [(both[0], both[1])] if both[0] is not None and both[1] is not None else []
    return [(one, other) for one, other in pairs if one != other]
