"""Findings -> DICOM objects, for `tools/predict.py --sr` and `tools/serve_dicom.py`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from d2_cxr import __version__, artifacts
from d2_cxr.delivery.source import Algorithm, DeliveryError, ScoredBox, read_source, to_bytes
from d2_cxr.image_name import png_name
from d2_cxr.prediction.findings import Findings
from d2_cxr.prediction.predictor import Predictor

logger = logging.getLogger(__name__)


def deliver(
    images: Sequence[Findings],
    predictor: Predictor,
    output: str | Path,
    kinds: Sequence[str] = ("sr",),
    assume_uids: bool = False,
) -> dict[str, str]:
    """Write the reported findings of images as DICOM objects, a folder a kind (docs/reading_room.md).

    Args:
        images: findings.
        predictor: who found them.
        output: folder.
        kinds: of delivery.deliver.KINDS: sr, gsps, key_image.
        assume_uids: derive UIDs for files that have none, and write a copy of each such image with them to `images/`.

    Returns:
        file -> reason, of the images that nothing could be delivered for; also in `not_delivered.csv`.
    """
    from d2_cxr.delivery.deliver import deliver_image  # needs highdicom

    algorithm, limits = _described(predictor)
    failed: dict[str, str] = {}
    taken: set[str] = set()
    for image in images:
        name = _free_name(image.image_name, taken)
        try:
            deliver_image(image.file, reported(image), limits, algorithm, output, name, kinds, assume_uids)
        except DeliveryError as error:
            failed[image.file] = str(error)
            logger.warning("not delivered: %s", error)
    if failed:
        rows = [{"file": path, "reason": reason} for path, reason in failed.items()]
        artifacts.write_csv(Path(output) / "not_delivered.csv", rows, ["file", "reason"], for_people=True)
    return failed


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name of an image's files, numbered where images share it; adds it to `taken`."""
    name = png_name(name).removesuffix(".png")
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def reported(image: Findings) -> list[ScoredBox]:
    """Return the findings of an image that pass the threshold of their class, the most certain first."""
    shown = image.reported
    found = zip(shown.class_names, shown.scores, shown.boxes_xyxy, strict=True)
    return [ScoredBox(name, float(score), tuple(box.tolist())) for name, score, box in found]


def answer_with_report(predictor: Predictor) -> Callable[[Path], bytes]:
    """Return a function: path of a DICOM image -> bytes of its structured report; it raises ValueError."""
    from d2_cxr.delivery.structured_report import structured_report  # needs highdicom

    algorithm, limits = _described(predictor)

    def answer(path: Path) -> bytes:
        source = read_source(path)
        return to_bytes(structured_report(source, reported(predictor(path)), limits, algorithm))

    return answer


def _described(predictor: Predictor) -> tuple[Algorithm, dict[str, float | None]]:
    """Return a detector as a delivered object names it, and class name -> lowest reported score, None for no score."""
    limits = zip(predictor.class_names, predictor.limits.tolist(), strict=True)
    found = {name: limit if math.isfinite(limit) else None for name, limit in limits}
    return Algorithm("d2_cxr", __version__, predictor.weights_sha256), found
