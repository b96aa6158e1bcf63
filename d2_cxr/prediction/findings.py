"""What a detector found on one image, and the files that deliver it (docs/formats.md, 4).

Boxes are in the source file's own pixels. Every box of the detector is kept; `reported` selects those that pass the
operating thresholds, because another reader may want other thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from d2_cxr import artifacts
from d2_cxr.delivery.picture import draw_on_prepared
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.drawing import class_color

DEFAULT_THRESHOLD = 0.3  # of the score, where a detector has no thresholds of its own
CSV_COLUMNS = ("file", "image_name", "class", "score", "x_min", "y_min", "x_max", "y_max", "reported", "image_score")
SHOWN = Preprocess(size=1024, resize="letterbox", equalize="none")  # the picture below an overlay's boxes


@dataclass(frozen=True)
class Findings:
    """The findings on one image, highest score first.

    Attributes:
        file: as it was given; "" for an image that was no file.
        image_name: the file's name without an image suffix (image_name.py); with its folders where files share a name.
        width, height: of the source image, pixels.
        pixel_spacing_mm: (row, column), None where the file does not state it.
        spacing_tag: the DICOM keyword that states it, "" where none does.
        class_names: N names.
        class_ids: (N,) int, indices of the detector's classes.
        scores: (N,) float64 in [0, 1].
        boxes_xyxy: (N, 4) float64 in [0, width] x [0, height].
        is_reported: (N,) bool, the score reaches the threshold of the class.
        lowest_threshold: the lowest operating threshold of any class, 0 to 1; None where no class is reported.
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
    is_reported: np.ndarray
    lowest_threshold: float | None = DEFAULT_THRESHOLD

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        """The reported findings in one line, or "nothing above 0.29"."""
        shown = self.reported
        if not len(shown):
            return "nothing" if self.lowest_threshold is None else f"nothing above {self.lowest_threshold:.2f}"
        return "; ".join(
            f"{name} {score:.2f} at {', '.join(f'{value:.0f}' for value in box)}"
            for name, score, box in zip(shown.class_names, shown.scores, shown.boxes_xyxy, strict=True)
        )

    @property
    def reported(self) -> Findings:
        """The findings that reach the operating threshold of their class."""
        keep = self.is_reported
        names = tuple(name for name, kept in zip(self.class_names, keep, strict=True) if kept)
        arrays = {key: getattr(self, key)[keep] for key in ("class_ids", "scores", "boxes_xyxy", "is_reported")}
        return replace(self, class_names=names, **arrays)

    @property
    def image_score(self) -> float:
        """The image's score for having any finding: its highest box score, 0 without a box."""
        return float(self.scores.max(initial=0.0))

    def to_dict(self, exact: bool = False) -> dict:
        """Return the image's entry of findings.json.

        Args:
            exact: leave scores and boxes as they are, for `from_dict`; else 6 and 2 decimals.
        """
        found = zip(self.class_names, self.scores, self.boxes_xyxy, self.is_reported, strict=True)
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
                    "score": float(score) if exact else round(float(score), 6),
                    "box_xyxy": box.tolist() if exact else [round(float(value), 2) for value in box],
                    "reported": bool(reported),
                }
                for name, score, box, reported in found
            ],
        }

    @classmethod
    def from_dict(cls, entry: Mapping, class_names: Sequence[str], lowest_threshold: float | None) -> Findings:
        """Return the findings of an entry; inverse of `to_dict(exact=True)`.

        Args:
            entry: as `to_dict` returns it.
            class_names: of the detector.
            lowest_threshold: see the class.

        Raises:
            KeyError, TypeError, ValueError: the entry is not one of findings.json.
        """
        rows = entry["findings"]
        names = tuple(str(row["class"]) for row in rows)
        spacing = entry["pixel_spacing_mm"]
        return cls(
            file=str(entry["file"]),
            image_name=str(entry["image_name"]),
            width=int(entry["width"]),
            height=int(entry["height"]),
            pixel_spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
            spacing_tag=str(entry["spacing_tag"]),
            class_names=names,
            class_ids=np.array([list(class_names).index(name) for name in names], dtype=np.int64),
            scores=np.array([row["score"] for row in rows], dtype=np.float64),
            boxes_xyxy=np.array([row["box_xyxy"] for row in rows], dtype=np.float64).reshape(-1, 4),
            is_reported=np.array([row["reported"] for row in rows], dtype=bool),
            lowest_threshold=lowest_threshold,
        )


def limits_of(class_names: Sequence[str], thresholds: Mapping | None) -> np.ndarray:
    """Return the lowest reported score of each name, (N,) float64; infinite where a class is not reported.

    Args:
        thresholds: a checked thresholds.json; None is DEFAULT_THRESHOLD for every class.
    """
    if thresholds is None:
        return np.full(len(class_names), DEFAULT_THRESHOLD)
    chosen = thresholds["thresholds"]
    return np.array([math.inf if chosen[name] is None else chosen[name] for name in class_names], dtype=float)


def write_json(path: str | Path, images: Sequence[Findings]) -> None:
    """Write findings.json: one entry per image."""
    artifacts.write_json(path, [image.to_dict() for image in images])


def write_csv(path: str | Path, images: Sequence[Findings]) -> None:
    """Write one row per finding; an image without findings has one row with empty cells."""
    artifacts.write_csv(path, [row for image in images for row in _rows(image)], CSV_COLUMNS, for_people=True)


def draw(found: Findings, shown: np.ndarray) -> np.ndarray:
    """Return an image with its reported boxes: (h, w, 3) uint8 RGB, longer side 1024.

    Args:
        shown: (1024, 1024) uint8, the image prepared with the rules SHOWN.
    """
    reported = found.reported
    labels = [f"{name} {score:.2f}" for name, score in zip(reported.class_names, reported.scores, strict=True)]
    colors = [class_color(int(index)) for index in reported.class_ids]
    return draw_on_prepared(shown, (found.width, found.height), SHOWN, reported.boxes_xyxy, labels, colors)


def _rows(image: Findings) -> list[dict]:
    common = {"file": image.file, "image_name": image.image_name, "image_score": round(image.image_score, 6)}
    rows = []
    for entry in image.to_dict()["findings"]:
        corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), entry["box_xyxy"], strict=True))
        rows.append(
            {**common, "class": entry["class"], "score": entry["score"], "reported": entry["reported"], **corners}
        )
    return rows or [common]
