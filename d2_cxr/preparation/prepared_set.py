"""Annotations and the images that were prepared -> the JSON files of a prepared set (docs/formats.md, section 1).

Which image is in which part is decided from the table of annotations alone, before images that are missing or refused
are taken out: a name means the same images everywhere, whatever the fusion, the size, or the state of a download.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from d2_cxr.boxes import BoxMap
from d2_cxr.counted import counted
from d2_cxr.datasets import named_sets, set_folders
from d2_cxr.dicom.preprocess import Preprocess, box_map
from d2_cxr.image_name import image_name, png_name
from d2_cxr.labels import coco, splits, vindr_cxr
from d2_cxr.labels.annotations import Annotations
from d2_cxr.labels.box_rules import check_extent, cut_to_images
from d2_cxr.labels.fusion import PAPER_IOU_THRESHOLD, fuse_annotations
from d2_cxr.labels.given_splits import given_split
from d2_cxr.labels.label_table import CORNERS
from d2_cxr.preparation.plan import Plan

Row = Mapping[str, str]


@dataclass
class Assembly:
    """The JSON files of a set, with counts and notes.

    Attributes:
        files: path below annotations/ -> COCO dict.
        counts: images and boxes by part.
        notes: sentences for the user: what was not written, what was left out.
        left_out: image -> why it is not among the unlabeled ones.
    """

    files: dict[str, dict] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """Prepared images: the image row of each, by image id, in the order of their numbers."""

    rows: dict[str, dict]
    hashes: dict[str, str]  # image -> sha256 of its prepared pixels

    def of(self, image_names: Sequence[str]) -> list[dict]:
        """Return the rows of those of these images that are prepared."""
        return [self.rows[image] for image in image_names if image in self.rows]


def number_images(
    rows: Sequence[Row],
    size: int,
    patients: Mapping[str, str] | None,
    patient_codes: Mapping[str, str] | None = None,
) -> Images:
    """Give every prepared image its number, from 1 by image id, and its patient's.

    Patients get numbers too: their names in the table may be names. Numbers of two sets have nothing in common;
    `patient_codes` (patient -> pseudonym) do, where both were made with one key.
    """
    prepared = sorted((row for row in rows if row["outcome"] == "prepared"), key=lambda row: row["image_name"])
    patients = patients or {}
    known = {row["image_name"]: patients[row["image_name"]] for row in prepared if row["image_name"] in patients}
    groups = {patient: index + 1 for index, patient in enumerate(sorted(set(known.values())))}
    images = {
        row["image_name"]: {
            "id": index + 1,
            "image_name": row["image_name"],
            "file_name": png_name(row["image_name"]),
            "width": size,
            "height": size,
            "source_width": int(row["columns"]),
            "source_height": int(row["rows"]),
            "patient": groups[known[row["image_name"]]] if row["image_name"] in known else None,
            "patient_code": (patient_codes or {}).get(known.get(row["image_name"], "")),
        }
        for index, row in enumerate(prepared)
    }
    return Images(images, {row["image_name"]: row["image_sha256"] for row in prepared})


def assemble(
    plan: Plan, images: Images, in_folder: Sequence[str], copies: Sequence[Mapping[str, str]] = ()
) -> Assembly:
    """Return the JSON files of the set without its official test images.

    Args:
        plan: of the preparation.
        images: those that were prepared.
        in_folder: the images of the input folder, prepared or not; of them, those without annotations are unlabeled.
        copies: near duplicates; those of val or test images are not among the unlabeled.
    """
    result, annotations = Assembly(), plan.annotations
    if annotations is None:
        classes = set_folders.BUILTIN.get(plan.name, ())
        result.files["unlabeled.json"] = coco.to_coco(images.of(sorted(images.rows)), no_boxes(), classes)
        result.counts["unlabeled"] = len(images.rows)
        return result
    boxes = map_boxes(annotations, images, plan.rules, result)
    fused = _fuse(boxes, plan.settings["fusion"]["rule"])
    for folder, split, negative in _all_splits(plan, annotations, images, result):
        _write_split(folder, split, negative, images, fused, annotations.class_names, result)
    readers = coco.readers_to_coco(
        images.of(annotations.image_names), boxes, annotations.readings, annotations.class_names
    )
    result.files["readers.json"] = readers
    _note_empty_parts(result)
    result.counts |= {"readers_boxes": len(readers["annotations"]), "fused_boxes": len(fused)}
    _write_unlabeled(annotations, images, plan.patients, in_folder, copies, result)
    return result


def assemble_official_test(annotations: Annotations, images: Images, rules: Preprocess) -> tuple[dict, Assembly]:
    """Return the COCO dict of the official test images, whose boxes are a consensus already."""
    assembly = Assembly()
    boxes = map_boxes(annotations, images, rules, assembly)
    rule = "none" if annotations.consensus else "mean"
    test = coco.to_coco(images.of(annotations.image_names), _fuse(boxes, rule), annotations.class_names)
    return test, assembly


def map_boxes(annotations: Annotations, images: Images, rules: Preprocess, assembly: Assembly) -> pd.DataFrame:
    """Return the readers' boxes of the prepared images in prepared pixels.

    Boxes count in the pixels of the sizes that the table gives; where an image's file has another size, as in sets of
    resized copies, they are scaled to it first.
    """
    boxes = annotations.boxes[annotations.boxes["image_name"].isin(images.rows.keys())].reset_index(drop=True)
    sizes = {image: (row["source_width"], row["source_height"]) for image, row in images.rows.items()}
    given = {image: tuple(size) for image, size in (annotations.sizes or {}).items() if image in sizes}
    resized = {image for image, size in given.items() if size != sizes[image]}
    if resized:
        assembly.notes.append(
            f"{counted(len(resized), 'image has', 'images have')} not the size in the table; boxes are scaled to it"
        )
    maps = {image: BoxMap(sizes[image][0] / given[image][0], sizes[image][1] / given[image][1]) for image in resized}
    boxes = _mapped(boxes, maps)
    check_extent(boxes, sizes, f"the labels ({annotations.format_name})")
    boxes, counts = cut_to_images(boxes, sizes)
    assembly.counts |= {f"boxes_{kind}": count for kind, count in counts.items()}
    return _mapped(boxes, {image: box_map(*sizes[image], rules) for image in boxes["image_name"].unique()})


def no_boxes() -> pd.DataFrame:
    """Return a table of fused boxes without a row."""
    return pd.DataFrame(columns=["image_name", "class_name", *CORNERS, "num_readers", "reader_ious"])


def _mapped(boxes: pd.DataFrame, maps: Mapping[str, BoxMap]) -> pd.DataFrame:
    """Map each image's boxes by its own map; images without one stay as they are."""
    if not len(boxes) or not maps:
        return boxes
    corners = boxes[CORNERS].to_numpy(float).copy()
    for image, rows in boxes.groupby("image_name", sort=False).indices.items():
        if image in maps:
            corners[rows] = maps[image].forward(corners[rows])
    return boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))


