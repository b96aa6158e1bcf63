"""Operating thresholds: chosen on one set of films, reported on another.

A detector is used at a threshold, and one that was chosen on the films it is reported on flatters it. So thresholds
travel as a document (`thresholds.json`, which `tools/predict.py --thresholds` takes) that says where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from d2_cxr.evaluation import bootstrap, froc
from d2_cxr.evaluation.matching import HIT_RULES, Matches

FORMAT_VERSION = 1
DEFAULT_RATE = 1 / 8  # a class; 14 classes then give at most 1.75 false positives a film


def choose(matches: Matches, dataset: str, rate: float = DEFAULT_RATE, rule: str = "iou") -> dict:
    """Return the content of `thresholds.json`.

    Per class the lowest score with at most `rate` false positives a film, normal films counted; null where no finding
    of the class is found at that rate, which means: report nothing of that class.
    """
    return {
        "format_version": FORMAT_VERSION,
        "chosen_on": dataset,
        "num_films": matches.num_films,
        "num_normal_films": int(matches.film_normal.sum()),
        "false_positives_per_film": rate,
        "hit_rule": HIT_RULES[rule],
        "definition": "per class the lowest score with at most that many false positives a film; null: report nothing",
        "thresholds": froc.choose_thresholds(matches, rate, rule),
    }


def report(matches: Matches, document: Mapping, dataset: str, weights: np.ndarray) -> dict:
    """Say what passes thresholds that were chosen on other films.

    Args:
        document: the content of `thresholds.json`.
        weights: (F, 1 + B), the original sample first.

    Returns:
        `chosen_on`, `pooled` and `per_class`: sensitivity, false positives a film with findings and a normal film,
        each with value, interval and n.

    Raises:
        ValueError: the thresholds were chosen on these very films, or miss a class.
    """
    if dataset and document["chosen_on"] == dataset:
        raise ValueError(f"the thresholds were chosen on {dataset}; report them on another set than that")
    missing = [name for name in matches.class_names if name not in document["thresholds"]]
    if missing:
        raise ValueError(f"the thresholds lack {', '.join(missing)}; choose them with the classes of this set")
    counts = froc.at_thresholds(matches, document["thresholds"], weights)
    films = {"findings": weights[~matches.film_normal].sum(axis=0), "normals": weights[matches.film_normal].sum(axis=0)}
    pooled = {key: value.sum(axis=0) for key, value in counts.items()}
    names = enumerate(matches.class_names)
    return {
        "chosen_on": document["chosen_on"],
        "chosen_false_positives_per_film": document["false_positives_per_film"],
        "pooled": _operating_point(pooled, films),
        "per_class": {
            name: {
                "threshold": document["thresholds"][name],
                **_operating_point({key: value[index] for key, value in counts.items()}, films),
            }
            for index, name in names
        },
    }


def _operating_point(counts: Mapping[str, np.ndarray], films: Mapping[str, np.ndarray]) -> dict:
    return {
        "sensitivity": _ratio(counts["found"], counts["lesions"], "boxes"),
        "false_positives_per_finding_film": _ratio(counts["false_findings"], films["findings"], "films"),
        "false_positives_per_normal_film": _ratio(counts["false_normals"], films["normals"], "films"),
    }


def _ratio(part: np.ndarray, whole: np.ndarray, unit: str) -> dict:
    values = np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
    defined = np.isfinite(values[0])
    return {
        "value": float(values[0]) if defined else None,
        "interval": bootstrap.interval(values[1:]) if defined else None,
        "n": int(whole[0]),
        "unit": unit,
    }
