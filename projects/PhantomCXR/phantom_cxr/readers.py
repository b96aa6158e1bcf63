"""Three simulated readers per image: who reads, what they miss, where they put their boxes.

The pool and its imbalance follow aggregates of VinDr-CXR: seventeen readers, of whom R8, R9 and R10 read most images
with findings. Simulated readers differ in how much they see, how wide their boxes are and how precise.
Any of them may confuse two similar classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from d2_cxr.projects.phantom_cxr.finding import Finding

from d2_cxr import boxes

READERS = tuple(f"R{number}" for number in range(1, 18))
MAIN_TRIO = ("R8", "R9", "R10")
_TRIO_SHARE = {True: 0.94, False: 0.13}  # images with and without findings that the three main readers read

# How often the others read, in percent of all images.
_OTHERS = {"R1": 13, "R2": 21, "R3": 15, "R4": 10, "R5": 19, "R6": 14, "R7": 12, "R11": 10}
_OTHERS |= {"R12": 11, "R13": 11, "R14": 10, "R15": 11, "R16": 11, "R17": 5}
_RARE = {"R8": 4, "R9": 4, "R10": 4}

# Log odds that an average reader sees an average finding of the class.
_SEEN = {
    "Aortic enlargement": 1.8,
    "Cardiomegaly": 2.0,
    "Pleural effusion": 1.7,
    "Pneumothorax": 1.3,
    "Nodule/Mass": 1.1,
    "Pulmonary fibrosis": 1.0,
}
_SEEN_ELSE = 0.6

_MISTAKEN_FOR = {  # classes that readers confuse
    "Consolidation": ("Infiltration", "Lung Opacity"),
    "Infiltration": ("Lung Opacity", "Consolidation"),
    "Lung Opacity": ("Infiltration", "Consolidation"),
    "ILD": ("Pulmonary fibrosis",),
    "Pulmonary fibrosis": ("ILD", "Infiltration"),
    "Pleural thickening": ("Pleural effusion",),
    "Nodule/Mass": ("Other lesion",),
    "Atelectasis": ("Lung Opacity",),
}
_MISTAKE = 0.10


@dataclass(frozen=True)
class Reader:
    """One reader's habits, the same on every image of every set."""

    rad_id: str
    sharpness: float  # added to the log odds of seeing
    margin: float  # how much wider than the finding the box is, as a fraction of its side
    unsteadiness: float  # standard deviation of an edge, as a fraction of the side


def reader(rad_id: str) -> Reader:
    """Return the reader of an id such as R8; the same habits each time."""
    number = int(rad_id[1:])
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([17, number])))
    return Reader(
        rad_id, rng.normal(0, 0.4), float(np.clip(rng.normal(0.03, 0.03), -0.03, 0.1)), rng.uniform(0.03, 0.06)
    )


def check_count(count: int) -> None:
    """Raise ValueError unless count is between 1 and 17."""
    if not 1 <= count <= len(READERS):
        raise ValueError(f"an image has 1 to {len(READERS)} readers, not {count}")


def choose_readers(rng: np.random.Generator, has_findings: bool, count: int = 3) -> tuple[str, ...]:
    """Return the ids of `count` different readers of an image.

    Raises:
        ValueError: count is not between 1 and 17.
    """
    check_count(count)
    if count <= len(MAIN_TRIO) and rng.random() < _TRIO_SHARE[has_findings]:
        return tuple(MAIN_TRIO[i] for i in rng.permutation(len(MAIN_TRIO))[:count])
    weights = np.array([(_OTHERS | _RARE)[name] for name in READERS], dtype=np.float64)
    return tuple(READERS[i] for i in rng.choice(len(READERS), count, replace=False, p=weights / weights.sum()))


def read_image(
    rng: np.random.Generator, rad_ids: tuple[str, ...], drawn: list[Finding], width: int, height: int
) -> list[dict]:
    """Return the rows that these readers write about an image.

    An image without findings gets one "No finding" row per reader (class_name None, no box). On an image with findings
    every reader draws at least one box, as in VinDr-CXR: a reader who would miss all draws the most conspicuous.

    Returns:
        dicts of rad_id, class_name and box (4 floats, whole pixels, inside the image) or None.
    """
    if not drawn:
        return [{"rad_id": name, "class_name": None, "box": None} for name in rad_ids]
    return [row for name in rad_ids for row in _read(rng, reader(name), drawn, width, height)]


def _read(rng: np.random.Generator, habits: Reader, drawn: list[Finding], width: int, height: int) -> list[dict]:
    odds = np.array([_SEEN.get(f.class_name, _SEEN_ELSE) + 2.2 * (f.conspicuity - 0.5) for f in drawn])
    seen = rng.random(len(drawn)) < 1 / (1 + np.exp(-(odds + habits.sharpness)))
    seen[int(np.argmax(odds))] |= not seen.any()
    rows = []
    for finding in (one for one, was_seen in zip(drawn, seen, strict=True) if was_seen):
        name, other = finding.class_name, _MISTAKEN_FOR.get(finding.class_name)
        if other and rng.random() < _MISTAKE:
            name = other[int(rng.integers(len(other)))]
        box = _frame(rng, habits, finding.box_xyxy[0], width, height)
        rows.append({"rad_id": habits.rad_id, "class_name": name, "box": box})
    if rng.random() < 0.06:  # a normal shadow mistaken for a finding
        rows.append({"rad_id": habits.rad_id, "class_name": "Lung Opacity", "box": _false_box(rng, width, height)})
    return rows


def _frame(rng: np.random.Generator, habits: Reader, box: np.ndarray, width: int, height: int) -> list[float]:
    sides = np.tile(box[2:] - box[:2], 2)
    jitter = rng.normal(0, 1, 4) * (habits.unsteadiness * sides + 0.003 * max(width, height))
    drawn = box + habits.margin * sides * [-0.5, -0.5, 0.5, 0.5] + jitter
    return _whole_pixels(drawn, width, height)


def _false_box(rng: np.random.Generator, width: int, height: int) -> list[float]:
    center = rng.uniform(0.25, 0.75, 2) * [width, height]
    half = rng.uniform(0.03, 0.09, 2) * max(width, height)
    return _whole_pixels(np.concatenate([center - half, center + half]), width, height)


def _whole_pixels(box: np.ndarray, width: int, height: int) -> list[float]:
    """Round to whole pixels inside the image, at least 2 pixels per side."""
    x0, y0, x1, y1 = boxes.clip(np.rint(box)[None], width, height)[0]
    x0, y0 = min(x0, width - 2), min(y0, height - 2)
    return [float(x0), float(y0), float(max(x1, x0 + 2)), float(max(y1, y0 + 2))]