def _fuse(boxes: pd.DataFrame, rule: str) -> pd.DataFrame:
    return fuse_annotations(boxes, rule, PAPER_IOU_THRESHOLD) if len(boxes) else no_boxes()


def _all_splits(
    plan: Plan, annotations: Annotations, images: Images, assembly: Assembly
) -> list[tuple[str, splits.Split, splits.Split]]:
    """Return (folder, split of the images with findings, split of those without)."""
    seed, patients = plan.settings["split"]["seed"], plan.patients
    if plan.parts is not None:
        both = annotations.finding_ids, annotations.negative_ids
        finding, negative = (given_split(names, plan.parts, seed, patients) for names in both)
        return [("stratified", finding, negative)]
    labels = splits.label_matrix(annotations.finding_ids, annotations.boxes, annotations.class_names)
    stratified = splits.stratified_split(annotations.finding_ids, labels, seed, patients)
    negative = splits.random_split(annotations.negative_ids, seed, patients, follow=stratified)
    found = [("stratified", stratified, negative)]
    published = _published(plan, annotations, images, assembly)
    if published:
        found.append(("published", published, splits.random_split(annotations.negative_ids, seed, patients)))
    return found


def _note_empty_parts(assembly: Assembly) -> None:
    empty = [part for part in ("train", "val", "test") if not assembly.counts[f"stratified_{part}"]]
    if empty:
        assembly.notes.append(
            f"no image with findings is in {', '.join(empty)}: you cannot train on it or test with it"
        )


