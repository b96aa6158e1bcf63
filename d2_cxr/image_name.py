"""The one name of an image: it joins a source file, a row of labels, a prepared PNG and a detection.

Only a known image suffix is taken off, so that a DICOM UID stays whole: `1.2.840.113619.2.5.176` has no suffix.
"""

from __future__ import annotations

import unicodedata
from os import PathLike, fspath

SUFFIXES = (".dicom", ".dcm", ".dic", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def image_name(path: str | PathLike[str]) -> str:
    """Return the name of an image file: the last part of its path in Unicode form NFC, without an image suffix.

    `00013118_008.png` is `00013118_008`; `1.2.840.113619.2.5.176` stays as it is. macOS writes accents as two
    characters (NFD) where tables write one, hence NFC. `patient1%2Fview1.png`, as `png_name` writes it, is
    `patient1/view1`.
    """
    return _unquoted(_without_suffix(fspath(path).rstrip("/").rsplit("/", 1)[-1]))


def path_name(path: str | PathLike[str]) -> str:
    """Return the name of an image file with its folders: `patient1/study1/view1.png` is `patient1/study1/view1`."""
    parts = [part for part in fspath(path).replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(
        [*(unicodedata.normalize("NFC", part) for part in parts[:-1]), image_name(parts[-1] if parts else "")]
    )


def png_name(name: str) -> str:
    """Return the file name of a prepared image, in one folder for all; inverse of `image_name`."""
    return name.replace("%", "%25").replace("/", "%2F") + ".png"


def _without_suffix(text: str) -> str:
    name = unicodedata.normalize("NFC", text.strip())
    suffix = next((suffix for suffix in SUFFIXES if name.casefold().endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name


def _unquoted(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")
