"""Structured reports -> rows of a label table: a corrected report, or a radiologist's own, is one more reader.

Every rectangle of a TID 1500 report counts, from any program: polylines of four or five points, in the region of a
group or inside one of its measurements. A report replaces older ones of the same reader on the same image, so that
boxes deleted in it are gone. PROBLEMS states what is left out, and every kind is counted and logged.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from d2_cxr.counted import counted
from d2_cxr.delivery import codes as own
from d2_cxr.delivery.source import DeliveryError
from d2_cxr.labels.class_names import NO_FINDING

logger = logging.getLogger(__name__)

COLUMNS = ("image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max", "sop_instance_uid", "report")
PROBLEMS = {
    "no_report": "no structured report with TID 1500: file left out",
    "no_rectangle": "a region that is no rectangle parallel to the image: left out, its image is not negative",
    "no_class": "a rectangle without a finding or a label: left out, its image is not negative",
    "superseded": "an older report of the same reader on the same image: left out",
}
_MEASUREMENT_GROUP, _FINDING, _COMMENT = ("125007", "DCM"), ("121071", "DCM"), ("121106", "DCM")
_PERSON, _DEVICE, _TRACKING = ("121008", "DCM"), ("121013", "DCM"), ("112039", "DCM")
_OUTCOME = (own.OUTCOME.value, own.PRIVATE)
_TOLERANCE = 0.05  # pixels; viewers keep corners as 32-bit numbers


@dataclass
class _Report:
    """What one report says: image -> (class, corners); an image that was read without a finding has an empty list."""

    path: Path
    reader: str
    time: str
    boxes: dict[str, list[tuple[str, tuple[float, ...]]]] = field(default_factory=dict)


def read_reports(
    folder: str | Path, reader: str | None = None, names: Mapping[str, str] | None = None
) -> tuple[list[dict], dict[str, int]]:
    """Read every report of a folder, or one file.

    Args:
        folder: searched through; or a file.
        reader: name of the reader of all of them; else each report's own observer.
        names: SOP instance UID -> image name; an image that is not there keeps its UID as its name.

    Returns:
        rows with the keys of COLUMNS (corners in source pixels, None where the image was read without a finding), and
        kind of PROBLEMS -> how many.

    Raises:
        FileNotFoundError: there is no such folder.
        DeliveryError: no report is there, or one names no reader and `reader` is None.
    """
    folder, problems = Path(folder), Counter(dict.fromkeys(PROBLEMS, 0))
    if not folder.exists():
        raise FileNotFoundError(f"folder {folder} does not exist")
    paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    reports = [report for path in paths if (report := _read(path, reader, problems)) is not None]
    if not reports:
        raise DeliveryError(f"{folder} holds no structured report with TID 1500 ({counted(len(paths), 'file')} read)")
    rows = [row for report, uid in _newest(reports, problems) for row in _rows(report, uid, names or {})]
    for kind, count in problems.items():
        if count:
            logger.warning("%s: %d x %s (%s)", folder, count, kind, PROBLEMS[kind])
    return rows, dict(problems)


def _read(path: Path, reader: str | None, problems: Counter) -> _Report | None:
    try:
        dataset = pydicom.dcmread(path)
        template = dataset.ContentTemplateSequence[0].TemplateIdentifier
    except Exception:  # other files in the folder: images, pictures, broken files
        template = None
    if template != "1500":
        problems["no_report"] += 1
        return None
    time = f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
    report = _Report(path, reader or _observer(dataset, path), time)
    left_out = set()
    groups = [item for item in _walk(dataset) if _name(item) == _MEASUREMENT_GROUP]
    for group in groups:
        uid, kind = _add(report, group)
        if kind:
            problems[kind] += 1
            left_out.add(uid)
    if not any(report.boxes.values()) and not left_out:
        report.boxes = {uid: [] for uid in _evidence(dataset)}
    report.boxes = {uid: boxes for uid, boxes in report.boxes.items() if boxes or uid not in left_out}
    return report


def _add(report: _Report, group: Dataset) -> tuple[str, str | None]:
    """Add a group's rectangle; return its image and the kind of PROBLEMS that keeps it out, if one does."""
    region = _region(group)
    if region is None:
        return "", None if any(_name(item) == _OUTCOME for item in _children(group)) else "no_rectangle"
    uid = _image_of(region)
    corners = _corners(region)
    name = _class_of(group)
    if corners is None or not uid:
        return uid, "no_rectangle"
    if not name:
        return uid, "no_class"
    report.boxes.setdefault(uid, []).append((name, corners))
    return uid, None


