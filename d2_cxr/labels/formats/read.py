"""A file or folder of labels in any known format -> the label table; recognized by content, not by name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from d2_cxr import artifacts
from d2_cxr.image_name import image_name
from d2_cxr.labels.csv_formats import read_csv
from d2_cxr.labels.formats import FORMATS, coco, cvat, label_studio, labelme, voc, yolo
from d2_cxr.labels.formats.documents import SizeOf, read_xml
from d2_cxr.labels.label_table import LabelTable, table_of
from d2_cxr.labels.part_names import part_in_path
from d2_cxr.labels.problems import Problems
from d2_cxr.labels.spelling import natural_order

_JSON: tuple[ModuleType, ...] = (coco, label_studio, labelme)
_XML: tuple[ModuleType, ...] = (voc, cvat)
_FILE_AN_IMAGE = (voc, labelme)


def read_labels(
    path: str | Path,
    problems: Problems,
    annotation_format: str | None = None,
    size_of: SizeOf | None = None,
    name_of: Callable[[str], str] = image_name,
    columns: Mapping[str, str] | None = None,
) -> LabelTable:
    """Read a file or a folder of labels.

    Several files of one format are one table. Where two of them label the same image and the format names no reader,
    each file (COCO, CVAT) or folder (YOLO, VOC, labelme) is a reader, named by the file or folder. Where each is named
    after a part of a split, as instances_train2017.json and instances_val2017.json are, or YOLO's data.yaml says so,
    the rows carry it as `part`.

    Args:
        path: CSV, COCO, CVAT or Label Studio file; a folder of such files, or of YOLO, VOC or labelme files.
        problems: counts, which this changes.
        annotation_format: one of FORMATS; None: detected from the content.
        size_of: image -> (width, height); needed for YOLO.
        name_of: an image's text in the labels -> its name.
        columns: of a CSV, their column -> ours.

    Raises:
        ValueError: the format is unknown or mixed, or a file of it cannot be read.
        FileNotFoundError: no such file or folder.
    """
    path = Path(path)
    if annotation_format not in (None, *FORMATS):
        raise ValueError(f"annotation format {annotation_format!r} is not one of {', '.join(FORMATS)}")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        return _read_folder(path, annotation_format, size_of, name_of)
    if annotation_format == yolo.NAME or (annotation_format is None and path.suffix in (".yaml", ".yml")):
        return _read_folder(path.parent, yolo.NAME, size_of, name_of)
    parser = None if annotation_format == "csv" else _parser_of(path)
    if annotation_format not in (None, "csv", parser and parser.NAME):
        raise ValueError(f"{path} is {parser.NAME if parser else 'a table'}, not {annotation_format}")
    if parser is None:
        return read_csv(path, problems, columns)
    return _joined([(path, parser)], path.parent, size_of, name_of)


def hash_of(path: str | Path) -> str:
    """Return the sha256 of a file, or of the names and contents of a folder's label files."""
    path = Path(path)
    if not path.is_dir():
        return artifacts.sha256_file(path)
    files = [file for file in sorted(path.rglob("*")) if file.suffix in _SUFFIXES and file.is_file()]
    return artifacts.sha256_lines(f"{file.relative_to(path)} {artifacts.sha256_file(file)}" for file in files)


_SUFFIXES = (".json", ".xml", ".txt", ".yaml", ".yml", ".zip", ".names", ".labels")


def _read_folder(
    folder: Path, annotation_format: str | None, size_of: SizeOf | None, name_of: Callable[[str], str]
) -> LabelTable:
    found: dict[ModuleType, list[Path]] = {}
    if annotation_format in (None, yolo.NAME) and yolo.label_files(folder) and yolo.class_list(folder):
        found[yolo] = yolo.label_files(folder)
    if annotation_format != yolo.NAME:
        files = [file for file in sorted(folder.rglob("*")) if file.suffix in (".json", ".xml", ".zip")]
        for file in files:
            parser = _parser_of(file, anything=True)
            if parser is not None and annotation_format in (None, parser.NAME):
                found.setdefault(parser, []).append(file)
    if not found:
        raise ValueError(
            f"{folder} holds no labels of {annotation_format or 'a known format'} ({', '.join(FORMATS[1:])}; YOLO "
            "needs data.yaml or classes.txt next to its text files)"
        )
    if len(found) > 1:
        kinds = ", ".join(f"{len(files)} of {parser.NAME}" for parser, files in found.items())
        raise ValueError(f"{folder} holds labels of several formats: {kinds}; --annotation-format says which to read")
    parser, files = next(iter(found.items()))
    if parser is yolo:
        rows, names = yolo.read_folder(folder, size_of)
        rows = _with_parts(rows, yolo.parts_of(folder, {row["source"] for row in rows}))
        return table_of(_with_readers(rows, name_of, file_an_image=True), yolo.NAME, names)
    return _joined([(file, parser) for file in files], folder, size_of, name_of)


