"""Which sets there are, where they lie, and their classes: `set_folder("vindr_cxr")`, `known_sets()`.

Sets are the built-in ones, those given to `register_prepared`, and every prepared set below `$DETECTRON2_DATASETS`
(docs/formats.md). Nothing here needs Detectron2.
"""

from __future__ import annotations

import os
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.labels import nih_bbox, rsna_pneumonia, vindr_cxr

# Sets below $DETECTRON2_DATASETS and their classes. Phantoms are rendered with VinDr-CXR's classes.
BUILTIN = {
    "vindr_cxr": vindr_cxr.CLASS_NAMES,
    "phantom_cxr": vindr_cxr.CLASS_NAMES,
    "rsna_pneumonia": rsna_pneumonia.CLASS_NAMES,
    "nih_bbox": nih_bbox.CLASS_NAMES,
}

FOLDERS: dict[str, Path] = {}  # set name -> folder, as registered
OWN: set[str] = set()  # those that `register_prepared` named


def known_sets() -> set[str]:
    """Return the names of all sets: built in, registered, and prepared below `$DETECTRON2_DATASETS`."""
    return {*BUILTIN, *FOLDERS, *_found_below_root()}


def root() -> Path:
    """Return the folder of prepared sets: `$DETECTRON2_DATASETS`, else "datasets", by Detectron2's own rule."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def set_folder(set_name: str) -> Path:
    """Return the folder of a set, by the set's own name ("vindr_cxr")."""
    return FOLDERS.get(set_name) or root() / set_name


def classes_of_set(set_name: str) -> tuple[str, ...] | None:
    """Return the classes of a set: those of its dataset.json, else of its card; None where neither is there.

    Raises:
        ValueError: dataset.json has no list of names.
    """
    path = set_folder(set_name) / "dataset.json"
    if not path.is_file():
        return BUILTIN.get(set_name)
    values = artifacts.read_json(path)
    names = values.get("class_names") if isinstance(values, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: class_names is not a list of names; prepare the set again")
    return tuple(names)


def classes_at_registration(set_name: str) -> tuple[str, ...] | None:
    """Return the classes of an own set, if it is prepared; of any other set those that are known without its files."""
    return classes_of_set(set_name) if set_name in OWN else BUILTIN.get(set_name)


def _found_below_root() -> list[str]:
    """Return the folders below the root that hold a dataset.json; no file is opened."""
    try:
        with os.scandir(root()) as entries:
            return [entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, "dataset.json"))]
    except OSError:
        return []
