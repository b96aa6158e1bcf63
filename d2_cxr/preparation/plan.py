"""What a preparation is to do: every input is read and checked here, before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets import builtin, manifest, named_sets, set_folders
from d2_cxr.datasets.image_sizes import sizes_of
from d2_cxr.datasets.manifest import Source
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.image_name import image_name
from d2_cxr.labels.annotations import Annotations, read_annotations
from d2_cxr.labels.class_names import read_classes
from d2_cxr.labels.csv_formats import CSV_FORMATS
from d2_cxr.labels.fusion import PAPER_IOU_THRESHOLD, fuse_annotations
from d2_cxr.labels.given_splits import choose_parts, parts_like
from d2_cxr.labels.patients import IN_NAMES, patients_in_names, read_patients
from d2_cxr.labels.spelling import similar_names
from d2_cxr.preparation.image_names import ImageNames, is_image, personal_looking
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.pseudonyms import Pseudonyms

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
        patient_codes: patient -> pseudonym, None without `--patient-key`.
        parts: image -> train, val or test where the split is given; None: the stratified split.
        rules: how images become network input.
        settings: what decides the set's content in addition to its files, as in dataset.json.
    """

    name: str
    output: Path
    sources: list[Source]
    annotations: Annotations | None
    test_annotations: Annotations | None
    order: list[str] | None
    patients: dict[str, str] | None
    patient_codes: dict[str, str] | None
    parts: dict[str, str] | None
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


def make_plan(options: PrepareOptions) -> Plan:
    """Read and check the inputs.

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: one line that names the input and what to do.
    """
    output = Path(options.output)
    if options.name not in set_folders.BUILTIN:
        builtin.register_prepared(options.name, output)  # raises for a name that cannot be one
    files, names = _named_files(options.dicom_dir, "images", output)
    table, class_names = _read_table(options, files, names)
    sources = _wanted(files, table, options)
    tests, test_table = _official_test(options, class_names)
    order = _read(options, options.order_csv, _class_names(options.classes), names)
    known = table.patients if table else _patients_alone(options, names)
    parts, rule = _parts(options, table, known, names) or (None, "stratified")
    patient_codes, patient_key = _patient_codes(options, known)
    plan = Plan(
        name=options.name,
        output=output,
        sources=sources + tests,
        annotations=table,
        test_annotations=test_table,
        order=order.finding_ids if order else None,
        patients=known,
        patient_codes=patient_codes,
        parts=parts,
        rules=options.preprocess,
        settings=_settings(options, table, test_table, known, rule) | {"patient_key": patient_key},
    )
    return _renamed(plan, options, options.rename) if options.rename else _with_warning(plan)


def _patients_alone(options: PrepareOptions, names: ImageNames) -> dict[str, str] | None:
    """Return the patients of images without labels."""
    path = options.patients_csv
    return read_patients(path, names.of_text, options.columns) if path else None


def _patient_codes(
    options: PrepareOptions, patients: dict[str, str] | None
) -> tuple[dict[str, str] | None, str | None]:
    """Return patient -> pseudonym and the fingerprint of the key; None without a key."""
    if not options.patient_key:
        return None, None
    if not patients:
        raise ValueError("--patient-key needs patients; give --patients, or labels with a column patient_id")
    pseudonyms = Pseudonyms(options.patient_key, options.output)
    return {patient: pseudonyms.of_patient(patient) for patient in set(patients.values())}, pseudonyms.fingerprint


def _named_files(folder: str | Path, part: str, output: Path) -> tuple[list[Source], ImageNames]:
    files = manifest.list_sources(folder, part, without=output)
    names = ImageNames.of([source for source in files if not source.refusal and is_image(source)])
    if names.are_paths:
        logger.info("%s: many files share a name, so images are named by their paths", folder)
    return names.name_files(files), names


def _read_table(
    options: PrepareOptions, files: list[Source], names: ImageNames
) -> tuple[Annotations | None, str | Sequence[str]]:
    """Return the annotations, and the classes that the official test set's are read with."""
    classes = _class_names(options.classes)
    if not options.annotations:
        return None, classes
    table = read_annotations(
        options.annotations,
        classes,
        options.patients_csv,
        negative_names=options.negative_names,
        name_of=names.of_text,
        annotation_format=options.annotation_format,
        size_of=sizes_of(files, names.of_text),
        columns=options.columns,
    )
    if options.patients == IN_NAMES:
        table = replace(table, patients=patients_in_names(table.image_names))
    fuse_annotations(table.boxes.iloc[:0], options.fusion)  # an unknown rule ends here
    return table, table.class_names if options.classes == "from-csv" else classes


def _read(
    options: PrepareOptions, path: str | Path | None, classes: str | Sequence[str], names: ImageNames
) -> Annotations | None:
    if not path:
        return None
    return read_annotations(path, classes, negative_names=options.negative_names, name_of=names.of_text)


def _parts(
    options: PrepareOptions, table: Annotations | None, patients: dict[str, str] | None, names: ImageNames
) -> tuple[dict[str, str], str] | None:
    """Return image -> part and the rule where the split is given, None for the stratified split."""
    if table is None:
        return None
    if options.split_like:
        return _parts_like(options, table, patients)
    is_csv = table.format_name in {csv_format.name for csv_format in CSV_FORMATS}
    csvs = [path for path in (options.patients_csv, options.annotations if is_csv else None) if path]
    return choose_parts(table, csvs, options.split, options.split_by, patients, options.seed, names.of_text)


