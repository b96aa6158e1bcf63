"""A metric as `evaluation.json` writes it: value, interval, n, unit and definition."""

from __future__ import annotations

import numpy as np

from d2_cxr.evaluation import bootstrap, coco, metrics
from d2_cxr.evaluation.matching import Matches


def computation(matches: Matches, weights: np.ndarray) -> metrics.Computation:
    """Prepare all classes under image weights (F, 1 + B), the original sample first."""
    return metrics.Computation(matches, weights, range(len(matches.class_names)))


def defined_overall(matches: Matches) -> list[str]:
    """Return the names of metrics.OVERALL that these images can have."""
    return [name for name, rule in metrics.OVERALL.items() if matches.has_negatives or not rule.needs_negatives]


def overall_entry(computed: metrics.Computation, name: str) -> dict:
    """Describe a name of metrics.OVERALL; means over classes add num_classes and reduced_resamples."""
    rule = metrics.OVERALL[name]
    n = _count(computed, rule.unit, rule.area)
    entry = _entry(computed.overall(name), n, rule.unit, rule.definition, metrics.is_interpolated(name))
    if rule.of is not None:
        defined = np.isfinite(computed.per_class(rule.of))  # (C, 1 + B)
        if rule.summary == "frequent":
            frequent = metrics.frequent(computed.matches)
            defined = defined[frequent]
            entry["n"] = sum(_count(computed, "boxes", 0, index) for index in np.flatnonzero(frequent))
        entry["num_classes"] = int(defined[:, 0].sum())
        entry["reduced_resamples"] = int((defined[:, 1:].sum(axis=0) < defined[:, 0].sum()).sum())
    return entry


def class_entry(computed: metrics.Computation, name: str, index: int) -> dict:
    """Describe a name of metrics.CLASS_METRICS of one class."""
    rule = metrics.CLASS_METRICS[name]
    n = _count(computed, rule.unit, rule.area, index)
    return _entry(computed.per_class(name)[index], n, rule.unit, rule.definition, rule.interpolated)


def _entry(values: np.ndarray, n: int, unit: str, definition: str, interpolated: bool) -> dict:
    """Describe values (1 + B,): the original sample's, then the resamples'."""
    defined = bool(np.isfinite(values[0]))
    limits = bootstrap.interval(bootstrap.corrected(values, interpolated)) if defined else None
    entry = {
        "value": float(values[0]) if defined else None,
        "interval": limits and [min(1.0, max(0.0, limit)) for limit in limits],
        "n": n,
        "unit": unit,
        "undefined_resamples": int((~np.isfinite(values[1:])).sum()),
        "definition": definition,
    }
    if interpolated and limits:
        entry["bias"] = bootstrap.BIAS_OF_SAMPLE * float(bootstrap.resample_bias(values))
    return entry


def _count(computed: metrics.Computation, unit: str, area: int, index: int | None = None) -> int:
    """Count what a metric rests on in the original sample: images, or truth boxes of a class (None: any) and size."""
    original = computed.weights[:, :1]
    if unit == "images":
        return int(original.sum())
    return int(coco.truth_boxes(computed.matches, original, index, area)[0])