def _joined(
    files: Sequence[tuple[Path, ModuleType]], folder: Path, size_of: SizeOf | None, name_of: Callable[[str], str]
) -> LabelTable:
    rows: list[dict] = []
    names: dict[str, None] = {}
    for file, parser in files:
        try:
            found, listed = parser.read(file, size_of)
        except ValueError as error:
            raise ValueError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
        source = str((file.parent if parser in _FILE_AN_IMAGE else file.with_suffix("")).relative_to(folder))
        rows += [row | {"source": source} for row in found]
        names |= dict.fromkeys(listed)
    if not names:
        names = dict.fromkeys(yolo.class_list(folder) or ())  # classes.txt, which several tools keep with their files
    parser = files[0][1]
    if not rows:
        raise ValueError(f"{folder if len(files) > 1 else files[0][0]} holds no annotation of an image")
    rows = _with_parts(rows, {})
    return table_of(_with_readers(rows, name_of, parser in _FILE_AN_IMAGE), parser.NAME, list(names))


def _with_parts(rows: Sequence[Mapping], stated: Mapping[str, str]) -> list[dict]:
    """Give every row the part of its source where each source has one and there are two or more.

    Args:
        rows: with `source`, which loses the name of the part, so that anna/train and anna/val are one reader.
        stated: source -> part, as the format itself says.
    """
    named = {source: part_in_path(source) for source in {row["source"] for row in rows}}
    parts = {source: stated.get(source, part) for source, (part, _) in named.items()}
    if None in parts.values() or len(set(parts.values())) < 2:
        return [dict(row) for row in rows]
    return [{**row, "part": parts[row["source"]], "source": named[row["source"]][1]} for row in rows]


def _with_readers(rows: Sequence[Mapping], name_of: Callable[[str], str], file_an_image: bool) -> list[dict]:
    """Take each source for a reader where two of them label one image and no row names its reader."""
    sources: dict[str, set[str]] = {}
    for row in rows:
        sources.setdefault(name_of(row["image_name"]), set()).add(row["source"])
    several = any(len(found) > 1 for found in sources.values()) and not any(row.get("reader_id") for row in rows)
    if file_an_image:
        rows = sorted(rows, key=lambda row: (natural_order(row["image_name"]), natural_order(row["source"])))
    else:  # an image's readers one after another
        place = {image: number for number, image in enumerate(sources)}
        rows = sorted(rows, key=lambda row: place[name_of(row["image_name"])])
    return [
        {key: value for key, value in row.items() if key != "source"}
        | ({"reader_id": row["source"]} if several else {})
        for row in rows
    ]


def _parser_of(path: Path, anything: bool = False) -> ModuleType | None:
    """Return the parser of a file by its content, None for a table and, with `anything`, for any other JSON or XML.

    Raises:
        ValueError: the content is not valid JSON or XML, or of no known format.
    """
    if zipfile.is_zipfile(path):
        return cvat if cvat.is_archive(path) else None
    with open(path, "rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] in (b"{", b"["):
        document, parsers = artifacts.read_json(path), _JSON
        known = "COCO (images, annotations, …), Label Studio nor labelme"
    elif start[:1] == b"<":
        document, parsers, known = read_xml(path.read_bytes(), path), _XML, "Pascal VOC nor CVAT for images"
    else:
        return None
    found = next((parser for parser in parsers if parser.is_format(document)), None)
    if found is None and not anything:
        raise ValueError(f"{path} is neither {known}")
    return found
