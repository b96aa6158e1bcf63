"""A folder or archive of images and readers' boxes -> a prepared set (docs/formats.md, section 1).

Killed at any moment and started again, a run ends with the same bytes: each PNG is whole or absent, what is known of
an image is kept in `.preparing/` until the set is finished, and dataset.json, the last file, says that it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from d2_cxr import artifacts
from d2_cxr.audit import data_quality_page, near_duplicates
from d2_cxr.audit.header_shortcuts import header_shortcut_audit
from d2_cxr.counted import counted
from d2_cxr.datasets import image_array, manifest
from d2_cxr.datasets.manifest import Source
from d2_cxr.image_name import image_name, png_name
from d2_cxr.labels.patients import likely_patients
from d2_cxr.labels.problems import LEFT_OUT, PROBLEMS
from d2_cxr.preparation import prepared_set, workers
from d2_cxr.preparation.image_names import is_image
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.plan import Plan, make_plan
from d2_cxr.preparation.progress import Progress
from d2_cxr.progress import Bar

logger = logging.getLogger(__name__)


def prepare(options: PrepareOptions) -> dict[str, int]:
    """Prepare a set.

    Returns:
        counts: images by outcome, images and boxes by part, "problems" and "reused" (files known from earlier runs).

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: input that cannot be used; nothing is written then, or what
            was prepared is kept for the next run.
    """
    plan = make_plan(options)
    shard = options.shard
    sources = plan.sources if shard is None else plan.sources[shard[0] - 1 :: shard[1]]
    state = Progress(plan.output, plan.settings)
    state.forget_changed(sources)
    if shard is None and state.is_finished(sources):
        logger.info("%s is finished; nothing to do", plan.output)
        state.clean()
        counts = artifacts.read_json(plan.output / "dataset.json")["counts"] | {"reused": len(sources)}
    else:
        with state.locked(alone=shard is None):
            reused = _prepare_images(plan, state, sources, options)
            if shard is not None:
                return {"images": len(sources), "reused": reused, "problems": 0}
            counts = _finish(plan, state) | {"reused": reused}
    if options.array:
        image_array.write(plan.output)
    _report(counts, options.strict)
    return counts


def _prepare_images(plan: Plan, state: Progress, sources: Sequence[Source], options: PrepareOptions) -> int:
    """Prepare what is not known yet; return how many files were known."""
    new = [source for source in sources if not state.knows(source)]
    first_of = _first_of_each_image(plan.sources)
    by_png = {}
    for source in new:
        if source.refusal:
            state.add(source, {"outcome": "refused", "reason": source.refusal})
        elif not is_image(source):
            state.add(source, {"outcome": "ignored", "reason": "no image by its first bytes"})
        elif first_of[source.image_name] is not source:
            first = first_of[source.image_name]
            state.add(source, {"outcome": "refused", "reason": f"the same image name as {first.part}/{first.file}"})
        else:
            by_png[str(plan.output / "images" / png_name(source.image_name))] = source
    rules = plan.rules.to_dict()
    tasks = [
        {
            "path": str(source.path),
            "member": None if source.member is None else asdict(source.member),
            "png": png,
            "refused_png": str(plan.output / "refused" / png_name(source.image_name)),
            "rules": rules,
        }
        for png, source in by_png.items()
    ]
    (plan.output / "images").mkdir(parents=True, exist_ok=True)
    with Bar(total=len(tasks), desc="images", unit="image", disable=not options.progress or not tasks) as bar:
        for task, result in workers.run(tasks, options.jobs or _processors(), options.limit_s):
            state.add(by_png[task["png"]], result)
            bar.update()
    return len(sources) - len(new)


def _first_of_each_image(sources: Sequence[Source]) -> dict[str, Source]:
    first: dict[str, Source] = {}
    for source in sources:
        if source.image_name not in first and not source.refusal and is_image(source):
            first[source.image_name] = source
    return first


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
        raise ValueError(f"none of {counted(len(plan.sources), 'file')} could be prepared{why}")
    copies = near_duplicates.find_in_set(plan.output, rows)
    lists = _lists(plan, rows, copies)
    counts = _counts(plan, rows, lists) | {"near_duplicates": len(copies)}
    state.unfinish()
    for path, content in lists.files.items():
        artifacts.write_json(plan.output / "annotations" / path, content, indent=None)
    manifest.write(plan.output / "manifest.csv", rows)
    near_duplicates.write(plan.output, copies)
    state.write_timings()
    description = _description(plan, rows, lists, counts)
    data_quality_page.write(
        plan.output,
        description,
        rows,
        lists.left_out,
        copies,
        _homes(lists.files),
        _header_audit(plan, rows),
        lists.files,
    )
    state.finish(description, rows)
    for note in lists.notes:
        logger.warning("%s: %s", plan.name, note)
    return counts


def _lists(plan: Plan, rows: Sequence[Mapping], copies: Sequence[Mapping]) -> prepared_set.Assembly:
    images = prepared_set.number_images(rows, plan.rules.size, plan.patients, plan.patient_codes)
    in_folder = [row["image_name"] for row in rows if row["outcome"] == "prepared" and row["part"] == "images"]
    lists = prepared_set.assemble(plan, images, in_folder, copies)
    if plan.annotations and plan.patients is None:
        lists.notes += _patients_in_names(plan.annotations.image_names)
    if plan.test_annotations:
        test, assembly = prepared_set.assemble_official_test(plan.test_annotations, images, plan.rules)
        lists.files["official_test.json"] = test
        lists.counts |= {"official_test": len(test["images"]), "official_test_boxes": len(test["annotations"])}
        lists.notes += assembly.notes
        for kind, count in assembly.counts.items():  # boxes outside their images
            lists.counts[kind] = lists.counts.get(kind, 0) + count
    return lists


def _patients_in_names(names: Sequence[str]) -> list[str]:
    """Return a note where image names seem to begin with their patients and none are known."""
    patients = likely_patients(names)
    if patients is None:
        return []
    return [
        f"image names look like PATIENT_IMAGE ({names[0]}): {counted(patients, 'patient')} on "
        f"{counted(len(names), 'image')}, and one patient's images may be in different parts; "
        "--patients names, or a CSV, keeps each patient in one part"
    ]


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
    """Return image -> the parts that contain it: "stratified/test, published/train"."""
    homes: dict[str, list[str]] = {}
    for path, content in sorted(files.items()):
        if path != "readers.json":
            for image in content["images"]:
                homes.setdefault(image_name(image["file_name"]), []).append(path.removesuffix(".json"))
    return {radiograph: ", ".join(parts) for radiograph, parts in homes.items()}


def _header_audit(plan: Plan, rows: Sequence[Mapping]) -> dict | None:
    """Return how well header fields alone predict that an image has a finding, or None without labels."""
    if plan.annotations is None:
        return None
    found, negative = set(plan.annotations.finding_ids), set(plan.annotations.negative_ids)
    read = [row for row in rows if row["outcome"] == "prepared" and row["image_name"] in found | negative]
    patients = [(plan.patients or {}).get(row["image_name"], row["image_name"]) for row in read]
    return header_shortcut_audit(read, [row["image_name"] in found for row in read], patients)


def _counts(plan: Plan, rows: Sequence[Mapping], lists: prepared_set.Assembly) -> dict[str, int]:
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in manifest.OUTCOMES}
    tables = [table for table in (plan.annotations, plan.test_annotations) if table]
    counts["odd"] = sum(row["outcome"] == "prepared" and bool(row["reason"]) for row in rows)
    counts["boxes_left_out"] = sum(table.problems.get(kind, 0) for table in tables for kind in LEFT_OUT)
    prepared = [row for row in rows if row["outcome"] == "prepared"]
    counts["not_frontal"] = sum("not a frontal view" in row["reason"] for row in prepared)
    counts["not_chest"] = sum("not a chest" in row["reason"] for row in prepared)
    counts |= {"boxes_outside": 0, "boxes_partly_outside": 0} | lists.counts
    wrong = ("refused", "quarantined", "missing", "boxes_left_out", "boxes_outside")
    counts["problems"] = sum(counts[kind] for kind in wrong)
    return counts


def _report(counts: Mapping[str, int], strict: bool) -> None:
    level = logging.ERROR if strict else logging.WARNING
    for outcome in ("refused", "quarantined", "missing"):
        if counts[outcome]:
            logger.log(
                level, "%s %s; see manifest.csv and data_quality.html", counted(counts[outcome], "image"), outcome
            )
    if counts["boxes_left_out"]:
        rules = "; ".join(PROBLEMS[kind] for kind in LEFT_OUT)
        logger.log(level, "%s left out (%s)", counted(counts["boxes_left_out"], "box"), rules)

    if counts["boxes_outside"]:
        logger.log(
            level,
            "%s left out, wholly outside the image (%d more cut to it)",
            counted(counts["boxes_outside"], "box"),
            counts["boxes_partly_outside"],
        )
    for kind, meaning in (("not_frontal", "no frontal view"), ("not_chest", "no chest")):
        if counts[kind]:
            images = counted(counts[kind], "image shows", "images show")
            logger.warning("%s %s according to the header; manifest.csv lists them", images, meaning)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
