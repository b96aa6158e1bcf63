"""Annotations and the films that were prepared -> the JSON files of a prepared set (docs/formats.md, section 1).

Which film is in which part is decided from the table of annotations alone, before films that are missing or refused
are taken out: a name means the same films everywhere, whatever the fusion, the size, or the state of a download.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from d2_cxr.boxes import BoxMap
from d2_cxr.datasets import named_sets
from d2_cxr.dicom.preprocess import Preprocess, box_map
from d2_cxr.labels import coco, splits, vindr_cxr
from d2_cxr.labels.annotations import CORNERS, Annotations, cut_to_images
from d2_cxr.labels.fusion import PAPER_IOU_THRESHOLD, fuse_annotations

Row = Mapping[str, str]


@dataclass
class Assembly:
    """The JSON files of a set, and what there is to tell about it.

    Attributes:
        files: path below annotations/ -> COCO dict.
        counts: films and boxes by part.
        notes: sentences for the user: what was not written, what was left out.
        left_out: film -> why it is not among the unlabeled ones.
        unlabeled, without_film: film ids.
    """

    files: dict[str, dict] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Films:
    """Prepared films: the image row of each, by film id, in the order of their numbers."""

    rows: dict[str, dict]
    hashes: dict[str, str]  # film -> sha256 of its prepared pixels

    def of(self, film_ids: Sequence[str]) -> list[dict]:
        return [self.rows[film] for film in film_ids if film in self.rows]


def number_films(rows: Sequence[Row], size: int, patients: Mapping[str, str] | None) -> Films:
    """Give every prepared film its number, from 1 by film id, and its patient's.

    Patients get numbers too: their names in the table may be names.
    """
    prepared = sorted((row for row in rows if row["outcome"] == "prepared"), key=lambda row: row["image_id"])
    known = {row["image_id"]: patients[row["image_id"]] for row in prepared if row["image_id"] in (patients or {})}
    groups = {patient: index + 1 for index, patient in enumerate(sorted(set(known.values())))}
    images = {
        row["image_id"]: {
            "id": index + 1,
            "image_id": row["image_id"],
            "file_name": f"{row['image_id']}.png",
            "width": size,
            "height": size,
            "source_width": int(row["columns"]),
            "source_height": int(row["rows"]),
            "patient": groups.get(known.get(row["image_id"])),
        }
        for index, row in enumerate(prepared)
    }
    return Films(images, {row["image_id"]: row["image_sha256"] for row in prepared})


def assemble(
    name: str,
    annotations: Annotations | None,
    films: Films,
    rules: Preprocess,
    fusion: str = "mean",
    seed: int = 0,
    order: Sequence[str] | None = None,
    patients: Mapping[str, str] | None = None,
    in_folder: Sequence[str] = (),
    copies: Sequence[Mapping[str, str]] = (),
) -> Assembly:
    """Return the JSON files of the set without its official test films.

    Args:
        name: of the set; "vindr_cxr" may have the published split.
        annotations: None where there are only films.
        films: those that were prepared.
        rules: how they were.
        fusion: rule of `fuse_annotations`; a consensus is never fused.
        seed: of the stratified split and of the films without findings.
        order: finding films in the published order, from another table; None: the table's own.
        patients: film -> patient.
        in_folder: the films of the input folder, prepared or not; of them, those without annotations are unlabeled.
        copies: near copies (similarity.py); those of val or test films are not among the unlabeled.
    """
    result = Assembly()
    if annotations is None:
        result.files["unlabeled.json"] = coco.to_coco(
            films.of(sorted(films.rows)), no_boxes(), named_sets.BUILTIN.get(name, ())
        )
        result.counts["unlabeled"] = len(films.rows)
        return result
    boxes = map_boxes(annotations, films, rules, result)
    rule = "none" if annotations.consensus else fusion
    fused = _fuse(boxes, rule)
    for folder, split, normal in _all_splits(name, annotations, films, seed, order, patients, result):
        _write_split(folder, split, normal, films, fused, annotations.class_names, result)
    readers = coco.readers_to_coco(
        films.of(annotations.image_ids), boxes, annotations.readings, annotations.class_names
    )
    result.files["readers.json"] = readers
    result.counts |= {"readers_boxes": len(readers["annotations"]), "fused_boxes": len(fused)}
    _write_unlabeled(annotations, films, patients, in_folder, copies, result)
    return result


def assemble_official_test(annotations: Annotations, films: Films, rules: Preprocess) -> tuple[dict, Assembly]:
    """Return the COCO dict of the official test films, whose boxes are a consensus already."""
    told = Assembly()
    boxes = map_boxes(annotations, films, rules, told)
    rule = "none" if annotations.consensus else "mean"
    test = coco.to_coco(films.of(annotations.image_ids), _fuse(boxes, rule), annotations.class_names)
    return test, told


def map_boxes(annotations: Annotations, films: Films, rules: Preprocess, told: Assembly) -> pd.DataFrame:
    """Return the readers' boxes of the prepared films in prepared pixels.

    Boxes count in the pixels of the sizes that the table gives; where a film's file has another size, as in sets of
    resized copies, they are scaled to it first.
    """
    boxes = annotations.boxes[annotations.boxes["image_id"].isin(films.rows.keys())].reset_index(drop=True)
    sizes = {film: (row["source_width"], row["source_height"]) for film, row in films.rows.items()}
    given = {film: tuple(size) for film, size in (annotations.sizes or {}).items() if film in sizes}
    resized = {film for film, size in given.items() if size != sizes[film]}
    if resized:
        told.notes.append(f"{len(resized)} films have another size than the table says: their boxes were scaled to it")
    maps = {film: BoxMap(sizes[film][0] / given[film][0], sizes[film][1] / given[film][1]) for film in resized}
    boxes, counts = cut_to_images(_mapped(boxes, maps), sizes)
    told.counts |= {f"boxes_{kind}": count for kind, count in counts.items()}
    return _mapped(boxes, {film: box_map(*sizes[film], rules) for film in boxes["image_id"].unique()})


def no_boxes() -> pd.DataFrame:
    """Return a table of fused boxes without a row."""
    return pd.DataFrame(columns=["image_id", "class_name", *CORNERS, "num_readers", "reader_ious"])


def _mapped(boxes: pd.DataFrame, maps: Mapping[str, BoxMap]) -> pd.DataFrame:
    """Map each film's boxes by its own map; films without one stay as they are."""
    if not len(boxes) or not maps:
        return boxes
    corners = boxes[CORNERS].to_numpy(float).copy()
    for film, rows in boxes.groupby("image_id", sort=False).indices.items():
        if film in maps:
            corners[rows] = maps[film].forward(corners[rows])
    return boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))


