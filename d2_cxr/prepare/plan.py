"""What a preparation is to do: every input is read and checked here, before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, manifest, named_sets
from d2_cxr.datasets.image_sizes import sizes_of
from d2_cxr.datasets.manifest import Source
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.labels.annotations import Annotations, read_annotations, read_patients
from d2_cxr.labels.fusion import PAPER_IOU_THRESHOLD, fuse_annotations
from d2_cxr.labels.spelling import similar_names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Inputs of a preparation.

    Attributes:
        name, output: of the set.
        sources: the files to prepare, those of the official test set last.
        annotations, test_annotations: None where there is no table.
        order: the finding images in the published order, from another table.
        patients: image -> patient, None where unknown.
        rules: how images become network input.
        settings: what decides the set's content beside its files, as dataset.json says it.
    """

    name: str
    output: Path
    sources: list[Source]
    annotations: Annotations | None
    test_annotations: Annotations | None
    order: list[str] | None
    patients: dict[str, str] | None
    rules: Preprocess
    settings: dict

    def wanted(self) -> list[tuple[str, str]]:
        """Return (part, image) of every image that the tables name and this preparation wants."""
        images = []
        if self.annotations:
            only = self.settings["findings_only"]
            images = self.annotations.finding_ids if only else self.annotations.image_names
        tests = self.test_annotations.image_names if self.test_annotations else []
        return [("images", image) for image in images] + [("official_test", image) for image in tests]


def make_plan(
    dicom_dir,
    output,
    annotations,
    name: str,
    classes,
    patients,
    fusion: str,
    rules: Preprocess,
    findings_only: bool,
    test_dicom_dir,
    test_annotations,
    order_csv,
    seed: int,
    negative_names: Sequence[str] = (),
    annotation_format: str | None = None,
) -> Plan:
    """Read and check the inputs; the arguments are those of `prepare`.

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: one line that names the input and the way out.
    """
    output = Path(output)
    if name not in named_sets.BUILTIN:
        builtin.register_prepared(name, output)  # raises for a name that cannot be one
    _check_combination(annotations, findings_only, test_dicom_dir, test_annotations)
    class_names = _class_names(classes)
    files = manifest.list_sources(dicom_dir, "images", without=output)
    labels = {"negative_names": negative_names, "annotation_format": annotation_format, "size_of": sizes_of(files)}
    table = read_annotations(annotations, class_names, patients, **labels) if annotations else None
    if table:
        fuse_annotations(table.boxes.iloc[:0], fusion)  # an unknown rule ends here
    test_names = table.class_names if table and classes == "from-csv" else class_names
    test_table = (
        read_annotations(test_annotations, test_names, negative_names=negative_names) if test_annotations else None
    )
    sources = _images(files, dicom_dir, annotations, table, findings_only)
    if test_dicom_dir:
        sources += manifest.list_sources(test_dicom_dir, "official_test", without=output)
    known = table.patients if table else read_patients(patients) if patients else None
    return Plan(
        name=name,
        output=output,
        sources=sources,
        annotations=table,
        test_annotations=test_table,
        order=read_annotations(order_csv, class_names, negative_names=negative_names).finding_ids
        if order_csv
        else None,
        patients=known,
        rules=rules,
        settings={
            "format_version": named_sets.FORMAT_VERSION,
            "name": name,
            "source": {
                "release": table.flavor if table else None,
                "csv_sha256": table.sha256 if table else None,
                "order_csv_sha256": artifacts.sha256_file(order_csv) if order_csv else None,
                "patients_csv_sha256": artifacts.sha256_file(patients) if patients else None,
                "test_csv_sha256": test_table.sha256 if test_table else None,
            },
            "preprocess": rules.to_dict(),
            "fusion": {"rule": "none" if table and table.consensus else fusion, "iou_threshold": PAPER_IOU_THRESHOLD},
            "split": {"rule": "stratified", "parts": [0.7, 0.1, 0.2], "seed": seed, "by_patient": known is not None},
            "class_names": list(table.class_names if table else named_sets.BUILTIN.get(name, ())),
            "negative_names": list(negative_names),
            "findings_only": findings_only,
        },
    )


def _check_combination(annotations, findings_only: bool, test_dicom_dir, test_annotations) -> None:
    if (not test_dicom_dir) != (not test_annotations):
        raise ValueError("the official test set needs both its images and its annotations; give the other too")
    if findings_only and not annotations:
        raise ValueError("only images with findings: which they are, annotations must tell")


def _images(
    sources: list[Source], dicom_dir, annotations, table: Annotations | None, findings_only: bool
) -> list[Source]:
    if not table:
        return sources
    _hint_at_spellings(table, sources)
    if not {source.image_name for source in sources} & set(table.image_names):
        raise ValueError(
            f"no image of {annotations} lies in {dicom_dir}: the table names {table.image_names[0]}, the first file is "
            f"{sources[0].file}"
        )
    wanted = set(table.finding_ids)
    return [source for source in sources if source.image_name in wanted] if findings_only else sources


def _hint_at_spellings(table: Annotations, sources: Sequence[Source]) -> None:
    named, files = set(table.image_names), {source.image_name for source in sources}
    pairs = similar_names([name for name in table.image_names if name not in files], files - named)
    if pairs:
        logger.warning(
            "%d images have no file, but one whose name differs in case, spaces or leading zeros: %s may be %s",
            len(pairs),
            *pairs[0],
        )


def _class_names(classes: str | Sequence[str]) -> str | list[str]:
    if not isinstance(classes, str):
        return list(classes)
    if classes in ("card", "extended", "from-csv"):
        return classes
    if not Path(classes).is_file():
        raise FileNotFoundError(f"classes {classes!r} is none of card, extended, from-csv, and no such file exists")
    names = [line.strip() for line in Path(classes).read_text(encoding="utf-8").splitlines()]
    if not any(names):
        raise ValueError(f"{classes} names no class; write one a line")
    return [name for name in names if name]
