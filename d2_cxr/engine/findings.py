"""What a detector found on an image, and the files it is delivered in (docs/formats.md, 4).

Boxes are in the source file's own pixels. `reported` says which findings pass the operating thresholds; all that the
detector gave are kept, because another reader may want another threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from d2_cxr import artifacts
from d2_cxr.delivery.picture import draw_on_image
from d2_cxr.drawing import class_color

DEFAULT_THRESHOLD = 0.3  # of the score, where a detector brings no thresholds of its own
CSV_COLUMNS = ("file", "image_name", "class", "score", "x_min", "y_min", "x_max", "y_max", "reported", "image_score")


@dataclass(frozen=True)
class Findings:
    """The findings on one image, the most certain first.

    Attributes:
        file: as it was given.
        image_name: the file's name without its suffix.
        width, height: of the source image, pixels.
        pixel_spacing_mm: (row, column), None where the file does not tell.
        spacing_tag: the DICOM keyword that told it, "" where none did.
        class_names: N names.
        class_ids: (N,) int, their places among the detector's classes.
        scores: (N,) float64 in [0, 1].
        boxes_xyxy: (N, 4) float64 in [0, width] x [0, height].
        reported: (N,) bool, passes the threshold of its class.
    """

    file: str
    image_name: str
    width: int
    height: int
    pixel_spacing_mm: tuple[float, float] | None
    spacing_tag: str
    class_names: tuple[str, ...]
    class_ids: np.ndarray
    scores: np.ndarray
    boxes_xyxy: np.ndarray
    reported: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def image_score(self) -> float:
        """The image's score for "something is there": its highest box; 0 without any."""
        return float(self.scores.max(initial=0.0))

    def to_dict(self) -> dict:
        """Return the image's entry of findings.json."""
        found = zip(self.class_names, self.scores, self.boxes_xyxy, self.reported, strict=True)
        return {
            "file": self.file,
            "image_name": self.image_name,
            "width": self.width,
            "height": self.height,
            "pixel_spacing_mm": list(self.pixel_spacing_mm) if self.pixel_spacing_mm else None,
            "spacing_tag": self.spacing_tag,
            "image_score": round(self.image_score, 6),
            "findings": [
                {
                    "class": name,
                    "score": round(float(score), 6),
                    "box_xyxy": [round(float(value), 2) for value in box],
                    "reported": bool(reported),
                }
                for name, score, box, reported in found
            ],
        }


def passes(class_names: Sequence[str], scores: np.ndarray, thresholds: Mapping | None) -> np.ndarray:
    """Return (N,) bool: which findings an operating threshold lets through.

    Args:
        thresholds: content of a `thresholds.json`: per class a score, or null for "report nothing of this class"; None
            takes DEFAULT_THRESHOLD for every class.

    Raises:
        ValueError: a class has no entry.
    """
    if thresholds is None:
        return np.asarray(scores) >= DEFAULT_THRESHOLD
    chosen = thresholds["thresholds"]
    missing = sorted(set(class_names) - set(chosen))
    if missing:
        raise ValueError(
            f"the thresholds have no entry for {', '.join(missing)}; choose them with this detector's classes"
        )
    limits = np.array([np.inf if chosen[name] is None else chosen[name] for name in class_names], dtype=float)
    return np.asarray(scores) >= limits


def write_json(path: str | Path, images: Sequence[Findings]) -> None:
    """Write findings.json: one entry an image."""
    artifacts.write_json(path, [image.to_dict() for image in images])


def write_csv(path: str | Path, images: Sequence[Findings]) -> None:
    """Write one row a finding; an image without any has a row with empty cells, so that none seems forgotten."""
    artifacts.write_csv(path, [row for image in images for row in _rows(image)], CSV_COLUMNS)


def overlay(radiograph: Findings) -> np.ndarray:
    """Return the image as it is meant to be seen, reported boxes drawn: (h, w, 3) uint8 RGB, no side above 1024."""
    shown = [index for index in range(len(radiograph)) if radiograph.reported[index]]
    return draw_on_image(
        radiograph.file,
        radiograph.boxes_xyxy[radiograph.reported],
        labels=[f"{radiograph.class_names[index]} {radiograph.scores[index]:.2f}" for index in shown],
        colors=[class_color(int(radiograph.class_ids[index])) for index in shown],
    )


def write_overlay(path: str | Path, radiograph: Findings) -> None:
    """Write the overlay as PNG."""
    image = cv2.cvtColor(overlay(radiograph), cv2.COLOR_RGB2BGR)
    artifacts.write_bytes(path, cv2.imencode(".png", image)[1].tobytes())  # imwrite would fail without an error


def _rows(image: Findings) -> list[dict]:
    common = {"file": image.file, "image_name": image.image_name, "image_score": round(image.image_score, 6)}
    rows = []
    for entry in image.to_dict()["findings"]:
        corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), entry["box_xyxy"], strict=True))
        rows.append(
            {**common, "class": entry["class"], "score": entry["score"], "reported": entry["reported"], **corners}
        )
    return rows or [common]
