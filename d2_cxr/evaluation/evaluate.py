"""Truth and results to `evaluation.json`: every metric with its value, interval, n and definition."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2_cxr import artifacts
from d2_cxr.evaluation import bootstrap, coco, errors, metrics, strata, thresholds
from d2_cxr.evaluation.constant_box import constant_box_results
from d2_cxr.evaluation.matching import Matches, match
from d2_cxr.evaluation.reader_comparison import compare_with_readers, read_twice

FORMAT_VERSION = 1
NUM_WORST = 50
_WORST_COLUMNS = ("film", "missed", "false_positives", "hits")
COMPARED = ("mAP", "AP50", "mAP_support_weighted", "AR_agnostic", "AP40_vinbigdata", "mean_best_iou", "froc_sens_at_1")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: the document, and the matches it rests on."""

    document: dict
    matches: Matches
    constant_box: Matches | None = None

    def to_json(self) -> dict:
        """Return the content of `evaluation.json`: plain types, no NaN."""
        return self.document

    def value(self, metric: str, class_name: str | None = None) -> float | None:
        """Return a point value, overall or of one class."""
        table = self.document["metrics"] if class_name is None else self.document["per_class"][class_name]
        return table[metric]["value"]

    def write(self, folder: str | os.PathLike) -> Path:
        """Write evaluation.json, worst_films.csv, matches.npz and constant_box_matches.npz (with that row).

        Returns:
            The path of evaluation.json, which is written last.
        """
        folder = Path(folder)
        artifacts.write_csv(folder / "worst_films.csv", errors.worst_films(self.matches, NUM_WORST), _WORST_COLUMNS)
        self.matches.save(folder / "matches.npz")
        if self.constant_box is not None:
            self.constant_box.save(folder / "constant_box_matches.npz")
        artifacts.write_json(folder / "evaluation.json", self.document)
        return folder / "evaluation.json"


def evaluate(
    truth: Mapping,
    results: Sequence[Mapping],
    normal_truth: Mapping | None = None,
    normal_results: Sequence[Mapping] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    patients: Mapping | None = None,
    train_truth: Mapping | None = None,
    dataset: str = "",
    chosen_thresholds: Mapping | None = None,
    readers: Mapping | None = None,
    fusion: str = "mean",
    iou_threshold: float = 0.2,
) -> Evaluation:
    """Evaluate COCO results against COCO truth.

    Args:
        truth, results: COCO dict of films with findings, COCO results (boxes XYWH in pixels of the prepared image).
        normal_truth, normal_results: the same of films without findings; results may also stand in `results`.
        resamples: of films (patients, where known) for every interval; 0 leaves intervals out.
        patients: patient by film name or image id; default: `patient` of the images.
        train_truth: COCO dict of the training films; adds the constant-box row.
        chosen_thresholds: content of a `thresholds.json` from other films; adds `at_thresholds`.
        readers: COCO of single readers' boxes; adds `readers`, model and readers under one rule, where two have read.
        fusion, iou_threshold: how the readers' boxes were fused (`dataset.json`).

    Raises:
        ValueError: results and truth do not belong together; says where.
    """
    matches = match(truth, results, normal_truth, normal_results, patients)
    weights = bootstrap.with_original(bootstrap.film_weights(matches, resamples, seed))
    computation = _computation(matches, weights)
    document = {**_header(matches, dataset, resamples, seed), **_tables(computation), "rows": {}}
    document["strata"] = strata.by_truth_box(matches, weights)
    document["errors"] = errors.breakdown(matches)
    if chosen_thresholds is not None:
        document["at_thresholds"] = thresholds.report(matches, chosen_thresholds, dataset, weights)
    films = _all_films(truth, normal_truth)
    if readers is not None and read_twice(films, readers):
        answers = [*results, *(normal_results or [])]
        document["readers"] = compare_with_readers(
            films, answers, readers, fusion, iou_threshold, "iou", resamples, seed
        )
    baseline = None
    if train_truth is not None:
        constant = constant_box_results(train_truth, films)
        baseline = match(truth, constant, normal_truth, None, patients)
        document["rows"]["constant_box"] = _row(computation, _computation(baseline, weights))
    return Evaluation(document, matches, baseline)


def compare(ours: Matches, theirs: Matches, resamples: int = 1000, seed: int = 0) -> dict:
    """Return every overall metric of one run minus another's on the same films: difference, interval, p, n.

    Raises:
        ValueError: the runs were evaluated on different films or truth.
    """
    bootstrap.require_same_truth(ours, theirs)
    weights = bootstrap.with_original(bootstrap.film_weights(ours, resamples, seed))
    a, b = _computation(ours, weights), _computation(theirs, weights)
    differences = {
        name: bootstrap.compared(a.overall(name), b.overall(name), metrics.is_interpolated(name))
        for name in _defined_overall(ours)
    }
    return {"n": ours.num_films, "resamples": resamples, "seed": seed, "metrics": differences}


