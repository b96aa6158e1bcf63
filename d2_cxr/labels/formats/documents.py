"""XML files and archives of other people, read without harm: one-line errors, no entities, bounded archives."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

Size = tuple[float, float]
SizeOf = Callable[[str], Size | None]  # image as the labels write it -> (width, height) in pixels, None where unknown

_MAX_BYTES = 2**29


def read_xml(content: bytes, path: Path) -> ElementTree.Element:
    """Return the root of an XML document without a document type: entities could expand without end, or read files.

    Raises:
        ValueError: the content is not XML, or declares a document type.
    """
    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = _refuse_doctype
    try:
        checker.Parse(content, True)
        return ElementTree.fromstring(content)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is not valid XML: {error}") from None


def read_member(archive: Path, name: str) -> bytes:
    """Return a file of a ZIP archive.

    Raises:
        ValueError: the archive has no such file, is damaged, or the file unpacks to more than 512 MB.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            if opened.getinfo(name).file_size > _MAX_BYTES:
                raise ValueError(f"{archive}: {name} unpacks to more than 512 MB; unpack it and give the file")
            return opened.read(name)
    except (KeyError, zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{archive}: {name} cannot be unpacked ({type(error).__name__})") from None


def entries(document: Mapping, key: str) -> list:
    """Return the list under a key of a JSON object, an empty one where there is none.

    Raises:
        ValueError: something else is there.
    """
    found = document.get(key)
    if found is not None and not isinstance(found, list):
        raise ValueError(f"{key} is {str(found)[:40]!r} and not a list")
    return found or []


def text_of(element: ElementTree.Element, path: str) -> str | None:
    """Return the text of a child element without spaces around it, None where there is none."""
    text = element.findtext(path)
    return text.strip() or None if text else None


def box_of_points(points: list[tuple[float, float]]) -> list[float]:
    """Return x_min, y_min, x_max, y_max around points; an empty list where there are none."""
    if not points:
        return []
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it declares a document type, which labels do not need")
