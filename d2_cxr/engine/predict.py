"""Findings for files and folders, written as they are found: what `tools/predict.py` does.

Images are decoded in worker processes, as in preparation: a file whose decoder hangs or crashes is refused alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from d2_cxr import artifacts
from d2_cxr.dicom.image_files import kind_of
from d2_cxr.engine import findings
from d2_cxr.engine.findings import Findings
from d2_cxr.engine.predictor import Predictor
from d2_cxr.preparation import workers

logger = logging.getLogger(__name__)
_HEADER_BYTES = 133  # enough to distinguish DICOM, PNG and JPEG
_MAX_JOBS = 4  # decoding processes
_RESULTS = ("findings.json", "findings.csv", "findings.jsonl", "refused.csv")


def image_files(inputs: Sequence[str | Path]) -> tuple[list[Path], dict[str, str]]:
    """Return the image files among files and folders (searched recursively), each once, in a fixed order.

    A named file is always listed, whatever it holds; a file inside a folder is listed if its first bytes are those of
    an image, or if it cannot be opened.

    Returns:
        the files, and file -> reason for names that are not UTF-8, which no result file could hold.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder contains no image.
    """
    found: dict[Path, None] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = [path for path in sorted(entry.rglob("*")) if path.is_file() and _may_be_image(path)]
            if not inside:
                raise ValueError(f"folder {entry} contains no DICOM, PNG or JPEG file")
            found |= dict.fromkeys(inside)
        elif entry.is_file():
            found[entry] = None
        else:
            raise FileNotFoundError(f"image {entry} does not exist")
    unnamed = {path: os.fsencode(path).decode("utf-8", "backslashreplace") for path in found if not _is_utf8(path)}
    refused = dict.fromkeys(unnamed.values(), "the file name is not UTF-8; rename the file")
    return [path for path in found if path not in unnamed], refused


def predict(
    predictor: Predictor, inputs: Sequence[str | Path], output: str | Path, overlays: bool = True
) -> tuple[list[Findings], dict[str, str]]:
    """Write findings.json, findings.csv, detector.json, overlays/ and, if images were refused, refused.csv.

    findings.jsonl (one image per line), overlays/ and refused.csv are written image by image, so that an interrupted
    run keeps them; findings.json and findings.csv replace findings.jsonl at the end. The results of an earlier run in
    the folder are removed first.

    Args:
        predictor: the detector.
        inputs: files and folders.
        output: folder.
        overlays: also write one picture per image with the reported boxes.

    Returns:
        the findings of the images that could be read, in the order of the inputs, and file -> reason for the others.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder contains no image, or no image at all could be read (refused.csv names the reasons).
        OSError: a result cannot be written.
    """
    files, refused = image_files(inputs)
    delivery = _Delivery(Path(output), predictor, refused=refused)
    with delivery.opened():
        decoded = _decoded(files, predictor, delivery, overlays)
        for path, parts in tqdm(decoded, desc="predict", total=len(files), unit="image", disable=None):
            delivery.add(path, parts)
    if not delivery.done:
        path, reason = next(iter(refused.items()))
        raise ValueError(f"no image could be read; {path}: {reason} (all reasons: {Path(output) / 'refused.csv'})")
    images = [delivery.done[path] for path in files if path in delivery.done]
    findings.write_csv(Path(output) / "findings.csv", images)
    findings.write_json(Path(output) / "findings.json", images)
    (Path(output) / "findings.jsonl").unlink()
    return images, refused


@dataclass
class _Delivery:
    """The output folder of one call: every image is written as soon as it is finished."""

    output: Path
    predictor: Predictor
    refused: dict[str, str]
    done: dict[Path, Findings] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Remove an earlier run's results, write detector.json, and hold a scratch folder for decoded images."""
        for name in _RESULTS:
            (self.output / name).unlink(missing_ok=True)
        detector = {"card": self.predictor.card.to_dict(), "thresholds": self.predictor.thresholds}
        artifacts.write_json(self.output / "detector.json", detector)
        for file, reason in list(self.refused.items()):
            self.refuse(file, reason)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=self.output) as scratch:
            self.scratch = Path(scratch)
            with open(self.output / "findings.jsonl", "w", encoding="utf-8") as self._lines:
                yield

    def add(self, path: Path, parts: dict[str, dict]) -> None:
        """Detect on one decoded image and write the result; refuse it where its decoding failed."""
        result = parts["network"]
        if result["outcome"] != "prepared":
            self.refuse(str(path), result["reason"])
            return
        found = self.predictor.detect(
            _taken(parts["network"]), str(path), (result["columns"], result["rows"]), attributes=result
        )
        if parts.get("shown", {}).get("outcome") == "prepared":
            drawn = findings.draw(found, _taken(parts["shown"]))
            path_of_png = self.output / "overlays" / f"{free_name(found.image_name, self._names)}.png"
            artifacts.write_bytes(path_of_png, findings.png_of(drawn))
        self._lines.write(json.dumps(found.to_dict(), ensure_ascii=False) + "\n")
        self._lines.flush()
        self.done[path] = found

    def refuse(self, file: str, reason: str) -> None:
        """Write one more row of refused.csv."""
        self.refused[file] = reason
        logger.warning("refused %s: %s", file, reason)
        rows = [{"file": file, "reason": reason} for file, reason in self.refused.items()]
        artifacts.write_csv(self.output / "refused.csv", rows, ["file", "reason"], for_people=True)


def _decoded(
    files: Sequence[Path], predictor: Predictor, delivery: _Delivery, overlays: bool
) -> Iterator[tuple[Path, dict[str, dict]]]:
    """Yield each file with the worker's results: "network", the detector's input, and "shown", the overlay's image."""
    views = {"network": predictor.preprocess, **({"shown": findings.SHOWN} if overlays else {})}
    tasks = [
        {"path": str(path), "png": f"{delivery.scratch}/{index}-{view}.png", "rules": rules.to_dict(), "view": view}
        for index, path in enumerate(files)
        for view, rules in views.items()
    ]
    waiting: dict[str, dict[str, dict]] = {}
    for task, result in workers.run(tasks, jobs=min(_MAX_JOBS, os.cpu_count() or 1, len(tasks))):
        parts = waiting.setdefault(task["path"], {})
        parts[task["view"]] = {**result, "png": task["png"]}
        if len(parts) == len(views):
            yield Path(task["path"]), waiting.pop(task["path"])


def free_name(name: str, taken: set[str]) -> str:
    """Return a name for a file, numbered where images of different folders share it; adds it to `taken`."""
    name = name.replace("/", "_")
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def _taken(result: dict) -> np.ndarray:
    """Return a worker's picture, (H, W) uint8, and delete its file."""
    pixels = cv2.imread(result["png"], cv2.IMREAD_GRAYSCALE)
    os.remove(result["png"])
    return np.asarray(pixels)


def _may_be_image(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(_HEADER_BYTES)) is not None
    except OSError:
        return True  # refused by name when it is read


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
