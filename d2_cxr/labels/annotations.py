"""Labels of every format -> one form: usable boxes, who read what, and what was wrong (docs/decisions/013-bad-rows.md).

CSV tables are read by csv_formats.py, the files of annotation tools by formats/. Nothing is repaired silently: PROBLEMS
states what happens to each kind of bad row, every kind is counted, and labels of which a large part is bad are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from d2_cxr.image_name import image_name
from d2_cxr.labels.box_rules import usable_boxes
from d2_cxr.labels.class_matching import classes_with_boxes, match_classes, own_names
from d2_cxr.labels.class_names import NO_FINDING
from d2_cxr.labels.formats.documents import SizeOf
from d2_cxr.labels.formats.read import hash_of, read_labels
from d2_cxr.labels.label_table import number
from d2_cxr.labels.patients import patients_of
from d2_cxr.labels.problems import Problems
from d2_cxr.labels.spelling import one_spelling


@dataclass(frozen=True)
class Annotations:
    """What the labels of a set of images say.

    Attributes:
        boxes: image_name, class_name, reader_id (str), x_min, y_min, x_max, y_max (float64, source pixels), row (int,
            the data row of the file from 0); findings with usable boxes only, in file order.
        readings: image_name, reader_id; who read which image, also where nothing was found, in order of appearance.
        image_names: every image that the labels mention, in order of first appearance.
        negative_ids: the images on which every row says "No finding", in that order. An image with neither a usable box
            nor only such rows is in neither list: something was found there, but where is not known.
        class_names: index = class id.
        sizes: image_name -> (width, height) in pixels where the labels give them, else None.
        patients: image_name -> patient where the labels or the second table give them, else None.
        consensus: the labels name no reader; their boxes are not to be fused.
        problems: kind of PROBLEMS -> number of rows (images for `without_patient`).
        format_name: name of the format.
        sha256: of the file on disk.
        parts: image_name -> train, val or test, where the labels lie in a file or folder per part; else None.
    """

    boxes: pd.DataFrame
    readings: pd.DataFrame
    image_names: list[str]
    negative_ids: list[str]
    class_names: tuple[str, ...]
    sizes: dict[str, tuple[float, float]] | None
    patients: dict[str, str] | None
    consensus: bool
    problems: dict[str, int]
    format_name: str
    sha256: str
    parts: dict[str, str] | None = None
    finding_ids: list[str] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "finding_ids", list(dict.fromkeys(self.boxes["image_name"])))


def read_annotations(
    path: str | Path,
    class_names: str | Sequence[str] | None = None,
    patients_csv: str | Path | None = None,
    negative_names: Sequence[str] = (),
    name_of: Callable[[str], str] = image_name,
    annotation_format: str | None = None,
    size_of: SizeOf | None = None,
    columns: Mapping[str, str] | None = None,
) -> Annotations:
    """Read labels in any of the known formats (d2_cxr/labels/formats); CSV tables may be `.gz` or `.zip`.

    Args:
        path: file, or folder of files of one format.
        class_names: None or "card": the names of the layout's card (VinDr-CXR's 14, RSNA's 1, NIH's 8); "extended":
            those and the card's extra ones; "from-csv": the names found; or a sequence of names.
        patients_csv: a second table with image_id (or image, Image Index) and patient_id (or Patient ID).
        negative_names: further class names that mean "No finding", for example ("Normal", "Healthy").
        name_of: an image's text in the labels -> its name; the last part of a path by default.
        annotation_format: csv, coco, yolo, voc, cvat, label_studio or labelme; None: detected.
        size_of: image's text in the labels -> (width, height) in pixels; for formats with fractions of the side.
        columns: of CSV tables, their column -> ours (csv_headers.py).

    Raises:
        ValueError: the format, a class name or a size is not understood, or a large part of the boxes cannot be right;
            one line with file, value and what to do.
        FileNotFoundError: no such file.
    """
    problems = Problems()
    table = read_labels(path, problems, annotation_format, size_of, name_of, columns)
    rows, classes = match_classes(table, class_names, negative_names, problems, path)
    rows = _with_names(rows, name_of, path)
    rows = problems.refuse(rows, rows["reader_id"].isna(), "no_reader")
    rows = _with_readers(rows, problems, path)
    sizes, patients = _sizes(rows), patients_of(rows, patients_csv, problems, path, name_of, columns)
    boxes = usable_boxes(rows, sizes, problems, path)
    if own_names(table, class_names):
        classes = classes_with_boxes(classes, boxes, path)
    _count_contradictions(rows, boxes, problems)
    problems.log(path)
    return Annotations(
        boxes=boxes,
        readings=rows[["image_name", "reader_id"]].drop_duplicates(ignore_index=True),
        image_names=list(dict.fromkeys(rows["image_name"])),
        negative_ids=_negative_ids(rows),
        class_names=classes,
        sizes=sizes,
        patients=patients,
        consensus=table.consensus,
        problems=dict(problems),
        format_name=table.format_name,
        sha256=hash_of(path),
        parts=_parts(rows, path),
    )


def _with_names(rows: pd.DataFrame, name_of: Callable[[str], str], path: str | Path) -> pd.DataFrame:
    """Give images their names; two images of different folders must not have one name."""
    written = rows["image_name"]
    names = written.map({text: name_of(text) for text in written.unique()})
    if (names == "").any():
        raise ValueError(f"{path}, {rows['place'][names == ''].iloc[0]}: the image has no name")
    folders = pd.DataFrame({"name": names, "folder": written.str.rpartition("/")[0]})
    pairs = folders[folders["folder"] != ""].drop_duplicates()
    twice = pairs["name"].duplicated()
    if twice.any():
        one, other = written[pairs.index[pairs["name"] == pairs["name"][twice].iloc[0]]].iloc[:2]
        raise ValueError(f"{path}: the images {one} and {other} have the same name; each image needs a name of its own")
    return rows.assign(image_name=names)


def _with_readers(rows: pd.DataFrame, problems: Problems, path: str | Path) -> pd.DataFrame:
    try:
        readers, respelled = one_spelling(rows["reader_id"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    problems.count(rows, respelled, "respelled")
    return rows.assign(reader_id=readers)


def _sizes(rows: pd.DataFrame) -> dict[str, tuple[float, float]] | None:
    pair = ("dim1", "dim0") if "dim0" in rows and "dim1" in rows else ("width", "height")
    if not all(name in rows for name in pair):
        return None
    images = rows.drop_duplicates("image_name")
    numbers = images[list(pair)].map(number)
    known = (numbers > 0).all(axis=1)
    pairs = numbers[known].to_numpy(float).tolist()
    return {name: (width, height) for name, (width, height) in zip(images["image_name"][known], pairs, strict=True)}


def _parts(rows: pd.DataFrame, path: str | Path) -> dict[str, str] | None:
    """Return image -> part where the rows name one; an image in two parts would be tested after it was trained on."""
    if "part" not in rows:
        return None
    pairs = rows[["image_name", "part"]].drop_duplicates()
    twice = pairs["image_name"].duplicated()
    if twice.any():
        name = pairs["image_name"][twice].iloc[0]
        both = " and in ".join(pairs["part"][pairs["image_name"] == name])
        raise ValueError(f"{path}: image {name} is in {both}; an image belongs to one part")
    return dict(zip(pairs["image_name"], pairs["part"], strict=True))


def _negative_ids(rows: pd.DataFrame) -> list[str]:
    found = set(rows["image_name"][rows["class_name"] != NO_FINDING])
    return [name for name in dict.fromkeys(rows["image_name"]) if name not in found]


def _count_contradictions(rows: pd.DataFrame, boxes: pd.DataFrame, problems: Problems) -> None:
    nothing = rows[rows["class_name"] == NO_FINDING]
    drawn = set(zip(boxes["image_name"], boxes["reader_id"], strict=True))
    both = [pair in drawn for pair in zip(nothing["image_name"], nothing["reader_id"], strict=True)]
    problems.count(nothing, both, "contradiction")
