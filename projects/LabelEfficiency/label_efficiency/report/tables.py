"""The rows of the paper's Tables I and II and of our own tables, as lists of plain dicts.

A cell with an interval is {"value", "low", "high"}; None means missing. All scores are fractions of 1.
"""

from __future__ import annotations

import numpy as np
from d2_cxr.projects.label_efficiency.report.label_savings import Curves, interval, label_savings, resample, two_sided_p
from d2_cxr.projects.label_efficiency.report.paper_results import TABLE_1, TABLE_1_COLUMNS
from d2_cxr.projects.label_efficiency.report.scores import Scores, curves
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults

# Table I's columns by the names of evaluation/metrics.py; the paper's AR is class-agnostic.
TABLE_1_METRICS = {
    "mAP": "mAP",
    "mAP50": "AP50",
    "mAP small": "AP_small",
    "AR": "AR_agnostic",
    "AR small": "AR_agnostic_small",
    "mean IoU": "mean_best_iou",
    "IoU σ": "std_best_iou",
}
# What the paper does not print: AR averaged over classes, as COCO means it, and image level.
MORE_METRICS = {"AP75": "AP75", "AR, per class": "AR_100", "AP at IoU > .4 (VOC)": "AP40_vinbigdata"}
# The same for the weights that were best on validation images.
VAL_SELECTED_METRICS = {"mAP, val-selected": "mAP", "mAP50, val-selected": "AP50"}


def table_1(results: StudyResults, scores: Scores, baseline: str) -> list[dict]:
    """Return one row per arm and label fraction, the largest first; means over seeds with 95 % intervals.

    `share of the baseline` is mAP divided by that of the arm `baseline` at the largest label fraction.
    """
    by_metric = {name: curves(results, scores, metric) for name, metric in (TABLE_1_METRICS | MORE_METRICS).items()}
    selected = results.val_selected()
    if selected:
        by_metric |= {name: curves(selected, scores, metric) for name, metric in VAL_SELECTED_METRICS.items()}
    reference = by_metric["mAP"].mean(baseline)[-1] if baseline in results.arms else np.nan
    rows = []
    for label_fraction in reversed(results.label_fractions):
        rows += [
            _row(results, by_metric, arm, label_fraction, reference)
            for arm in results.arms
            if planned(results, arm, label_fraction)
        ]
    return rows + [_prior_box_row(results, scores, run) for run in results.prior_box[:1] if run.done]


def planned(results: StudyResults, arm: str, label_fraction: int) -> list[Run]:
    """Return the planned runs of an arm at a label fraction, finished or not."""
    return [run for run in results.runs if (run.arm, run.label_fraction) == (arm, label_fraction)]


def _row(results: StudyResults, by_metric: dict[str, Curves], arm: str, label_fraction: int, reference: float) -> dict:
    wanted, done = planned(results, arm, label_fraction), results.select(arm, label_fraction)
    row = {
        "arm": arm,
        "labels": label_fraction,
        "runs": len(done),
        "planned": len(wanted),
        "folders": [r.folder for r in wanted],
    }
    for name, table in by_metric.items():
        row[name] = cell(table, arm, label_fraction)
    value = row["mAP"]["value"] if row["mAP"] else None
    row["share of the baseline"] = value / reference if value is not None and reference > 0 else None
    return row | {"training images": training_images(done)}


def training_images(runs: list[Run]) -> int | None:
    """Return the labeled training images of runs, from their cards; the mean if splits differ by seed."""
    counts = [run.card["num_train_images"] for run in runs if (run.card or {}).get("num_train_images")]
    return round(sum(counts) / len(counts)) if counts else None


def _prior_box_row(results: StudyResults, scores: Scores, run: Run) -> dict:
    row = {"arm": "prior-box baseline", "labels": 100, "runs": 1, "planned": 1, "folders": [run.folder]}
    for name, metric in (TABLE_1_METRICS | MORE_METRICS).items():
        row[name] = _cell(scores.of(run, metric)[0], scores.of(run, metric)[1:])
    return row | {"share of the baseline": None, "training images": training_images([run])}


def cell(table: Curves, arm: str, label_fraction: int) -> dict | None:
    """Return the mean over seeds with its interval over seeds and images; None if there is no run."""
    first, second = table.arms.index(arm), table.label_fractions.index(label_fraction)
    return _cell(table.mean(arm)[second], resample(table)[first, second])


