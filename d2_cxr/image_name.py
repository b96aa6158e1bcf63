"""The one name of an image: it joins a source file, a row of labels, a prepared PNG and a detection.

Only a known image suffix is taken off, so that a DICOM UID stays whole: `1.2.840.113619.2.5.176` has no suffix.
"""

from __future__ import annotations

import unicodedata
from os import PathLike, fspath

SUFFIXES = (".dicom", ".dcm", ".dic", ".png", ".jpg", ".jpeg")


def image_name(path: str | PathLike[str]) -> str:
    """Return the name of an image file: the last part of its path in Unicode form NFC, without an image suffix.

    `00013118_008.png` is `00013118_008`; `1.2.840.113619.2.5.176` stays as it is. macOS writes accents as two
    characters (NFD) where tables write one, hence NFC.
    """
    name = unicodedata.normalize("NFC", fspath(path).rstrip("/").rsplit("/", 1)[-1].strip())
    suffix = next((suffix for suffix in SUFFIXES if name.casefold().endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name
