"""The names of prepared sets in Detectron2's catalog.

`register_all()` is called once Detectron2's catalog is imported: the built-in sets, and every folder below
`$DETECTRON2_DATASETS` with a dataset.json. `register_prepared(name, root)` adds a set that lies elsewhere, before or
after that. Seeded fractions (NAME_train_labeled_30_seed1) are not listed: the catalog registers them on demand. A name
is resolved when it is loaded; a missing set raises then.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from d2_cxr.datasets import named_sets, set_folders
from d2_cxr.datasets.named_sets import NamedSet, UnknownDatasetError, named_set


def register_all(root: str | os.PathLike | None = None) -> None:
    """Register the built-in sets below `root`, the own sets registered so far, and the prepared sets that are found.

    Args:
        root: of the built-in sets; default: `$DETECTRON2_DATASETS`, below which the others are found.
    """
    for set_name in set_folders.BUILTIN.keys() - set_folders.OWN:
        set_folders.FOLDERS[set_name] = Path(root or set_folders.root()) / set_name
    _register_on_demand()
    for set_name in sorted(set_folders.known_sets()):
        for named in named_sets.sets_of(set_name):
            _register(named)


def register_prepared(name: str, root: str | os.PathLike) -> None:
    """Register the names of your own prepared set (`name`_train, `name`_test, ...) in the folder `root`.

    The last registration of a name holds. This does not import Detectron2; if it is imported later, the names are
    registered then.

    Raises:
        ValueError: the name is empty, or could be a built-in split's; the set's dataset.json has no class names.
    """
    named_sets.add_own(name, Path(root))
    if "detectron2.data.catalog" in sys.modules:
        for named in named_sets.sets_of(name):
            _register(named)


def register_below(name: str, root: str | os.PathLike) -> None:
    """Register the set of a data-set name below `root`: "my_images_test" is in the folder `root`/my_images.

    Raises:
        FileNotFoundError: no prepared set there fits the name.
    """
    parts = name.split("_")
    for length in range(len(parts) - 1, 0, -1):
        folder = Path(root) / "_".join(parts[:length])
        if (folder / "dataset.json").is_file():
            register_prepared(folder.name, folder)
            return
    raise FileNotFoundError(f"no prepared set below {root} fits the name {name}: it has no folder with a dataset.json")


def _register(named: NamedSet) -> None:
    from detectron2.data.catalog import DatasetCatalog, MetadataCatalog

    for catalog in (DatasetCatalog, MetadataCatalog):
        if named.name in catalog.list():
            catalog.remove(named.name)
    DatasetCatalog.register(named.name, _Loader(named.name))
    metadata = MetadataCatalog.get(named.name)
    # Detectron2's own scripts evaluate "coco" names against all of json_file. For a fraction, or for images whose boxes
    # must not be seen, that would be wrong; "cxr" makes them say that they cannot.
    metadata.set(
        json_file=str(named.json),
        image_root=str(named.image_root),
        evaluator_type="coco" if named.is_whole_split_with_boxes else "cxr",
        prepared_root=str(named.folder),
    )
    classes = set_folders.classes_at_registration(named.set_name)
    if classes:  # else Detectron2 learns them from the JSON when the set is loaded
        ids = {index + 1: index for index in range(len(classes))}
        metadata.set(thing_classes=list(classes), thing_dataset_id_to_contiguous_id=ids)


def _register_on_demand() -> None:
    """Let the catalog register a name of ours that it does not list: UserDict asks `__missing__` of its class."""
    from detectron2.data.catalog import DatasetCatalog

    def missing(catalog, name):
        try:
            _register(named_set(name))
        except UnknownDatasetError:
            raise KeyError(name) from None
        return catalog.data[name]

    type(DatasetCatalog).__missing__ = missing


@dataclass(frozen=True)
class _Loader:
    """A function of no argument that can be pickled, which a lambda cannot."""

    name: str

    def __call__(self) -> list[dict]:
        from d2_cxr.datasets import leakage, loading

        named = named_set(self.name)
        if named.kind == "unlabeled":  # for pretraining: no image may show a held-out image or patient
            leakage.refuse_leaks([named])
        return loading.load(named)
