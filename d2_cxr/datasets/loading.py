"""What Detectron2, and pretraining, get when a data-set name is loaded."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets.named_sets import NamedSet
from d2_cxr.image_name import image_name

_EXTRA_KEYS = ["id", "num_readers", "reader_ious"]


def load(named: NamedSet) -> list[dict]:
    """Return Detectron2's dicts of a named set, in the order of its JSON.

    Beside Detectron2's keys each dict has `patient` where it is known. Unlabeled sets have no `annotations` key; images
    without findings have an empty list.

    Raises:
        FileNotFoundError: the set is not prepared; one line with the file, the root and the command.
        ValueError: the images are not those that the name means.
    """
    images = named.images()
    if named.kind != "boxes":
        known: dict = {} if named.kind == "unlabeled" else {"annotations": []}
        return [_record(image, named, known) for image in images]
    _check_classes(named)
    from detectron2.data.datasets.coco import load_coco_json

    loaded = load_coco_json(str(named.json), str(named.image_root), named.name, _EXTRA_KEYS)
    annotations = {record["image_id"]: record["annotations"] for record in loaded}
    return [_record(image, named, {"annotations": annotations[image["id"]]}) for image in images]


def prepared_images(sets: Iterable[NamedSet]) -> list[dict]:
    """Return the images of named sets for training without labels; needs neither labels nor Detectron2.

    Returns:
        dicts of image_name, file_name (absolute), source_sha256 and image_sha256, each image once, in the order of the
        sets and of their JSON.

    Raises:
        FileNotFoundError, ValueError: as when the set is loaded.
    """
    found: dict[str, dict] = {}
    for named in sets:
        folder, images = named.folder.resolve(), named.images()
        hashes = _hashes(folder)
        for image in images:
            own = image_name(image["file_name"])
            if own not in hashes:
                raise ValueError(
                    f"{folder / 'manifest.csv'} has no row for image {own} of {named.name}; prepare the set again"
                )
            path = str(folder / "images" / image["file_name"])
            found.setdefault(path, {"image_name": own, "file_name": path, **hashes[own]})
    return list(found.values())


def _check_classes(named: NamedSet) -> None:
    """Raise if the JSON's classes contradict the registered ones; Detectron2 would stop with a bare assertion."""
    from detectron2.data.catalog import MetadataCatalog

    registered = MetadataCatalog.get(named.name).get("thing_classes")
    categories = sorted(artifacts.read_json(named.json)["categories"], key=lambda category: category["id"])
    found = [category["name"] for category in categories]
    if registered is not None and list(registered) != found:
        raise ValueError(
            f"data set {named.name}: {named.json} has the classes {found}, registered are {list(registered)}; "
            f"register_prepared(NAME, {str(named.folder)!r}) gives the set a name of its own"
        )


def _record(image: dict, named: NamedSet, extra: dict) -> dict:
    """Return Detectron2's dict of a COCO image, with its patient where that is known."""
    record = {"file_name": str(named.image_root / image["file_name"]), "image_id": image["id"]}
    record |= {key: image[key] for key in ("height", "width", "patient") if key in image}
    return record | extra


def _hashes(folder: Path) -> dict[str, dict[str, str]]:
    """Return image name -> {source_sha256, image_sha256} of the images that the manifest lists as prepared."""
    path = folder / "manifest.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is not a finished prepared set")
    return _read_hashes(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_hashes(path: Path, written: int) -> dict[str, dict[str, str]]:
    """Read them once per process; `written` keeps a manifest that was replaced from being taken for the new one."""
    rows = [row for row in artifacts.read_csv(path) if row["image_sha256"]]
    return {row["image_name"]: {key: row[key] for key in ("source_sha256", "image_sha256")} for row in rows}
