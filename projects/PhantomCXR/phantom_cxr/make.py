"""Phantom sets on disk: DICOM files, the readers' CSV, patients, and the truth.

    output/dicom/<image_name>.dicom   the images
    output/train.csv                readers' boxes in source pixels, in the layout of Kaggle's VinBigData train.csv
    output/patients.csv             image_id,patient_id
    output/truth.json               what was drawn, image by image
    output/records/<image_name>.json  the same of one image, with its readers' rows: a stopped run continues from them
    output/phantom.json             the parameters; a set is never continued with others

An image depends only on the seed, its index and these parameters, not on the number of processes. Existing images are
not rendered again, and a larger `num_images` adds to a set.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
from d2_cxr.projects.phantom_cxr import dicom_writer, image
from d2_cxr.projects.phantom_cxr import readers as reading

from d2_cxr import artifacts
from d2_cxr.labels.vindr_cxr import CLASS_NAMES
from d2_cxr.progress import Bar

RENDERER = 1  # raise it when the same parameters give other images
NO_FINDING = "No finding"
_COLUMNS = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")


def make_phantoms(
    output: str | os.PathLike,
    num_images: int,
    size: int = 512,
    seed: int = 0,
    jobs: int | None = None,
    finding_share: float = 0.75,
    readers: int = 3,
    progress: bool = True,
) -> dict[str, int]:
    """Render a set of phantom images into `output`, or the missing ones.

    Args:
        size: pixels of the images' longer side.
        jobs: processes; default: as many as there are cores.
        finding_share: fraction of images with findings; about 0.29 in VinDr-CXR.
        readers: how many readers read each image.

    Returns:
        counts: images, rendered (now), with_findings, boxes (of readers), patients.

    Raises:
        ValueError: a parameter is out of range, or `output` contains a set made with other parameters.
    """
    output = Path(output)
    if num_images < 1:
        raise ValueError(f"a set needs at least one image, got {num_images}")
    settings = {"size": size, "seed": seed, "finding_share": finding_share, "readers": readers}
    _check(settings)
    _claim(output, {**settings, "renderer": RENDERER})
    missing = [index for index in range(num_images) if not _is_there(output, image.image_name(seed, index))]
    _render(output, missing, settings, jobs or os.cpu_count() or 1, progress)
    records = [artifacts.read_json(_record_path(output, image.image_name(seed, index))) for index in range(num_images)]
    rows = _write_tables(output, records, settings)
    return {
        "images": num_images,
        "rendered": len(missing),
        "with_findings": sum(bool(record["findings"]) for record in records),
        "boxes": sum(row["class_name"] != NO_FINDING for row in rows),
        "patients": len({record["patient_id"] for record in records}),
    }


def _check(settings: dict) -> None:
    """Raise on wrong parameters before anything is written."""
    image.check_settings(settings["size"], settings["finding_share"])
    reading.check_count(settings["readers"])
    if settings["seed"] < 0:
        raise ValueError(f"the seed must not be negative: {settings['seed']}")


def _claim(output: Path, parameters: dict) -> None:
    """Write the set's parameters, or compare them with the existing ones."""
    path = output / "phantom.json"
    if not path.exists():
        artifacts.write_json(path, parameters)
        return
    made_with = artifacts.read_json(path)
    for key in sorted(parameters.keys() | made_with.keys()):
        if made_with.get(key) != parameters.get(key):
            raise ValueError(
                f"{output} was made with {key} {made_with.get(key)}, not {parameters.get(key)}; "
                "choose another folder or remove this one"
            )


def _record_path(output: Path, image_name: str) -> Path:
    return output / "records" / f"{image_name}.json"


def _image_path(output: Path, image_name: str) -> Path:
    return output / "dicom" / f"{image_name}.dicom"


def _is_there(output: Path, image_name: str) -> bool:
    return _image_path(output, image_name).exists() and _record_path(output, image_name).exists()


def _render(output: Path, indices: list[int], settings: dict, jobs: int, progress: bool) -> None:
    if not indices:
        return
    patients = image.patients(settings["seed"], max(indices) + 1)
    tasks = [(index, patients[index]) for index in indices]
    render = partial(_render_one, str(output), settings)
    with Bar(total=len(tasks), desc="Rendering images", unit="image", disable=not progress) as bar:
        if min(jobs, len(tasks)) == 1:
            for task in tasks:
                render(task)
                bar.update()
            return
        context = multiprocessing.get_context("spawn")  # a fork would copy the caller's threads in an undefined state
        with ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_begin_worker) as pool:
            for _ in pool.map(render, tasks, chunksize=4):
                bar.update()


def _begin_worker() -> None:
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()  # no orphans after a kill


def _render_one(output: str, settings: dict, task: tuple[int, str]) -> None:
    """Write one image's record and DICOM file; the record first, so that an existing image is complete."""
    index, patient = task
    seed, size = settings["seed"], settings["size"]
    name = image.image_name(seed, index)
    rendered = image.render_image(seed, index, size, settings["finding_share"])
    height, width = rendered.pixels.shape
    rng = image.stream(seed, index, "readers")
    rad_ids = reading.choose_readers(rng, bool(rendered.drawn), settings["readers"])
    rows = reading.read_image(rng, rad_ids, rendered.drawn, width, height)
    style = dicom_writer.draw_style(image.stream(seed, index, "style"), size)
    record = {
        "image_name": name,
        "patient_id": patient,
        "width": width,
        "height": height,
        "findings": [
            {"class_name": one, "box_xyxy": box, "conspicuity": drawn.conspicuity}
            for (one, box), drawn in zip(rendered.findings, rendered.drawn, strict=True)
        ],
        "heart_ratio": rendered.heart_ratio,
        "knob_radius": rendered.knob_radius,
        "syntax": style.syntax,
        "photometric": style.photometric,
        "rows": rows,
    }
    artifacts.write_json(_record_path(Path(output), name), record)
    dicom_writer.write_dicom(_image_path(Path(output), name), rendered.pixels, style)


def _write_tables(output: Path, records: list[dict], settings: dict) -> list[dict]:
    """Write train.csv, patients.csv and truth.json; return the readers' rows."""
    rows = [_csv_row(record["image_name"], row) for record in records for row in record["rows"]]
    order = image.stream(settings["seed"], len(records), "row order").permutation(len(rows))
    rows = [rows[i] for i in order]
    artifacts.write_csv(output / "train.csv", rows, _COLUMNS)
    patients = [{"image_id": record["image_name"], "patient_id": record["patient_id"]} for record in records]
    artifacts.write_csv(output / "patients.csv", patients, ("image_id", "patient_id"))
    truth = [{key: value for key, value in record.items() if key != "rows"} for record in records]
    artifacts.write_json(output / "truth.json", {"settings": settings, "images": truth})
    return rows


def _csv_row(image_name: str, row: dict) -> dict:
    name = row["class_name"] or NO_FINDING
    class_id = len(CLASS_NAMES) if row["class_name"] is None else CLASS_NAMES.index(name)
    corners = row["box"] or (None,) * 4
    box = dict(zip(_COLUMNS[4:], corners, strict=True))
    return {"image_id": image_name, "class_name": name, "class_id": class_id, "rad_id": row["rad_id"], **box}
