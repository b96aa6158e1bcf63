"""A folder of images and readers' boxes -> a prepared set (docs/formats.md, section 1).

Killed at any moment and started again, a run ends with the same bytes: each PNG is whole or absent, what is known of
an image is kept in `.preparing/` until the set is finished, and dataset.json, the last file, says that it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from d2_cxr import artifacts
from d2_cxr.audit import data_quality_page, near_duplicates
from d2_cxr.audit.header_shortcuts import metadata_auroc
from d2_cxr.datasets import image_array, manifest
from d2_cxr.datasets.manifest import Source
from d2_cxr.dicom.image_files import kind_of
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.image_name import SUFFIXES as IMAGE_SUFFIXES
from d2_cxr.image_name import image_name
from d2_cxr.labels.annotations import LEFT_OUT, PROBLEMS
from d2_cxr.prepare import prepared_set, workers
from d2_cxr.prepare.plan import Plan, make_plan
from d2_cxr.prepare.progress import Progress

logger = logging.getLogger(__name__)

DEFAULT_RULES = Preprocess()


def prepare(
    dicom_dir: str | Path,
    output: str | Path,
    annotations: str | Path | None = None,
    name: str = "vindr_cxr",
    classes: str | Sequence[str] = "card",
    patients: str | Path | None = None,
    negative_names: Sequence[str] = (),
    annotation_format: str | None = None,
    fusion: str = "mean",
    preprocess: Preprocess = DEFAULT_RULES,
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
        dicom_dir: images as DICOM, PNG or JPEG, at any depth; an image's id is its file name without the suffix.
        output: folder of the set; its last part is customarily its name.
        annotations: table of readers' boxes; without one every image is unlabeled.
        name: of the set; only "vindr_cxr" has a published split.
        classes: "card", "extended", "from-csv", a file with a class a line, or the names.
        patients: table of image_name and patient_id.
        negative_names: class names that mean "No finding".
        annotation_format: csv, coco, yolo, voc, cvat, label_studio or labelme; None: told by content.
        fusion: "mean", "majority:K" or "none".
        preprocess: how images become network input.
        findings_only: only images with findings (and the official test images).
        test_dicom_dir, test_annotations: VinDr-CXR's official test images and their consensus boxes.
        order_csv: table whose finding rows give the published order.
        seed: of the stratified split and of the images without findings.
        array: also write images.npy.
        jobs: worker processes; None: the processors at hand.
        strict: log what is wrong as an error; the caller decides by counts["problems"].
        shard: (i, n), i from 1: prepare only every n-th image, and no lists; a run without it finishes the set.
        limit_s: seconds for one image, then its worker is ended and the image quarantined.
        progress: show a bar.

    Returns:
        counts: images by outcome, images and boxes by part, "problems" and "reused" (files known from earlier runs).

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: input that cannot be used; nothing is written then.
    """
    plan = make_plan(
        dicom_dir,
        output,
        annotations,
        name,
        classes,
        patients,
        fusion,
        preprocess,
        findings_only,
        test_dicom_dir,
        test_annotations,
        order_csv,
        seed,
        negative_names,
        annotation_format,
    )
    sources = plan.sources if shard is None else _shard(plan.sources, *shard)
    state = Progress(plan.output, plan.settings)
    state.forget_changed(sources)
    if shard is None and state.is_finished(sources):
        logger.info("%s is finished; nothing to do", plan.output)
        state.clean()
        counts = artifacts.read_json(plan.output / "dataset.json")["counts"] | {"reused": len(sources)}
    else:
        with state.locked(alone=shard is None):
            reused = _prepare_images(plan, state, sources, jobs or _processors(), limit_s, progress)
            if shard is not None:
                return {"images": len(sources), "reused": reused, "problems": 0}
            counts = _finish(plan, state) | {"reused": reused}
    if array:
        image_array.write(plan.output)
    _report(counts, strict)
    return counts


def _shard(sources: list[Source], index: int, number: int) -> list[Source]:
    if not 1 <= index <= number:
        raise ValueError(f"shard {index}/{number}: i goes from 1 to n")
    return sources[index - 1 :: number]


def _prepare_images(plan: Plan, state: Progress, sources, jobs: int, limit_s: float, progress: bool) -> int:
    """Prepare what is not known yet; return how many files were known."""
    new = [source for source in sources if not state.knows(source)]
    first_of = _first_of_each_image(plan.sources)
    by_path = {}
    for source in new:
        if not _is_image(source):
            state.add(source, {"outcome": "ignored", "reason": "no image by its first bytes"})
        elif first_of[source.image_name] is not source:
            first = first_of[source.image_name]
            state.add(source, {"outcome": "refused", "reason": f"the same image id as {first.part}/{first.file}"})
        else:
            by_path[str(source.path)] = source
    rules = plan.rules.to_dict()
    tasks = [
        {
            "path": path,
            "png": str(plan.output / "images" / f"{source.image_name}.png"),
            "refused_png": str(plan.output / "refused" / f"{source.image_name}.png"),
            "rules": rules,
        }
        for path, source in by_path.items()
    ]
    (plan.output / "images").mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(tasks), desc="images", unit="image", disable=not progress or not tasks) as bar:
        for task, result in workers.run(tasks, jobs, limit_s):
            state.add(by_path[task["path"]], result)
            bar.update()
    return len(sources) - len(new)


def _first_of_each_image(sources: Sequence[Source]) -> dict[str, Source]:
    first: dict[str, Source] = {}
    for source in sources:
        if source.image_name not in first and _is_image(source):
            first[source.image_name] = source
    return first


