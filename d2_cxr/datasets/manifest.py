"""manifest.csv: a row a source file, and what became of it (docs/formats.md).

Rows are dicts of strings from the moment they are made, so that a run that continues an earlier one writes the same
bytes. They hold codes and numbers, never a header's text, a time or a path above the input folder.
"""

from __future__ import annotations

import builtins
import functools
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.dicom import archives
from d2_cxr.dicom.archives import Member
from d2_cxr.image_name import SUFFIXES, image_name

logger = logging.getLogger(__name__)

COLUMNS = (
    "image_name",
    "part",  # "images", or "official_test"
    "file",  # relative to its input folder
    "outcome",
    "reason",
    "bytes",
    "transfer_syntax",
    "photometric",
    "bits_stored",
    "signed",
    "window",
    "rescale",
    "rows",
    "columns",
    "pixel_spacing",
    "spacing_tag",
    "view_position",
    "body_part",
    "source_sha256",
    "image_sha256",
)
OUTCOMES = {
    "prepared": "in images/; a reason says what was unusual",
    "refused": "cannot be shown as a radiologist would see it, and why",
    "quarantined": "its decoder hung or ended its process",
    "missing": "the annotations name it and the folder does not hold it",
    "ignored": "no image by its content",
}
TIMING_COLUMNS = ("image_name", "decode_ms", "total_ms")


@dataclass(frozen=True)
class Source:
    """A file in an input folder or archive.

    Attributes:
        image_name: its name without the suffix of an image.
        part: "images", or "official_test".
        file: its path below the folder, with "/".
        path: of the file, or of the archive.
        bytes: its length.
        refusal: why it is refused before it is read, "" for most.
        member: its place in the archive; None of a file in a folder.
    """

    image_name: str
    part: str
    file: str
    path: Path
    bytes: int
    refusal: str = ""
    member: Member | None = None

    @property
    def own_name(self) -> str:
        """The file's own name, which no pseudonym replaces."""
        return self.path.name if self.member is None else self.member.name.rsplit("/", 1)[-1]

    def read(self, most: int | None = None) -> builtins.bytes:
        """Return its bytes, or the first `most` (`archives.read_file`, with its errors)."""
        return archives.read_file(self.path, self.member, most)

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies a file within the set: part, file, bytes."""
        return self.part, self.file, str(self.bytes)


def list_sources(folder: str | Path, part: str = "images", without: Path | None = None) -> list[Source]:
    """Return every file below a folder but hidden ones and those below `without`, sorted by path.

    Linked folders are entered (`files_below`). An image's link that leads nowhere is listed with that refusal. A zip or
    tar archive is read like the folder that it was made of.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder or archive.
        ValueError: it holds no file, or the archive is damaged.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist; give the folder or archive of the images")
    if not folder.is_dir():
        return _list_archive(folder, part)
    left_out = without.resolve() if without else None
    is_left_out = functools.cache(lambda parent: left_out is not None and parent.resolve().is_relative_to(left_out))
    sources = []
    for path in files_below(folder):
        file = path.relative_to(folder)
        hidden = any(name.startswith(".") for name in file.parts)
        if hidden or is_left_out((path.resolve() if path.is_symlink() else path).parent):
            continue
        sources.append(_source(part, file.as_posix(), path))
    if not sources:
        raise ValueError(f"{folder} holds no file")
    return sources


def _list_archive(archive: Path, part: str) -> list[Source]:
    """Return the files of an archive but hidden ones, sorted by path; of two with one path, the last."""
    found: dict[str, Source] = {}
    repeated = 0
    for member in archives.members(archive):
        parts = [name for name in member.name.split("/") if name not in ("", ".")]
        if any(name.startswith(".") and name != ".." for name in parts):
            continue
        shown, refusal = _shown("/".join(parts))
        if ".." in parts:
            refusal = 'its path in the archive holds ".."; pack it without'
        repeated += shown in found
        refusal = member.refusal or refusal
        found[shown] = Source(image_name(shown), part, shown, archive, member.size, refusal, member)
    if not found:
        raise ValueError(f"{archive} holds no file")
    if repeated:
        files = counted(repeated, "file has", "files have")
        logger.warning("%s: %s the path of a later one, which replaces it", archive, files)
    return sorted(found.values(), key=lambda source: source.file.split("/"))


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted by path, and every link of an image that leads nowhere.

    Linked folders are entered after all others, each real folder once: a folder keeps its own path where it has one
    here, and a link to a folder above ends.
    """
    found: list[Path] = []
    seen: set[str] = set()
    starts = [str(folder)]
    while starts:
        links = []
        for root, folders, names in (step for start in starts for step in os.walk(start)):
            if os.path.realpath(root) in seen:
                folders.clear()
                continue
            seen.add(os.path.realpath(root))
            links += [path for name in folders if os.path.islink(path := os.path.join(root, name))]
            found += (Path(root, name) for name in names)
        starts = sorted(links)
    files = (path for path in found if path.is_file() or leads_nowhere(path))
    return sorted(files, key=lambda path: path.parts)  # the order of paths, compared faster


def leads_nowhere(path: Path) -> bool:
    """Whether a path is the link of an image, by its suffix, whose file is gone."""
    return path.is_symlink() and not path.exists() and path.name.casefold().endswith(SUFFIXES)


def _source(part: str, file: str, path: Path) -> Source:
    """Return a listed file."""
    shown, refusal = _shown(file)
    if leads_nowhere(path):
        return Source(image_name(shown), part, shown, path, 0, "the link leads nowhere; restore its file")
    return Source(image_name(shown), part, shown, path, path.stat().st_size, refusal)


def _shown(file: str) -> tuple[str, str]:
    """Return a path as it is written, and its refusal: what is no UTF-8 cannot be written into CSV and JSON."""
    shown = os.fsencode(file).decode("utf-8", "backslashreplace")
    return shown, "" if shown == file else "the file name is not UTF-8; rename the file"


def row_of(source: Source, result: Mapping) -> dict[str, str]:
    """Return the manifest's row of a source and a worker's result."""
    values = {
        **result,
        "image_name": source.image_name,
        "part": source.part,
        "file": source.file,
        "bytes": source.bytes,
    }
    spacing = result.get("pixel_spacing")
    values["pixel_spacing"] = "" if spacing is None else f"{spacing[0]:g} {spacing[1]:g}"
    values["signed"] = "" if "signed" not in result else str(int(result["signed"]))
    return {column: "" if values.get(column) is None else str(values[column]) for column in COLUMNS}


def missing_row(image_name: str, part: str) -> dict[str, str]:
    """Return the row of an image that the annotations name and the folder does not hold."""
    return {**dict.fromkeys(COLUMNS, ""), "image_name": image_name, "part": part, "outcome": "missing"}


def write(path: Path, rows: Iterable[Mapping]) -> None:
    """Write a manifest, rows by part, image name and file."""
    artifacts.write_csv(path, sorted(rows, key=lambda row: (row["part"], row["image_name"], row["file"])), COLUMNS)


def read(path: Path) -> list[dict[str, str]]:
    """Read a manifest.

    Raises:
        ValueError: its columns are not those of this version.
    """
    rows = artifacts.read_csv(path)
    if rows and tuple(rows[0]) != COLUMNS:
        raise ValueError(f"{path} was written by another version; delete it to prepare the set again")
    return rows
