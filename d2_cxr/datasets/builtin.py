"""The names of prepared sets in Detectron2's catalog.

`register_all(root)` is called once Detectron2's catalog is imported, with `$DETECTRON2_DATASETS`; it opens no file.
`register_prepared(name, root)` adds an own set, before or after that. What a name means is decided when it is loaded:
which JSON, which of its images, with or without annotations. A set that is not there is refused then, by name.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from d2_cxr.datasets import named_sets


def register_all(root: str | os.PathLike) -> None:
    """Register the names of the built-in sets below `root`, and of the own sets registered so far, with Detectron2."""
    for set_name in named_sets.BUILTIN.keys() - named_sets.OWN:
        named_sets.FOLDERS[set_name] = Path(root) / set_name
    for set_name in list(named_sets.FOLDERS):
        _register(set_name)


def register_prepared(name: str, root: str | os.PathLike) -> None:
    """Register the names of an own prepared set (`name`_train, `name`_test, ...) that lies in the folder `root`.

    The last registration of a name holds. Detectron2 is not imported by this; where it is imported later, it learns
    the names then.

    Raises:
        ValueError: a name that is empty or could not be told from a built-in split.
    """
    named_sets.check_set_name(name)
    named_sets.FOLDERS[name] = Path(root)
    named_sets.OWN.add(name)
    if "detectron2.data.catalog" in sys.modules:
        _register(name)


def _register(set_name: str) -> None:
    from detectron2.data.catalog import DatasetCatalog, MetadataCatalog

    folder = named_sets.set_folder(set_name)
    classes = _classes_at_registration(set_name, folder)
    for name in named_sets.names_of_set(set_name):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)
        DatasetCatalog.register(name, _Loader(name))
        metadata, named = MetadataCatalog.get(name), named_sets.parse_name(name)
        # Detectron2's own scripts evaluate "coco" names against all of json_file; of a share, or of images whose boxes
        # must not be seen, that would be wrong, and "cxr" makes them say that they can not.
        whole = named.kind == "boxes" and named.percent_labeled is None
        metadata.set(
            json_file=str(folder / named.json_path),
            image_root=str(folder / "images"),
            evaluator_type="coco" if whole else "cxr",
            prepared_root=str(folder),
        )
        if classes:  # else Detectron2 learns them from the JSON when the set is loaded
            ids = {index + 1: index for index in range(len(classes))}
            metadata.set(thing_classes=list(classes), thing_dataset_id_to_contiguous_id=ids)


def _classes_at_registration(set_name: str, folder: Path) -> tuple[str, ...] | None:
    """Return a built-in set's classes without opening a file, an own set's where it is already prepared."""
    if set_name in named_sets.OWN and (folder / "dataset.json").is_file():
        return named_sets.class_names(set_name)
    return named_sets.BUILTIN.get(set_name)


@dataclass(frozen=True)
class _Loader:
    """A function of no argument that can be pickled, which a lambda cannot."""

    name: str

    def __call__(self) -> list[dict]:
        from d2_cxr.datasets import leakage, loading

        if (
            named_sets.parse_name(self.name).kind == "unlabeled"
        ):  # learned from: no image may give a held-out image away
            leakage.refuse_leaks([self.name])
        return loading.load(self.name)