def _all_films(truth: Mapping, normal_truth: Mapping | None) -> dict:
    return {**truth, "images": [*truth["images"], *(normal_truth or {"images": []})["images"]]}


def _header(matches: Matches, dataset: str, resamples: int, seed: int) -> dict:
    by_patient = len(np.unique(matches.film_group)) < matches.num_films
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset,
        "num_films": matches.num_films,
        "num_findings_films": matches.num_findings_films,
        "num_normal_films": int(matches.film_normal.sum()),
        "num_boxes": int((~matches.gt_crowd).sum()),
        "num_detections": len(matches.dt_film),
        "num_groups": len(np.unique(matches.film_group)),
        "resampled_by": "patient" if by_patient else "film",
        "resamples": resamples,
        "seed": seed,
        "interval": "95 % percentile bootstrap over films (patients where known), films with findings and normal ones "
        "drawn apart; undefined_resamples hold no truth box; reduced_resamples lack some class, which is left out; "
        "where `bias` is given (average precision), the interval is freed of the bias of value and resamples",
    }


def _computation(matches: Matches, weights: np.ndarray) -> metrics.Computation:
    return metrics.Computation(matches, weights, range(len(matches.class_names)))


def _tables(computation: metrics.Computation) -> dict:
    """Return `metrics` and `per_class`."""
    matches = computation.matches
    overall = {name: _overall_entry(computation, name) for name in _defined_overall(matches)}
    per_class: dict[str, dict] = {name: _class_counts(matches, i) for i, name in enumerate(matches.class_names)}
    for metric in metrics.CLASS_METRICS:
        if metric.endswith("_with_normals") and not matches.has_normals:
            continue
        values = computation.per_class(metric)
        for index, name in enumerate(matches.class_names):
            per_class[name][metric] = _class_entry(matches, metric, index, values[index])
    return {"metrics": overall, "per_class": per_class}


def _defined_overall(matches: Matches) -> list[str]:
    return [name for name, rule in metrics.OVERALL.items() if matches.has_normals or not rule.needs_normals]


def _overall_entry(computation: metrics.Computation, name: str) -> dict:
    rule = metrics.OVERALL[name]
    values = computation.overall(name)
    n = _count(computation.matches, rule.unit, rule.area)
    entry = _entry(values, n, rule.unit, rule.definition, metrics.is_interpolated(name))
    if rule.of is not None:
        defined = np.isfinite(computation.per_class(rule.of))  # (C, 1 + B)
        if rule.summary == "frequent":
            frequent = metrics.frequent(computation.matches)
            defined = defined[frequent]
            entry["n"] = sum(_count(computation.matches, "boxes", 0, index) for index in np.flatnonzero(frequent))
        entry["num_classes"] = int(defined[:, 0].sum())
        entry["reduced_resamples"] = int((defined[:, 1:].sum(axis=0) < defined[:, 0].sum()).sum())
    return entry


def _class_entry(matches: Matches, metric: str, index: int, values: np.ndarray) -> dict:
    rule = metrics.CLASS_METRICS[metric]
    return _entry(values, _count(matches, rule.unit, rule.area, index), rule.unit, rule.definition, rule.interpolated)


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


def _count(matches: Matches, unit: str, area: int, index: int | None = None) -> int:
    if unit == "films":
        return matches.num_films
    return int(coco.truth_boxes(matches, np.ones((matches.num_films, 1)), index, area)[0])


def _class_counts(matches: Matches, index: int) -> dict:
    boxes = (matches.gt_class == index) & ~matches.gt_crowd
    return {"num_boxes": int(boxes.sum()), "num_films": len(np.unique(matches.gt_film[boxes]))}


def _row(ours: metrics.Computation, theirs: metrics.Computation) -> dict:
    """Describe another predictor on the same films, and the model's difference to it under the same resamples."""
    other = theirs.matches
    names = _defined_overall(other)
    return {
        "metrics": {name: _overall_entry(theirs, name) for name in names},
        "model_minus_row": {
            name: bootstrap.compared(ours.overall(name), theirs.overall(name), metrics.is_interpolated(name))
            for name in COMPARED
            if name in names
        },
        "per_class": {
            name: {"AP50": _class_entry(other, "AP50", index, theirs.per_class("AP50")[index])}
            for index, name in enumerate(other.class_names)
        },
    }
