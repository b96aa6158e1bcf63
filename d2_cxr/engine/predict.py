"""Findings for files and folders, written side by side: what `tools/predict.py` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from d2_cxr import artifacts
from d2_cxr.dicom.image_files import ImageError, kind_of
from d2_cxr.engine import findings
from d2_cxr.engine.findings import Findings

logger = logging.getLogger(__name__)
_HEADER_BYTES = 133  # tell DICOM, PNG and JPEG apart


def image_files(inputs: Sequence[str | Path]) -> list[Path]:
    """Return the image files among files and folders (searched through), each once, in a fixed order.

    A file that is named is taken whatever it holds, and refused when it is read; files inside a folder are taken when
    their first bytes are an image's.

    Raises:
        FileNotFoundError: an input is not there.
        ValueError: a folder holds no image.
    """
    found: dict[Path, None] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = [path for path in sorted(entry.rglob("*")) if path.is_file() and _is_image(path)]
            if not inside:
                raise ValueError(f"folder {entry} holds no DICOM, PNG or JPEG file")
            found |= dict.fromkeys(inside)
        elif entry.is_file():
            found[entry] = None
        else:
            raise FileNotFoundError(f"image {entry} does not exist")
    return list(found)


def predict(
    predictor: Callable[[Path], Findings], inputs: Sequence[str | Path], output: str | Path, overlays: bool = True
) -> tuple[list[Findings], dict[str, str]]:
    """Write findings.json, findings.csv, detector.json, overlays/ and, where images were refused, refused.csv.

    Args:
        predictor: `Predictor`.
        inputs: files and folders.
        output: folder.
        overlays: also a picture an image.

    Returns:
        findings of the images that could be read, and file -> reason of the others.

    Raises:
        FileNotFoundError, ValueError: see `image_files`; or not one image could be read. Nothing is written then.
    """
    images, refused = [], {}
    for path in tqdm(image_files(inputs), desc="predict", unit="image", disable=None):
        try:
            images.append(predictor(path))
        except ImageError as error:
            refused[str(path)] = str(error).removeprefix(f"{path}: ")
    if not images:
        path, reason = next(iter(refused.items()))
        raise ValueError(f"no image could be read; {path}: {reason}")
    _write(Path(output), images, refused, predictor, overlays)
    return images, refused


def _write(output: Path, images: list[Findings], refused: dict[str, str], predictor, overlays: bool) -> None:
    if overlays:
        taken: set[str] = set()
        for image in images:
            name = free_name(image.image_name, taken)
            findings.write_overlay(output / "overlays" / f"{name}.png", image)
    detector = {"card": predictor.card.to_dict(), "thresholds": predictor.thresholds}
    artifacts.write_json(output / "detector.json", detector)
    findings.write_csv(output / "findings.csv", images)
    if refused:
        rows = [{"file": path, "reason": reason} for path, reason in refused.items()]
        artifacts.write_csv(output / "refused.csv", rows, ["file", "reason"])
        for path, reason in refused.items():
            logger.warning("refused %s: %s", path, reason)
    findings.write_json(output / "findings.json", images)


def _is_image(path: Path) -> bool:
    with open(path, "rb") as file:
        return kind_of(file.read(_HEADER_BYTES)) is not None


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, numbered when two images of different folders share it."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free