def _fuse(boxes: pd.DataFrame, rule: str) -> pd.DataFrame:
    return fuse_annotations(boxes, rule, PAPER_IOU_THRESHOLD) if len(boxes) else no_boxes()


def _all_splits(name, annotations, films, seed, order, patients, told) -> list[tuple[str, splits.Split, splits.Split]]:
    """Return (folder, split of the films with findings, split of those without)."""
    labels = splits.label_matrix(annotations.finding_ids, annotations.boxes, annotations.class_names)
    stratified = splits.stratified_split(annotations.finding_ids, labels, seed, patients)
    normal = splits.random_split(annotations.normal_ids, seed, patients, follow=stratified)
    found = [("stratified", stratified, normal)]
    published = _published(name, annotations, films, order, told)
    if published:
        found.append(("published", published, splits.random_split(annotations.normal_ids, seed, patients)))
    return found


def _published(name: str, annotations: Annotations, films: Films, order, told: Assembly) -> splits.Split | None:
    """Return VinDr-CXR's published split where the table's films are those, in that order, and all are prepared."""
    if name != named_sets.PUBLISHED_SET:
        return None
    split = splits.published_split(annotations.finding_ids if order is None else order)
    if not vindr_cxr.is_published(split):
        told.notes.append(
            "the published split was not written: the table's films, or their order, are not VinDr-CXR's; only the "
            "stratified names can be used (--order-csv takes the order from Kaggle's train.csv)"
        )
        return None
    missing = [film for films_of_part in split.values() for film in films_of_part if film not in films.rows]
    if missing:
        told.notes.append(
            f"the published split was not written: {len(missing)} of its {sum(map(len, split.values()))} films are not "
            "prepared, and its names mean all of them"
        )
        return None
    return split


def _write_split(folder: str, split, normal, films: Films, fused: pd.DataFrame, class_names, told: Assembly) -> None:
    for prefix, parts in (("", split), ("normal_", normal)):
        for part, film_ids in parts.items():
            boxes = no_boxes() if prefix else fused
            written = coco.to_coco(films.of(film_ids), boxes, class_names)
            told.files[f"{folder}/{prefix}{part}.json"] = written
            told.counts[f"{folder}_{prefix}{part}"] = len(written["images"])
            if not prefix:
                told.counts[f"{folder}_{part}_boxes"] = len(written["annotations"])


def _write_unlabeled(annotations: Annotations, films: Films, patients, in_folder, copies, told: Assembly) -> None:
    """Write the films of which nothing is known; those that would leak a val or test film stay out."""
    labeled = {*annotations.finding_ids, *annotations.normal_ids}
    unknown = [film for film in sorted(in_folder) if film not in labeled and film in films.rows]
    held_out = _held_out(told.files)
    patient_of = patients or {}
    held_patients = {patient_of[film] for film in held_out if film in patient_of}
    held_copies = _copies_of(set(held_out), copies)
    held_pixels = {films.hashes[film]: film for film in held_out}
    for film in unknown:
        if films.hashes[film] in held_pixels:
            told.left_out[film] = f"the same pixels as {held_pixels[films.hashes[film]]} of val or test"
        elif patient_of.get(film) in held_patients:
            told.left_out[film] = "its patient has films in val or test"
        elif film in held_copies:
            told.left_out[film] = held_copies[film]
    kept = [film for film in unknown if film not in told.left_out]
    told.files["unlabeled.json"] = coco.to_coco(films.of(kept), no_boxes(), annotations.class_names)
    told.counts |= {"unlabeled": len(kept), "unlabeled_left_out": len(told.left_out)}


def _copies_of(held_out: set[str], copies: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return film -> of which held-out film it is a copy, and how."""
    found = {}
    for copy in copies:
        for film, other in ((copy["image_id"], copy["other_image_id"]), (copy["other_image_id"], copy["image_id"])):
            if other in held_out:
                found.setdefault(film, f"the same film as {other} of val or test ({copy['how']})")
    return found


def _held_out(files: Mapping[str, dict]) -> list[str]:
    names = [
        f"{folder}/{prefix}{part}.json"
        for folder in ("stratified", "published")
        for prefix in ("", "normal_")
        for part in ("val", "test")
    ]
    return sorted({coco.film_of(image) for name in names if name in files for image in files[name]["images"]})