def _parts_like(options: PrepareOptions, table: Annotations, patients: dict[str, str] | None) -> tuple[dict, str]:
    """Return the parts of an earlier set's held-out images, and the rule with its name and fingerprint."""
    folder = Path(str(options.split_like))
    if not (folder / "dataset.json").is_file():
        raise FileNotFoundError(f"--split-like {folder}: no finished prepared set (dataset.json is missing)")
    earlier = artifacts.read_json(folder / "dataset.json")
    part_of: dict[str, str] = {}
    for name in named_sets.HELD_OUT:
        listed = artifacts.read_json(folder / "annotations" / "stratified" / f"{name}.json")["images"]
        part_of |= {image_name(image["file_name"]): name.removeprefix("negative_") for image in listed}
    code = Pseudonyms(options.rename, options.output).of if options.rename else str
    images = [*table.finding_ids, *table.negative_ids]
    held_out = {image: part_of[code(image)] for image in images if code(image) in part_of}
    if len(held_out) < len(part_of):
        logger.warning(
            "%d of %d val and test images of %s have no labels here",
            len(part_of) - len(held_out),
            len(part_of),
            folder,
        )
    rule = f"val and test of {earlier['name']} ({earlier['annotations_fingerprint'][:8]})"
    return parts_like(images, held_out, patients), rule


def _official_test(options: PrepareOptions, classes: str | Sequence[str]) -> tuple[list[Source], Annotations | None]:
    if not options.test_dicom_dir:
        return [], None
    files, names = _named_files(options.test_dicom_dir, "official_test", Path(options.output))
    return files, _read(options, options.test_annotations, classes, names)


def _settings(
    options: PrepareOptions,
    table: Annotations | None,
    test_table: Annotations | None,
    patients: dict | None,
    split_rule: str,
) -> dict:
    """Return what decides the set's content in addition to its files."""
    order, known = options.order_csv, options.patients_csv
    return {
        "format_version": named_sets.FORMAT_VERSION,
        "name": options.name,
        "source": {
            "release": table.format_name if table else None,
            "csv_sha256": table.sha256 if table else None,
            "order_csv_sha256": artifacts.sha256_file(order) if order else None,
            "patients_csv_sha256": artifacts.sha256_file(known) if known else None,
            "test_csv_sha256": test_table.sha256 if test_table else None,
        },
        "preprocess": options.preprocess.to_dict(),
        "fusion": {
            "rule": "none" if table and table.consensus else options.fusion,
            "iou_threshold": PAPER_IOU_THRESHOLD,
        },
        "split": {
            "rule": split_rule,
            "parts": [0.7, 0.1, 0.2] if split_rule == "stratified" else None,
            "seed": options.seed,
            "by_patient": patients is not None,
        },
        "class_names": list(table.class_names if table else set_folders.BUILTIN.get(options.name, ())),
        "negative_names": list(options.negative_names),
        "findings_only": options.findings_only,
        "renamed": None,
    }


def _renamed(plan: Plan, options: PrepareOptions, key_file: str | Path) -> Plan:
    """Return the plan under pseudonyms, and write their map if requested."""
    pseudonyms = Pseudonyms(key_file, options.output)
    renamed = replace(
        plan,
        sources=[pseudonyms.rename_source(source) for source in plan.sources],
        annotations=pseudonyms.rename_annotations(plan.annotations),
        test_annotations=pseudonyms.rename_annotations(plan.test_annotations),
        order=None if plan.order is None else [pseudonyms.of(name) for name in plan.order],
        patients=pseudonyms.rename_keys(plan.patients),
        parts=pseudonyms.rename_keys(plan.parts),
        settings={**plan.settings, "renamed": pseudonyms.fingerprint},
    )
    if options.rename_map:
        pseudonyms.write_map(options.rename_map, options.output)
    return renamed


def _with_warning(plan: Plan) -> Plan:
    """Warn where names look personal; they are copied into the set."""
    personal = personal_looking(source.file for source in plan.sources)
    if personal:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in personal.items())
        logger.warning(
            "file names seem to contain %s, and they become image names in the set; --rename KEYFILE gives pseudonyms",
            kinds,
        )
    return plan


def _wanted(sources: list[Source], table: Annotations | None, options: PrepareOptions) -> list[Source]:
    if not table:
        return sources
    _hint_at_spellings(table, sources)
    if not {source.image_name for source in sources} & set(table.image_names):
        raise ValueError(
            f"no image of {options.annotations} is in {options.dicom_dir}: the first image of the labels is "
            f"{table.image_names[0]}, the first file is {sources[0].file}"
        )
    wanted = set(table.finding_ids)
    return [source for source in sources if source.image_name in wanted] if options.findings_only else sources


def _hint_at_spellings(table: Annotations, sources: Sequence[Source]) -> None:
    named, files = set(table.image_names), {source.image_name for source in sources}
    pairs = similar_names([name for name in table.image_names if name not in files], files - named)
    if pairs:
        logger.warning(
            "%s no file, but one whose name differs in case, spaces or leading zeros: %s may be %s",
            counted(len(pairs), "image has", "images have"),
            *pairs[0],
        )


def _class_names(classes: str | Sequence[str]) -> str | list[str]:
    return read_classes(classes) if isinstance(classes, str) else list(classes)