def _is_image(source: Source) -> bool:
    if source.path.name.casefold().endswith(IMAGE_SUFFIXES):
        return True  # an image by its name is an image, or is refused by its content
    with open(source.path, "rb") as file:
        return kind_of(file.read(133)) is not None


def _finish(plan: Plan, state: Progress) -> dict[str, int]:
    """Write the lists, the manifest, the page, and dataset.json last."""
    rows = state.rows(plan.sources)
    found = {(row["part"], row["image_name"]) for row in rows}
    rows += [manifest.missing_row(image, part) for part, image in plan.wanted() if (part, image) not in found]
    prepared = [row for row in rows if row["outcome"] == "prepared"]
    if not prepared:
        state.discard()
        refused = next((row for row in rows if row["outcome"] in ("refused", "quarantined")), None)
        why = f"; {refused['file']}: {refused['reason']}" if refused else ""
        raise ValueError(f"none of {len(plan.sources)} files could be prepared{why}")
    copies = near_duplicates.find_in_set(plan.output, rows)
    lists = _lists(plan, rows, copies)
    counts = _counts(plan, rows) | {"near_copies": len(copies)} | lists.counts
    state.unfinish()
    for path, content in lists.files.items():
        artifacts.write_json(plan.output / "annotations" / path, content, indent=None)
    manifest.write(plan.output / "manifest.csv", rows)
    near_duplicates.write(plan.output, copies)
    state.write_timings()
    description = _description(plan, rows, lists, counts)
    more = data_quality_page.copies_section(plan.output, copies, _homes(lists.files))
    more += data_quality_page.shortcut_section(_header_audit(plan, rows))
    data_quality_page.write(plan.output, description, rows, lists.left_out, more)
    state.finish(description, rows)
    for note in lists.notes:
        logger.warning("%s: %s", plan.name, note)
    return counts


def _lists(plan: Plan, rows: Sequence[Mapping], copies: Sequence[Mapping]) -> prepared_set.Assembly:
    images = prepared_set.number_images(rows, plan.rules.size, plan.patients)
    in_folder = [row["image_name"] for row in rows if row["outcome"] == "prepared" and row["part"] == "images"]
    fusion, seed = plan.settings["fusion"]["rule"], plan.settings["split"]["seed"]
    lists = prepared_set.assemble(
        plan.name, plan.annotations, images, plan.rules, fusion, seed, plan.order, plan.patients, in_folder, copies
    )
    if plan.test_annotations:
        test, told = prepared_set.assemble_official_test(plan.test_annotations, images, plan.rules)
        lists.files["official_test.json"] = test
        lists.counts |= {"official_test": len(test["images"]), "official_test_boxes": len(test["annotations"])}
        lists.notes += told.notes
    return lists


def _description(plan: Plan, rows: Sequence[Mapping], lists: prepared_set.Assembly, counts: Mapping) -> dict:
    prepared = sorted((row["image_name"], row["image_sha256"]) for row in rows if row["outcome"] == "prepared")
    return {
        **plan.settings,
        "published": "published/train.json" in lists.files,
        "counts": dict(counts),
        "notes": lists.notes,
        "annotation_problems": plan.annotations.problems if plan.annotations else {},
        "images_fingerprint": artifacts.sha256_lines(f"{image} {sha256}" for image, sha256 in prepared),
        "annotations_fingerprint": artifacts.sha256_json(lists.files),
    }


def _homes(files: Mapping[str, dict]) -> dict[str, str]:
    """Return image -> the parts in which it stands: "stratified/test, published/train"."""
    homes: dict[str, list[str]] = {}
    for path, content in sorted(files.items()):
        if path != "readers.json":
            for image in content["images"]:
                homes.setdefault(image_name(image["file_name"]), []).append(path.removesuffix(".json"))
    return {radiograph: ", ".join(parts) for radiograph, parts in homes.items()}


def _header_audit(plan: Plan, rows: Sequence[Mapping]) -> dict | None:
    """Tell how well header fields alone predict that an image has a finding, or None where nothing can be told."""
    if plan.annotations is None:
        return None
    found, negative = set(plan.annotations.finding_ids), set(plan.annotations.negative_ids)
    read = [row for row in rows if row["outcome"] == "prepared" and row["image_name"] in found | negative]
    patients = [(plan.patients or {}).get(row["image_name"], row["image_name"]) for row in read]
    return metadata_auroc(read, [row["image_name"] in found for row in read], patients)


def _counts(plan: Plan, rows: Sequence[Mapping]) -> dict[str, int]:
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in manifest.OUTCOMES}
    tables = [table for table in (plan.annotations, plan.test_annotations) if table]
    counts["odd"] = sum(row["outcome"] == "prepared" and bool(row["reason"]) for row in rows)
    counts["boxes_left_out"] = sum(table.problems.get(kind, 0) for table in tables for kind in LEFT_OUT)
    wrong = ("refused", "quarantined", "missing", "boxes_left_out")
    counts["problems"] = sum(counts[kind] for kind in wrong)
    return counts


def _report(counts: Mapping[str, int], strict: bool) -> None:
    level = logging.ERROR if strict else logging.WARNING
    for outcome in ("refused", "quarantined", "missing"):
        if counts[outcome]:
            logger.log(level, "%d images %s; manifest.csv and intake.html say which and why", counts[outcome], outcome)
    if counts["boxes_left_out"]:
        rules = "; ".join(PROBLEMS[kind] for kind in LEFT_OUT)
        logger.log(level, "%d boxes left out (%s)", counts["boxes_left_out"], rules)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