def _cell(value: float, resamples: np.ndarray) -> dict | None:
    if not np.isfinite(value):
        return None
    low, high = interval(resamples) or (None, None)
    return {"value": float(value), "low": low, "high": high}


def table_1_published() -> list[dict]:
    """Return the paper's Table I, with its mAP divided by its baseline's."""
    rows = []
    for label_fraction, name, values in TABLE_1:
        row = {"arm": name, "labels": label_fraction, **dict(zip(TABLE_1_COLUMNS, values, strict=True))}
        rows.append(row | {"share of the baseline": row["mAP"] / TABLE_1[0][2][0]})
    return rows


def table_2(results: StudyResults, scores: Scores) -> list[dict]:
    """Mean IoU of models (best box of the class for every fused box) and of readers (pairs of their boxes)."""
    rows = []
    for arm in results.arms:
        for label_fraction in results.label_fractions:
            runs = results.select(arm, label_fraction)
            values = [[scores.of(run, metric)[0] for run in runs] for metric in ("mean_best_iou", "std_best_iou")]
            if runs:
                boxes = sum(int((~run.matches.gt_crowd).sum()) for run in runs)
                about = {"who": f"model: {arm}, {label_fraction} % of the labels", "n": boxes, "images": None}
                about |= {"definition": "best IoU with a box of the class, 0 without one"}
                rows.append(about | {"mean": float(np.mean(values[0])), "std": float(np.mean(values[1]))})
    return rows + _reader_rows((results.statistics or {}).get("agreement", []))


def _reader_rows(agreement: list[dict]) -> list[dict]:
    rows = []
    for pair in agreement:
        for key, definition in (("pairs_all", "all pairs of boxes"), ("pairs_iou>0.2", "pairs with IoU > 0.2")):
            found = pair[key]
            about = {
                "who": "readers: " + "–".join(pair["readers"]),
                "n": found["n"],
                "images": pair["images_both_drew"],
            }
            rows.append(about | {"definition": definition, "mean": found["mean"], "std": found["std"]})
    return rows


def class_table(results: StudyResults, scores: Scores, baseline: str, metric: str = "AP50") -> list[dict]:
    """Return per class the score of each arm with the most labels and with the fewest, and the labels that it needs."""
    done = [run for run in results.runs if run.done]
    rows = []
    for name in [name for name in (done[0].matches.class_names if done else ()) if _images_with(done[0], name)]:
        table = curves(results, scores, metric, one_class=name)
        row = {"class": name, "test images": _images_with(done[0], name)}
        for arm in results.arms:
            for label_fraction in sorted({results.label_fractions[0], results.label_fractions[-1]}):
                if planned(results, arm, label_fraction):
                    row[f"{arm}, {label_fraction} %"] = cell(table, arm, label_fraction)
            if arm != baseline and baseline in results.arms:
                row[f"{arm}: labels"] = label_savings(table, arm, baseline)
        rows.append(row)
    return rows


def _images_with(run: Run, name: str) -> int:
    matches = run.matches
    return len(np.unique(matches.gt_image[matches.gt_class == matches.class_index(name)]))


def criterion(results: StudyResults, scores: Scores) -> dict | None:
    """Compare the best run with the prior-box baseline by the criterion of the study file; None without a criterion.

    The difference is paired by image (the same resamples for both).
    """
    rule = results.settings.get("criterion")
    pairs = [(run, results.prior_box_for(run)) for run in results.runs if run.done]
    pairs = [(run, prior) for run, prior in pairs if prior]
    if not rule or not pairs:
        return None
    metric, classes = rule.get("metric", "AP50"), rule.get("classes")
    best, prior = max(pairs, key=lambda pair: scores.of(pair[0], metric, classes)[0])
    model, box = scores.of(best, metric, classes), scores.of(prior, metric, classes)
    low, high = interval((model - box)[1:])
    difference = float((model - box)[0])
    return {
        "metric": metric,
        "classes": classes,
        "margin": rule["margin"],
        "best": best.name,
        "folder": best.folder,
        "model": _cell(model[0], model[1:]),
        "prior_box": _cell(box[0], box[1:]),
        "difference": {"value": difference, "low": low, "high": high},
        "p": two_sided_p((model - box)[1:]),
        "met": difference >= rule["margin"] and low > 0,
        "images": best.matches.num_findings_images,
        "chosen_from": len(pairs),
    }
