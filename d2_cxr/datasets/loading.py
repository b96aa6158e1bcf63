"""What happens when a data-set name is loaded: find its images, refuse what is not what its name says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets import named_sets
from d2_cxr.image_name import image_name
from d2_cxr.labels import splits, vindr_cxr

_EXTRA_KEYS = ["id", "num_readers", "reader_ious"]


def load(name: str) -> list[dict]:
    """Return Detectron2's dicts of a data-set name, in the order of its JSON.

    Beside Detectron2's keys each dict has `patient` where it is known. Unlabeled sets have no `annotations` key; images
    without findings have an empty list.

    Raises:
        FileNotFoundError: the set is not prepared; one line with the file, the root and the command.
        ValueError: the images are not those that the name stands for.
    """
    path, images = _json_of(name)
    kind, image_root = named_sets.parse_name(name).kind, named_sets.set_folder(name) / "images"
    if kind != "boxes":
        known = {} if kind == "unlabeled" else {"annotations": []}
        return [_record(image, image_root, known) for image in images]
    _check_classes(name, path)
    from detectron2.data.datasets.coco import load_coco_json

    loaded = load_coco_json(str(path), str(image_root), name, _EXTRA_KEYS)
    annotations = {record["image_id"]: record["annotations"] for record in loaded}
    return [_record(image, image_root, {"annotations": annotations[image["id"]]}) for image in images]


def prepared_images(names: Sequence[str]) -> list[dict]:
    """Return the images of data-set names for learning without labels; needs neither labels nor Detectron2.

    Returns:
        dicts of image_name (str), file_name (absolute), source_sha256 and image_sha256, each image once, in the order of
        the names and of their JSON.

    Raises:
        FileNotFoundError, ValueError: as when the name is loaded.
    """
    radiographs: dict[str, dict] = {}
    for name in names:
        _, images = _json_of(name)
        folder = named_sets.set_folder(name).resolve()
        hashes = _hashes(folder)
        for image in images:
            radiograph = image_name(image["file_name"])
            if radiograph not in hashes:
                raise ValueError(
                    f"{folder / 'manifest.csv'} has no row for image {radiograph} of {name}; prepare the set again"
                )
            path = str(folder / "images" / image["file_name"])
            radiographs.setdefault(path, {"image_name": radiograph, "file_name": path, **hashes[radiograph]})
    return list(radiographs.values())


def image_names(name: str) -> list[str]:
    """Return the images that a data-set name stands for, in order; needs no Detectron2."""
    return [image_name(image["file_name"]) for image in _json_of(name)[1]]


def _json_of(name: str) -> tuple[Path, list[dict]]:
    """Return the JSON of a name and those of its images that the name stands for."""
    named = named_sets.parse_name(name)
    path = named_sets.set_folder(name) / named.json_path
    if not path.is_file():
        raise FileNotFoundError(named_sets.missing_message(name, path))
    images = artifacts.read_json(path)["images"]
    _check_published(name, path, images)
    if named.percent_labeled is None:
        return path, images
    radiographs = [image_name(image["file_name"]) for image in images]
    patients = {
        radiograph: str(image["patient"])
        for radiograph, image in zip(radiographs, images, strict=True)
        if "patient" in image
    }
    if named.seed is None:
        labeled, unlabeled = splits.published_fraction(radiographs, named.percent_labeled, patients)
    else:
        labeled, unlabeled = splits.nested_fraction(radiographs, named.percent_labeled, named.seed, patients)
    wanted = set(unlabeled if named.kind == "unlabeled" else labeled)
    return path, [image for radiograph, image in zip(radiographs, images, strict=True) if radiograph in wanted]


def _check_published(name: str, path: Path, images: list[dict]) -> None:
    """Refuse a published split of VinDr-CXR whose images, or their order, are not the published ones."""
    part = path.stem
    if path.parent.name != "published" or part not in vindr_cxr.FINGERPRINTS:
        return
    if not vindr_cxr.matches_published(part, [image_name(image["file_name"]) for image in images]):
        raise ValueError(
            f"data set {name}: the {len(images)} images of {path} are not those of the published split (row order "
            "of the CSV?); prepare again with --order-csv train.csv, or use the stratified names"
        )


def _check_classes(name: str, path: Path) -> None:
    """Refuse a JSON whose classes contradict the registered ones; Detectron2 would stop with a bare assertion."""
    from detectron2.data.catalog import MetadataCatalog

    registered = MetadataCatalog.get(name).get("thing_classes")
    categories = sorted(artifacts.read_json(path)["categories"], key=lambda category: category["id"])
    found = [category["name"] for category in categories]
    if registered is not None and list(registered) != found:
        raise ValueError(
            f"data set {name}: {path} has the classes {found}, registered are {list(registered)}; "
            f"register_prepared(NAME, {str(path.parents[2])!r}) gives the set a name of its own"
        )


def _record(image: dict, image_root: Path, more: dict) -> dict:
    """Return Detectron2's dict of a COCO image; the patient goes along where it is known."""
    record = {
        "file_name": str(image_root / image["file_name"]),
        "image_id": image["id"],
    }
    record |= {key: image[key] for key in ("height", "width", "patient") if key in image}
    return record | more


def _hashes(folder: Path) -> dict[str, dict[str, str]]:
    """Return image -> {source_sha256, image_sha256} of the images that the manifest says were prepared."""
    path = folder / "manifest.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is no finished prepared set")
    rows = [row for row in artifacts.read_csv(path) if row["image_sha256"]]
    return {row["image_name"]: {key: row[key] for key in ("source_sha256", "image_sha256")} for row in rows}
