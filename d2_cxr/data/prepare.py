"""A folder of films and readers' boxes -> a prepared set (docs/formats.md, section 1).

Killed at any moment and started again, a run ends with the same bytes: each PNG is whole or absent, what is known of
a film is kept in `.preparing/` until the set is finished, and dataset.json, the last file, says that it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from d2_cxr import artifacts
from d2_cxr.data import film_array, intake_page, manifest, prepared_set, workers
from d2_cxr.data.annotations import PROBLEMS, Annotations, read_annotations, read_patients
from d2_cxr.data.datasets import builtin
from d2_cxr.data.fusion import PAPER_IOU_THRESHOLD, fuse_annotations
from d2_cxr.data.images import kind_of
from d2_cxr.data.manifest import FILM_SUFFIXES, Source
from d2_cxr.data.preprocess import Preprocess
from d2_cxr.data.progress import Progress

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_BOX_PROBLEMS = ("no_reader", "not_a_number", "reversed", "no_area", "outside")  # of a table; strict counts them


@dataclass(frozen=True)
class _Plan:
    """What is to be done, read and checked before anything is written."""

    name: str
    output: Path
    sources: list[Source]
    annotations: Annotations | None
    test_annotations: Annotations | None
    order: list[str] | None
    patients: dict[str, str] | None
    rules: Preprocess
    settings: dict
    findings_only: bool


def prepare(
    dicom_dir: str | Path,
    output: str | Path,
    annotations: str | Path | None = None,
    name: str = "vindr_cxr",
    classes: str | Sequence[str] = "card",
    patients: str | Path | None = None,
    fusion: str = "mean",
    preprocess: Preprocess = Preprocess(),
    findings_only: bool = False,
    test_dicom_dir: str | Path | None = None,
    test_annotations: str | Path | None = None,
    order_csv: str | Path | None = None,
    seed: int = 0,
    array: bool = False,
    jobs: int | None = None,
    strict: bool = False,
    shard: tuple[int, int] | None = None,
    limit_s: float = workers.LIMIT_S,
    progress: bool = True,
) -> dict[str, int]:
    """Prepare a set.

    Args:
        dicom_dir: films as DICOM, PNG or JPEG, at any depth; a film's id is its file name without the suffix.
        output: folder of the set; its last part is customarily its name.
        annotations: table of readers' boxes; without one every film is unlabeled.
        name: of the set; only "vindr_cxr" has a published split.
        classes: "card", "extended", "from-csv", a file with a class a line, or the names.
        patients: table of image_id and patient_id.
        fusion: "mean", "majority:K" or "none".
        preprocess: how films become network input.
        findings_only: only films with findings (and the official test films).
        test_dicom_dir, test_annotations: VinDr-CXR's official test films and their consensus boxes.
        order_csv: table whose finding rows give the published order.
        seed: of the stratified split and of the films without findings.
        array: also write images.npy.
        jobs: worker processes; None: the processors at hand.
        strict: log what is wrong as an error; the caller decides by counts["problems"].
        shard: (i, n), i from 1: prepare only every n-th film, and no lists; a run without it finishes the set.
        limit_s: seconds for one film, then its worker is ended and the film quarantined.
        progress: show a bar.

    Returns:
        counts: films by outcome, films and boxes by part, "problems" and "reused" (films known from earlier runs).

    Raises:
        ValueError, FileNotFoundError: input that cannot be used; nothing is written then.
    """
    plan = _plan(dicom_dir, output, annotations, name, classes, patients, fusion, preprocess, findings_only,
                 test_dicom_dir, test_annotations, order_csv, seed)  # fmt: skip
    state = Progress(plan.output, plan.settings)
    if shard is None and state.is_finished(plan.sources):
        logger.info("%s is finished; nothing to do", plan.output)
        state.clean()
        counts = artifacts.read_json(plan.output / "dataset.json")["counts"] | {"reused": len(plan.sources)}
    else:
        with state.locked(alone=shard is None):
            sources = plan.sources if shard is None else _shard(plan.sources, *shard)
            reused = _prepare_films(plan, state, sources, jobs or _processors(), limit_s, progress)
            if shard is not None:
                return {"films": len(sources), "reused": reused, "problems": 0}
            counts = _finish(plan, state) | {"reused": reused}
    if array:
        film_array.write(plan.output)
    _report(counts, strict)
    return counts


def _plan(dicom_dir, output, annotations, name, classes, patients, fusion, preprocess, findings_only, test_dicom_dir,
          test_annotations, order_csv, seed) -> _Plan:  # fmt: skip
    output = Path(output)
    if name not in builtin.BUILTIN:
        builtin.register_prepared(name, output)  # raises for a name that cannot be one
    class_names = _class_names(classes)
    table = read_annotations(annotations, class_names, patients) if annotations else None
    if table:
        fuse_annotations(table.boxes.iloc[:0], fusion)  # an unknown rule ends here
    if (test_dicom_dir is None) != (test_annotations is None):
        raise ValueError("the official test set needs both its films and its annotations")
    if findings_only and not table:
        raise ValueError("films with findings only: that needs annotations")
    test_names = table.class_names if table and classes == "from-csv" else class_names
    test_table = read_annotations(test_annotations, test_names) if test_annotations else None
    sources = manifest.list_sources(dicom_dir, "films", without=output)
    wanted = set(table.finding_ids) if findings_only else None
    sources = [source for source in sources if wanted is None or source.image_id in wanted]
    if table and not {source.image_id for source in sources} & set(table.image_ids):
        raise ValueError(f"no film of {annotations} is in {dicom_dir}: it lists {table.image_ids[0]}, for example")
    if test_dicom_dir is not None:
        sources += manifest.list_sources(test_dicom_dir, "official_test", without=output)
    order = read_annotations(order_csv, class_names).finding_ids if order_csv else None
    return _Plan(
        name=name,
        output=output,
        sources=sources,
        annotations=table,
        test_annotations=test_table,
        order=order,
        patients=table.patients if table else read_patients(patients) if patients else None,
        rules=preprocess,
        findings_only=findings_only,
        settings={
            "format_version": FORMAT_VERSION,
            "name": name,
            "source": {
                "release": table.flavour if table else None,
                "csv_sha256": table.sha256 if table else None,
                "order_csv_sha256": artifacts.sha256_file(order_csv) if order_csv else None,
                "patients_csv_sha256": artifacts.sha256_file(patients) if patients else None,
                "test_csv_sha256": test_table.sha256 if test_table else None,
            },
            "preprocess": preprocess.to_dict(),
            "fusion": {"rule": "none" if table and table.consensus else fusion, "iou_threshold": PAPER_IOU_THRESHOLD},
            "seed": seed,
            "class_names": list(table.class_names if table else builtin.BUILTIN.get(name, ())),
            "findings_only": findings_only,
        },
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


def _shard(sources: list[Source], index: int, number: int) -> list[Source]:
    if not 1 <= index <= number:
        raise ValueError(f"shard {index}/{number}: i goes from 1 to n")
    return sources[index - 1 :: number]


def _prepare_films(plan: _Plan, state: Progress, sources, jobs: int, limit_s: float, progress: bool) -> int:
    """Prepare what is not known yet; return how many films were known."""
    taken: dict[str, Source] = {}
    tasks, reused = [], 0
    for source in sources:
        if state.knows(source):
            reused += 1
        elif not _is_film(source):
            state.add(source, {"outcome": "ignored", "reason": "no film by its first bytes"})
        elif source.image_id in taken:
            first = taken[source.image_id].file
            state.add(source, {"outcome": "refused", "reason": f"the same film id as {first}"})
            continue
        else:
            png = str(plan.output / "images" / f"{source.image_id}.png")
            tasks.append({"source": source, "path": str(source.path), "png": png})
        if _is_film(source):
            taken.setdefault(source.image_id, source)
    (plan.output / "images").mkdir(parents=True, exist_ok=True)
    by_path = {task["path"]: task.pop("source") for task in tasks}
    tasks = [{**task, "rules": plan.rules.to_dict()} for task in tasks]
    bar = tqdm(total=len(tasks), desc="films", unit="film", disable=not progress or not tasks)
    with bar:
        for task, result in workers.run(tasks, jobs, limit_s):
            state.add(by_path[task["path"]], result)
            bar.update()
    return reused


def _is_film(source: Source) -> bool:
    if source.path.name.casefold().endswith(FILM_SUFFIXES):
        return True  # a film by its name is a film, or is refused by its content
    with open(source.path, "rb") as file:
        return kind_of(file.read(133)) is not None


def _finish(plan: _Plan, state: Progress) -> dict[str, int]:
    """Write the lists, the manifest, the page, and dataset.json last."""
    rows = state.rows(plan.sources)
    rows += _missing(plan, rows)
    prepared = [row for row in rows if row["outcome"] == "prepared"]
    if not prepared:
        state.discard()
        refused = next((row for row in rows if row["outcome"] in ("refused", "quarantined")), None)
        why = f"; {refused['file']}: {refused['reason']}" if refused else ""
        raise ValueError(f"none of {len(rows)} files could be prepared{why}")
    films = prepared_set.number_films(rows, plan.rules.size, plan.patients)
    in_folder = [row["image_id"] for row in prepared if row["part"] == "films"]
    lists = prepared_set.assemble(plan.name, plan.annotations, films, plan.rules, plan.settings["fusion"]["rule"],
                                  plan.settings["seed"], plan.order, plan.patients, in_folder)  # fmt: skip
    if plan.test_annotations:
        test, told = prepared_set.assemble_official_test(plan.test_annotations, films, plan.rules)
        lists.files["official_test.json"] = test
        lists.counts |= {"official_test": len(test["images"]), "official_test_boxes": len(test["annotations"])}
        lists.notes += told.notes
    counts = _counts(plan, rows) | lists.counts
    state.unfinish()
    for path, content in lists.files.items():
        artifacts.write_json(plan.output / "annotations" / path, content, indent=None)
    manifest.write(plan.output / "manifest.csv", rows)
    state.write_timings()
    for note in lists.notes:
        logger.warning("%s: %s", plan.name, note)
    description = {
        **plan.settings,
        "split": {
            "rule": "stratified",
            "seed": plan.settings["seed"],
            "parts": [0.7, 0.1, 0.2],
            "by_patient": plan.patients is not None,
            "published": "published/train.json" in lists.files,
        },  # fmt: skip
        "counts": counts,
        "notes": lists.notes,
        "annotation_problems": plan.annotations.problems if plan.annotations else {},
        "images_fingerprint": artifacts.sha256_lines(
            f"{row['image_id']} {row['image_sha256']}" for row in sorted(prepared, key=lambda row: row["image_id"])
        ),
        "annotations_fingerprint": artifacts.sha256_json(lists.files),
    }
    intake_page.write(plan.output, description, rows, lists.left_out)
    state.finish(description, {row["image_id"] for row in prepared})
    return counts


def _missing(plan: _Plan, rows: Sequence[Mapping]) -> list[dict]:
    """Return rows of the films that a table names and its folder does not hold."""
    found = {(row["part"], row["image_id"]) for row in rows}
    wanted = [("films", film) for film in _wanted(plan)]
    wanted += [("official_test", film) for film in (plan.test_annotations.image_ids if plan.test_annotations else [])]
    return [manifest.missing_row(film, part) for part, film in wanted if (part, film) not in found]


def _wanted(plan: _Plan) -> list[str]:
    if plan.annotations is None:
        return []
    return plan.annotations.finding_ids if plan.findings_only else plan.annotations.image_ids


def _counts(plan: _Plan, rows: Sequence[Mapping]) -> dict[str, int]:
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in manifest.OUTCOMES}
    tables = [table for table in (plan.annotations, plan.test_annotations) if table]
    bad_boxes = sum(table.problems.get(kind, 0) for table in tables for kind in _BOX_PROBLEMS)
    counts["odd"] = sum(row["outcome"] == "prepared" and bool(row["reason"]) for row in rows)
    counts["boxes_left_out"] = bad_boxes
    counts["problems"] = counts["refused"] + counts["quarantined"] + counts["missing"] + bad_boxes
    return counts


def _report(counts: Mapping[str, int], strict: bool) -> None:
    level = logging.ERROR if strict else logging.WARNING
    for outcome in ("refused", "quarantined", "missing"):
        if counts[outcome]:
            logger.log(level, "%d films %s; manifest.csv and intake.html say which and why", counts[outcome], outcome)
    if counts["boxes_left_out"]:
        logger.log(
            level, "%d boxes left out: %s", counts["boxes_left_out"], "; ".join(map(PROBLEMS.get, _BOX_PROBLEMS))
        )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
