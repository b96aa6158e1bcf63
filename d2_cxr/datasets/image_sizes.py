"""The sizes of image files from their headers, for labels that count in fractions of the side."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import InvalidDicomError

from d2_cxr.datasets.manifest import Source, list_sources
from d2_cxr.dicom.stored_image import ImageError
from d2_cxr.image_name import image_name

_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF: the picture is shown turned by 90 degrees


def sizes_of(
    sources: Iterable[Source], name_of: Callable[[str], str] = image_name
) -> Callable[[str], tuple[int, int] | None]:
    """Return a function: image as labels write it -> (width, height) as shown, None where no such file can be read.

    Args:
        sources: image files; of two with one name the first.
        name_of: an image as labels write it -> its name.
    """
    found: dict[str, Source] = {}
    for source in sources:
        found.setdefault(source.image_name, source)

    @cache
    def size_of(image: str) -> tuple[int, int] | None:
        source = found.get(name_of(image))
        return None if source is None else _size_of_source(source)

    return size_of


def sizes_in(folder: str | Path) -> Callable[[str], tuple[int, int] | None]:
    """Return `sizes_of` the image files of a folder or archive, at any depth."""
    return sizes_of(list_sources(folder, "images"))


def _size_of_source(source: Source) -> tuple[int, int] | None:
    if source.member is None:
        return image_size(source.path)
    try:
        return image_size(io.BytesIO(source.read()))
    except (ImageError, OSError):
        return None


def image_size(file: str | Path | io.BytesIO) -> tuple[int, int] | None:
    """Return (width, height) of a DICOM, PNG or JPEG file by its header, None where it cannot be read."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE else (width, height)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        pass
    try:
        if isinstance(file, io.BytesIO):
            file.seek(0)
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"], force=True)
        return int(header.Columns), int(header.Rows)
    except (InvalidDicomError, OSError, AttributeError, ValueError, TypeError):
        return None
