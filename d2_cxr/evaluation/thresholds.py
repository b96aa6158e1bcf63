"""Operating thresholds: chosen on one set of images, reported on another.

A threshold that was chosen on the reported images overstates a detector. So thresholds are a document
(`thresholds.json`, which `tools/predict.py --thresholds` takes) that names the set they were chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d2_cxr.evaluation import estimates, froc, ranking
from d2_cxr.evaluation.matching import HIT_RULES, Matches

FORMAT_VERSION = 1
DEFAULT_RATE = 1 / 8  # per class; 14 classes then give at most 1.75 false positives per image


def choose(matches: Matches, dataset: str, rate: float = DEFAULT_RATE) -> dict:
    """Return the content of `thresholds.json`.

    It holds per class the lowest score with at most `rate` false positives per image, negative images counted, or null
    where no finding of the class is found at that rate: report nothing of that class.
    """
    return {
        "format_version": FORMAT_VERSION,
        "chosen_on": dataset,
        "num_images": matches.num_images,
        "num_negative_images": int(matches.image_negative.sum()),
        "false_positives_per_image": rate,
        "hit_rule": HIT_RULES["iou"],
        "definition": "per class the lowest score with at most that many false positives per image; null: no report",
        "thresholds": froc.choose_thresholds(matches, rate),
    }


def report(matches: Matches, document: Mapping, dataset: str, weights: np.ndarray) -> dict:
    """Return sensitivity and false positives at thresholds that were chosen on other images.

    Args:
        document: the content of `thresholds.json`.
        weights: (F, 1 + B), the original sample first.

    Returns:
        `chosen_on`, `pooled` and `per_class`: sensitivity, false positives per image with findings and per negative
        image, each with value, interval and n.

    Raises:
        ValueError: the thresholds were chosen on these very images, or miss a class.
    """
    check_thresholds(document, matches.class_names, "thresholds")
    if not isinstance(document.get("chosen_on"), str):
        raise ValueError("the thresholds do not state on which set they were chosen (chosen_on); choose them again")
    if dataset and document["chosen_on"] == dataset:
        raise ValueError(f"the thresholds were chosen on {dataset}; report them on another set")
    counts = froc.at_thresholds(matches, document["thresholds"], weights)
    images = {
        "findings": weights[~matches.image_negative].sum(axis=0),
        "negatives": weights[matches.image_negative].sum(axis=0),
    }
    pooled = {key: value.sum(axis=0) for key, value in counts.items()}
    names = enumerate(matches.class_names)
    return {
        "chosen_on": document["chosen_on"],
        "chosen_false_positives_per_image": document.get("false_positives_per_image"),
        "pooled": _operating_point(pooled, images),
        "per_class": {
            name: {
                "threshold": document["thresholds"][name],
                **_operating_point({key: value[index] for key, value in counts.items()}, images),
            }
            for index, name in names
        },
    }


def check_thresholds(document: Any, class_names: Sequence[str], source: str) -> dict:
    """Return the content of a thresholds.json after checking it.

    Args:
        document: as read.
        class_names: of the detector.
        source: the file, for errors.

    Raises:
        ValueError: it is not {"thresholds": {class: score or null}}, lacks a class, or a score is outside 0 to 1.
    """
    chosen = document.get("thresholds") if isinstance(document, Mapping) else None
    if not isinstance(chosen, Mapping):
        raise ValueError(f'{source} is not a thresholds.json: it has no entry "thresholds" with a score for each class')
    missing = [name for name in class_names if name not in chosen]
    if missing:
        raise ValueError(
            f"{source}: no threshold for {', '.join(missing)}; choose thresholds with this detector's classes"
        )
    for name, value in chosen.items():
        is_score = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if value is not None and not is_score:  # NaN is not in 0 to 1 either
            raise ValueError(
                f"{source}: the threshold of {str(name)[:60]} is {repr(value)[:40]}; give a score from 0 to 1, or null"
            )
    return dict(document)


def _operating_point(counts: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray]) -> dict:
    return {
        "sensitivity": _ratio(counts["found"], counts["lesions"], "boxes"),
        "false_positives_per_finding_image": _ratio(counts["false_findings"], images["findings"], "images"),
        "false_positives_per_negative_image": _ratio(counts["false_negatives"], images["negatives"], "images"),
    }


def _ratio(part: np.ndarray, whole: np.ndarray, unit: str) -> dict:
    return estimates.estimate(ranking.ratio(part, whole), int(whole[0]), unit)
