"""The output folder of a prediction: results are written image by image, and the same image is not predicted twice."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from d2_cxr import __version__, artifacts
from d2_cxr.counted import counted
from d2_cxr.drawing import encode_rgb
from d2_cxr.image_name import png_name
from d2_cxr.prediction import findings
from d2_cxr.prediction.findings import Findings
from d2_cxr.prediction.predictor import Predictor

logger = logging.getLogger(__name__)


class FindingsFolder:
    """The results of one call, and those of an earlier call that would be the same.

    An earlier result is kept if detector.json is the same (weights, card, thresholds, version of this package) and
    the file has the same path and content. Others are removed. Refused files are tried again.

    Attributes:
        done: file -> findings.
        refused: file -> reason.
    """

    def __init__(self, output: Path, predictor: Predictor, names: Mapping[Path, str], overlays: bool):
        """Look at nothing yet.

        Args:
            output: folder.
            predictor: the detector.
            names: file -> name of the image, of every file of this call.
            overlays: whether to write a picture per image.
        """
        self.output, self.predictor, self.names, self.overlays = output, predictor, names, overlays
        self.done: dict[Path, Findings] = {}
        self.refused: dict[str, str] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder, take over what an earlier call left, and offer a scratch folder for decoded images.

        Raises:
            ValueError: another process writes there.
        """
        with artifacts.only_one(self.output):
            lines = self._taken_over()
            for name in ("findings.json", "findings.csv", "refused.csv"):
                (self.output / name).unlink(missing_ok=True)
            artifacts.write_text(self.output / "findings.jsonl", "".join(lines))
            artifacts.write_json(self.output / "detector.json", self._detector())
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=self.output) as scratch:
                self.scratch = Path(scratch)
                with open(self.output / "findings.jsonl", "a", encoding="utf-8") as self._lines:
                    yield

    def add(self, path: Path, parts: dict[str, dict]) -> None:
        """Detect on one decoded image and write the result; refuse it where its decoding failed.

        Args:
            path: the image file.
            parts: results of the preparation worker: "network", the detector's input, and "shown", the overlay's image.
        """
        result = parts["network"]
        if result["outcome"] != "prepared":
            self.refuse(str(path), result["reason"])
            return
        size = (result["columns"], result["rows"])
        found = self.predictor.detect(_taken(result), str(path), size, result, self.names[path])
        if parts.get("shown", {}).get("outcome") == "prepared":
            drawn = findings.draw(found, _taken(parts["shown"]))
            artifacts.write_bytes(self._overlay(found.image_name), encode_rgb(drawn))
        self._lines.write(_line({**found.to_dict(exact=True), "source_sha256": result["source_sha256"]}))
        self._lines.flush()
        self.done[path] = found

    def refuse(self, file: str, reason: str) -> None:
        """Write one more row of refused.csv."""
        self.refused[file] = reason
        logger.warning("refused %s: %s", file, reason)
        rows = [{"file": file, "reason": reason} for file, reason in self.refused.items()]
        artifacts.write_csv(self.output / "refused.csv", rows, ["file", "reason"], for_people=True)

    def _taken_over(self) -> list[str]:
        """Fill `done` with earlier results that hold, remove the overlays of the others; return the lines that stay."""
        entries = _read_lines(self.output / "findings.jsonl")
        same, kept = _is_json(self.output / "detector.json", self._detector()), []
        if entries and not same:
            logger.warning("%s holds the results of another detector: they are replaced", self.output)
        by_file = {str(path): path for path in self.names}
        for entry in entries:
            path = by_file.get(str(entry.get("file")))
            found = self._held(path, entry) if same and path else None
            if path and found:
                self.done[path] = found
                kept.append(_line(entry))
            elif isinstance(entry.get("image_name"), str):
                self._overlay(entry["image_name"]).unlink(missing_ok=True)
        if self.done:
            logger.info("kept the results of an earlier call: %s", counted(len(self.done), "image", of=len(self.names)))
        return kept

    def _held(self, path: Path, entry: Mapping) -> Findings | None:
        """Return the findings of an entry, None unless they are whole and of the same file."""
        try:
            found = Findings.from_dict(entry, self.predictor.class_names, self.predictor.lowest_threshold)
            same_file = artifacts.sha256_file(path) == entry["source_sha256"]
        except (KeyError, TypeError, ValueError, OSError):
            return None
        is_drawn = not self.overlays or self._overlay(found.image_name).is_file()
        return found if same_file and is_drawn and found.image_name == self.names[path] else None

    def _detector(self) -> dict:
        return {
            "card": self.predictor.card.to_dict(),
            "thresholds": self.predictor.thresholds,
            "weights_sha256": self.predictor.weights_sha256,
            "project_version": __version__,
        }

    def _overlay(self, name: str) -> Path:
        return self.output / "overlays" / png_name(name)


def _taken(result: dict) -> np.ndarray:
    """Return a worker's picture, (H, W) uint8, and delete its file."""
    pixels = cv2.imread(result["png"], cv2.IMREAD_GRAYSCALE)
    os.remove(result["png"])
    return np.asarray(pixels)


def _line(entry: Mapping) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _read_lines(path: Path) -> list[dict]:
    """Return the whole entries of a findings.jsonl; a line that was cut short by a kill is left out."""
    if not path.is_file():
        return []
    entries: list[Any] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def _is_json(path: Path, value: object) -> bool:
    """Whether a file holds this value."""
    try:
        return bool(artifacts.read_json(path) == json.loads(json.dumps(value)))
    except (OSError, ValueError):
        return False
