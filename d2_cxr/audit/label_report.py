"""From a table of annotations to its statistics and audits, as text, JSON and a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.audit import label_text
from d2_cxr.audit.label_audits import label_audits
from d2_cxr.counted import counted
from d2_cxr.datasets.image_sizes import sizes_in
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.fusion import PAPER_IOU_THRESHOLD, fuse_annotations
from d2_cxr.labels.problems import PROBLEMS
from d2_cxr.labels.statistics import label_statistics


def report_labels(
    csv_path: str | Path,
    split: str = "published",
    seed: int = 0,
    fusion: str = "mean",
    iou_threshold: float = PAPER_IOU_THRESHOLD,
    class_names: str | Sequence[str] | None = None,
    patients_csv: str | Path | None = None,
    negative_names: Sequence[str] = (),
    annotation_format: str | None = None,
    images: str | Path | None = None,
    json_path: str | os.PathLike | None = None,
    html_path: str | os.PathLike | None = None,
    command: str = "",
) -> str:
    """Return the statistics and audits of a table as text, and write the requested files.

    Args:
        csv_path: see `read_annotations`, as are class_names, patients_csv and negative_names.
        split: see `label_statistics`, as are seed, fusion and iou_threshold.
        annotation_format: see `read_annotations`.
        images: folder of the images, for formats that count in fractions of the side.
        json_path: everything, with the audits under "audits".
        html_path: a page with charts.
        command: the command that made the page.

    Raises:
        ValueError: see `read_annotations` and `label_statistics`.
    """
    annotations = read_annotations(
        csv_path,
        class_names,
        patients_csv,
        negative_names,
        annotation_format=annotation_format,
        size_of=sizes_in(images) if images else None,
    )
    found = label_statistics(annotations, split, seed, fusion, iou_threshold)
    fused = fuse_annotations(annotations.boxes, found["fusion"]["rule"], iou_threshold)
    audits = label_audits(annotations, fused, split, seed)
    if json_path is not None:
        artifacts.write_json(json_path, {**found, "audits": audits})
    if html_path is not None:
        from d2_cxr.audit.label_page import write_page

        write_page(html_path, found, audits, Path(csv_path).name, command)
    return _as_text(found, audits)


def _as_text(found: dict, audits: dict) -> str:
    tables = [
        (f"Images and boxes, {label_text.split_name(found)}", label_text.overview(found)),
        ("Rows that could not be used as they are", label_text.problems(found, PROBLEMS)),
        ("Classes", label_text.classes(found)),
        ("Label fractions", label_text.fractions(found)),
        ("Density", label_text.density(found)),
    ]
    if "p" in audits["density_by_position"]:
        tables.append(("Is the split random?", label_text.position(audits["density_by_position"])))
    if found["agreement"]:
        headers, rows = label_text.agreement(found, "test")
        tables.append(
            (f"Agreement on the test images, first of {counted(len(rows), 'pair')} of readers", (headers, rows[:10]))
        )
    if "box_f1" in audits:
        tables.append(("Agreement by box F1", label_text.box_f1(audits["box_f1"])))
        tables.append(("Who read which part", label_text.readers(audits["reader_shift"])))
        predicted = label_text.readers_predict(audits["readers_predict_findings"])
        tables.append(("How far the readers' names alone predict findings", predicted))
    return "\n".join(label_text.as_text(title, table) for title, table in tables)