def _published(plan: Plan, annotations: Annotations, images: Images, assembly: Assembly) -> splits.Split | None:
    """Return VinDr-CXR's published split where the table's images are those, in that order, and all are prepared."""
    if plan.name != named_sets.PUBLISHED_SET:
        return None
    split = splits.published_split(annotations.finding_ids if plan.order is None else plan.order)
    if not vindr_cxr.is_published(split):
        assembly.notes.append(
            "the published split was not written: the table's images, or their order, are not VinDr-CXR's; only the "
            "stratified names can be used (--order-csv takes the order from Kaggle's train.csv)"
        )
        return None
    missing = [image for images_of_part in split.values() for image in images_of_part if image not in images.rows]
    if missing:
        assembly.notes.append(
            f"the published split was not written: it lacks {len(missing):,} of its "
            f"{sum(map(len, split.values())):,} images, and its names mean all of them"
        )
        return None
    return split


def _write_split(
    folder: str, split, negative, images: Images, fused: pd.DataFrame, class_names, assembly: Assembly
) -> None:
    for prefix, parts in (("", split), ("negative_", negative)):
        for part, image_names in parts.items():
            boxes = no_boxes() if prefix else fused
            written = coco.to_coco(images.of(image_names), boxes, class_names)
            assembly.files[f"{folder}/{prefix}{part}.json"] = written
            assembly.counts[f"{folder}_{prefix}{part}"] = len(written["images"])
            if not prefix:
                assembly.counts[f"{folder}_{part}_boxes"] = len(written["annotations"])


def _write_unlabeled(annotations: Annotations, images: Images, patients, in_folder, copies, assembly: Assembly) -> None:
    """Write the images of which nothing is known; those that would leak a val or test image stay out."""
    labeled = {*annotations.finding_ids, *annotations.negative_ids}
    unknown = [image for image in sorted(in_folder) if image not in labeled and image in images.rows]
    held_out = _held_out(assembly.files)
    patient_of = patients or {}
    held_patients = {patient_of[image] for image in held_out if image in patient_of}
    held_copies = _copies_of(set(held_out), copies)
    held_pixels = {images.hashes[image]: image for image in held_out}
    for image in unknown:
        if images.hashes[image] in held_pixels:
            assembly.left_out[image] = f"the same pixels as {held_pixels[images.hashes[image]]} of val or test"
        elif patient_of.get(image) in held_patients:
            assembly.left_out[image] = "its patient has images in val or test"
        elif image in held_copies:
            assembly.left_out[image] = held_copies[image]
    kept = [image for image in unknown if image not in assembly.left_out]
    assembly.files["unlabeled.json"] = coco.to_coco(images.of(kept), no_boxes(), annotations.class_names)
    assembly.counts |= {"unlabeled": len(kept), "unlabeled_left_out": len(assembly.left_out)}


def _copies_of(held_out: set[str], copies: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return image -> of which held-out image it is a copy, and how."""
    found: dict[str, str] = {}
    for copy in copies:
        for image, other in (
            (copy["image_name"], copy["other_image_name"]),
            (copy["other_image_name"], copy["image_name"]),
        ):
            if other in held_out:
                found.setdefault(image, f"the same image as {other} of val or test ({copy['how']})")
    return found


def _held_out(files: Mapping[str, dict]) -> list[str]:
    names = [
        f"{folder}/{prefix}{part}.json"
        for folder in ("stratified", "published")
        for prefix in ("", "negative_")
        for part in ("val", "test")
    ]
    return sorted(
        {image_name(image["file_name"]) for name in names if name in files for image in files[name]["images"]}
    )
