"""The image files of a prediction, and their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from d2_cxr.datasets.manifest import Source, files_below, leads_nowhere
from d2_cxr.dicom.image_files import kind_of
from d2_cxr.image_name import image_name, path_name
from d2_cxr.preparation.image_names import ImageNames

_HEADER_BYTES = 133  # enough to distinguish DICOM, PNG and JPEG


def image_files(inputs: Sequence[str | Path]) -> tuple[list[Path], dict[str, str]]:
    """Return the image files among files and folders (with linked ones below), each once, in a fixed order.

    A named file is always listed, whatever it holds; a file inside a folder is listed if its first bytes are those of
    an image, or if it cannot be opened.

    Returns:
        the files, and file -> reason for names that are not UTF-8, which no result file could hold.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder contains no image.
    """
    found: dict[Path, None] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = [path for path in files_below(entry) if _may_be_image(path)]
            if not inside:
                raise ValueError(f"folder {entry} contains no DICOM, PNG or JPEG file")
            found |= dict.fromkeys(inside)
        elif entry.is_file() or leads_nowhere(entry):
            found[entry] = None
        else:
            raise FileNotFoundError(f"image {entry} does not exist")
    unnamed = {path: os.fsencode(path).decode("utf-8", "backslashreplace") for path in found if not _is_utf8(path)}
    refused = dict.fromkeys(unnamed.values(), "the file name is not UTF-8; rename the file")
    return [path for path in found if path not in unnamed], refused


def image_names(files: Sequence[Path], inputs: Sequence[str | Path]) -> dict[Path, str]:
    """Return the name of each image, no two alike: the file's own, with its folders where several files share that.

    As in preparation, all names have their folders where many files share their own (preparation/image_names.py);
    else only those do that would be alike. Two files that differ in their suffix alone keep it.

    Args:
        files: of `image_files`.
        inputs: with one folder, names count from it, as those of preparation do; else from the common folder.
    """
    root = _root(files, inputs)
    below = {path: Path(os.path.relpath(path, root)).as_posix() for path in files}
    sources = [Source(image_name(path), "images", below[path], path, 0) for path in files]
    names = {source.path: source.image_name for source in ImageNames.of(sources).name_files(sources)}
    for longer in (path_name, str):
        count = Counter(names.values())
        names = {path: longer(below[path]) if count[name] > 1 else name for path, name in names.items()}
    return names


def _root(files: Sequence[Path], inputs: Sequence[str | Path]) -> str:
    folders = [entry for entry in inputs if os.path.isdir(entry)]
    if len(inputs) == 1 and folders:
        return os.fspath(folders[0])
    return os.path.commonpath([os.path.abspath(path.parent) for path in files]) if files else "."


def _may_be_image(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(_HEADER_BYTES)) is not None
    except OSError:
        return True  # refused with a message when it is read


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