def _newest(reports: list[_Report], problems: Counter) -> list[tuple[_Report, str]]:
    """Return (report, image) of the latest report of each reader on each image, in order of the files."""
    latest: dict[tuple[str, str], _Report] = {}
    for report in sorted(reports, key=lambda report: report.time):
        for uid in report.boxes:
            problems["superseded"] += (report.reader, uid) in latest
            latest[report.reader, uid] = report
    kept = [(report, uid) for (_, uid), report in latest.items()]
    return sorted(kept, key=lambda pair: (pair[0].path, pair[1]))


def _rows(report: _Report, uid: str, names: Mapping[str, str]) -> Iterator[dict]:
    common = {"image_id": names.get(uid, uid), "rad_id": report.reader}
    common |= {"sop_instance_uid": uid, "report": report.path.name}
    found: list[tuple[str, tuple]] = [*report.boxes[uid]]
    for name, corners in found or [(NO_FINDING, (None,) * 4)]:
        yield {**common, "class_name": name, **dict(zip(COLUMNS[3:7], corners, strict=True))}


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or [])


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in _children(item):
        yield child
        yield from _walk(child)


def _name(item: Dataset) -> tuple[str, str]:
    names = item.get("ConceptNameCodeSequence")
    return (names[0].get("CodeValue", ""), names[0].get("CodingSchemeDesignator", "")) if names else ("", "")


def _region(group: Dataset) -> Dataset | None:
    """Return the first region of a group: its own before one inside a measurement."""
    regions = [
        item for item in _walk(group) if item.ValueType in ("SCOORD", "SCOORD3D") and item.GraphicType != "POINT"
    ]
    direct = [item for item in _children(group) if item in regions]
    return next(iter(direct or regions), None)


def _image_of(region: Dataset) -> str:
    images = [item for item in _children(region) if "ReferencedSOPSequence" in item]
    return images[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID if images else ""


def _corners(region: Dataset) -> tuple[float, ...] | None:
    """Return (x_min, y_min, x_max, y_max) of a rectangle of four or five points, None where it is something else."""
    values = [float(value) for value in region.GraphicData]
    if region.ValueType != "SCOORD" or region.GraphicType != "POLYLINE" or len(values) not in (8, 10):
        return None
    points = list(zip(values[::2], values[1::2], strict=True))
    if len(points) == 5 and not _near(points[0], points[4]):
        return None
    xs, ys = values[:8:2], values[1:8:2]
    box = (min(xs), min(ys), max(xs), max(ys))
    wanted = [(box[i], box[j]) for i in (0, 2) for j in (1, 3)]
    along_an_axis = all(min(abs(x - u), abs(y - v)) <= _TOLERANCE for (x, y), (u, v) in pairwise(points))
    is_rectangle = along_an_axis and all(any(_near(corner, point) for point in points) for corner in wanted)
    return tuple(round(value, 3) for value in box) if is_rectangle and box[0] < box[2] and box[1] < box[3] else None


def _near(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= _TOLERANCE


def _class_of(group: Dataset) -> str:
    """Return the class: in a report that OHIF wrote the label, which its users edit; elsewhere the finding."""
    items = {_name(item): item for item in _children(group)}
    finding = items.get(_FINDING)
    meaning = finding.ConceptCodeSequence[0].CodeMeaning if finding is not None else ""
    label = str(items[_COMMENT].TextValue) if _COMMENT in items else ""
    label = re.sub(r"\s+[01]\.\d\d, research only$", "", label).strip()  # as structured_report writes it
    tracking = str(items[_TRACKING].get("TextValue", "")) if _TRACKING in items else ""
    return (label or meaning) if tracking.casefold().startswith("cornerstone") else (meaning or label)


def _observer(dataset: Dataset, path: Path) -> str:
    """Return who read: a named person, who verified, or a device."""
    items = {_name(item): item for item in _children(dataset)}
    names = [str(items[_PERSON].PersonName)] if _PERSON in items else []
    names += [str(item.VerifyingObserverName) for item in dataset.get("VerifyingObserverSequence") or []]
    names += [str(items[_DEVICE].TextValue)] if _DEVICE in items else []
    known = [name for name in names if name and not name.casefold().startswith("unknown")]
    if not known:
        raise DeliveryError(f"{path} names no reader; give --reader NAME")
    return known[0]


def _evidence(dataset: Dataset) -> list[str]:
    """Return the images that a report without any group was made on."""
    return [
        instance.ReferencedSOPInstanceUID
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or []
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
