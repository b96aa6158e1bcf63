"""The report's figures from a study's results, as SVG and data URIs that need no second file."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from d2_cxr.projects.label_efficiency.report import figures as draw
from d2_cxr.projects.label_efficiency.report.label_savings import Curves, interval, resample
from d2_cxr.projects.label_efficiency.report.scores import Scores, curves
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults
from d2_cxr.projects.label_efficiency.report.tables import training_images
from markupsafe import Markup

from d2_cxr.counted import counted
from d2_cxr.evaluation import estimates, froc

_RATES = tuple(2.0**power for power in np.arange(-3, 3.25, 0.25))  # false positives per image, 1/8 to 8
_BAND_RESAMPLES = 200  # of a FROC curve's band


def figures(results: StudyResults, scores: Scores) -> dict:
    """Return every chart as SVG and the example images as data URIs, None where there is nothing to draw yet."""
    done = [run for run in results.runs if run.done]
    statistics = results.statistics or {}
    return {
        "images": _images(results),
        "partition": _markup(draw.partition(statistics["partition"])) if statistics.get("partition") else None,
        "balance": _markup(draw.class_balance(statistics["class_balance"]))
        if statistics.get("class_balance")
        else None,
        "learning": _markup(_learning(results, scores)) if done else None,
        "classes": _markup(_class_curves(results, scores)) if done else None,
        "froc": _markup(_froc(results)) if done else None,
        "readers": _readers(results),
    }


def primary_metric(results: StudyResults) -> tuple[str, list[str] | None]:
    """Return the score that the study compares: metric and classes of the endpoint that its file fixes beforehand."""
    return results.endpoint.get("metric", "mAP"), results.endpoint.get("classes")


def primary_name(results: StudyResults) -> str:
    """Return the primary metric in words, e.g. "AP50 over 4 classes"."""
    metric, classes = primary_metric(results)
    return metric + (f" over {counted(len(classes), 'class')}" if classes else "")


def _learning(results: StudyResults, scores: Scores) -> str:
    metric, classes = primary_metric(results)
    table = curves(results, scores, metric, classes)
    drawn = resample(table)
    prior = next((run for run in results.prior_box if run.done), None)
    level = ("prior-box baseline", float(scores.of(prior, metric, classes)[0])) if prior else None
    images = {
        fraction: training_images([run for run in results.runs if run.done and run.label_fraction == fraction])
        for fraction in table.label_fractions
    }
    bands = {arm: band(table, drawn, arm) for arm in table.arms}
    return draw.learning_curves(bands, primary_name(results), images, level)


def band(table: Curves, drawn: np.ndarray, arm: str) -> list[dict]:
    """Return an arm's mean scores with their intervals, one {label_fraction, mean, low, high} for each fraction run."""
    points = []
    for place, fraction in enumerate(table.label_fractions):
        mean = table.mean(arm)[place]
        if np.isfinite(mean):
            low, high = interval(drawn[table.arms.index(arm), place]) or (None, None)
            points.append({"label_fraction": fraction, "mean": float(mean), "low": low, "high": high})
    return points


def _class_curves(results: StudyResults, scores: Scores) -> str:
    done = [run for run in results.runs if run.done]
    names = [name for name in done[0].matches.class_names if np.isfinite(scores.by_class(done[0], "AP")[name][0])]
    tables = {name: curves(results, scores, "AP", one_class=name) for name in names}
    tables["mAP"] = curves(results, scores, "mAP")
    panels = {}
    for arm in results.arms:
        panels[arm] = {name: _points(table, arm) for name, table in tables.items() if _points(table, arm)}
    return draw.class_curves({arm: panel for arm, panel in panels.items() if panel}, mean="mAP")


def _points(table: Curves, arm: str) -> list[tuple[int, float]]:
    known = zip(table.label_fractions, table.mean(arm), strict=True)
    return [(fraction, float(mean)) for fraction, mean in known if np.isfinite(mean)]


def _froc(results: StudyResults) -> str:
    """One curve per arm and label fraction (first seed), with bands at the largest label fraction."""
    shown: dict[str, dict] = {}
    for run in results.runs:
        name = f"{run.arm}, {run.label_fraction} %"
        ends = run.label_fraction in (results.label_fractions[0], results.label_fractions[-1])
        if run.done and ends and name not in shown:
            shown[name] = _froc_curve(run, band=run.label_fraction == results.label_fractions[-1])
    return draw.froc(shown)


def _froc_curve(run: Run, band: bool) -> dict:
    resamples = _BAND_RESAMPLES if band else 1
    weights = estimates.with_original(estimates.image_weights(run.matches, resamples, 0))
    values = froc.sensitivities(run.matches, weights, rates=_RATES)
    curve = {"fp_per_image": _RATES, "sensitivity": values[:, 0]}
    if not band:
        return curve
    low, high = np.nanquantile(values[:, 1:], [0.025, 0.975], axis=1)
    return curve | {"low": low, "high": high}


def _readers(results: StudyResults) -> str | None:
    """Models and readers under one rule: each reader, and the model, against the fused boxes of the other readers."""
    shown, points = {}, []
    for run in results.runs:
        found = (run.evaluation or {}).get("readers")
        name = f"{run.arm}, {run.label_fraction} %"
        if found and name not in shown:
            curve = found["model_curve"]
            shown[name] = {"fp_per_image": curve["false_positives_per_image"], "sensitivity": curve["sensitivity"]}
            points = [_reader_point(reader, row["reader"]) for reader, row in found["by_reader"].items()]
    known = [point for point in points if point["fp_per_image"] and point["sensitivity"] is not None]
    return _markup(draw.froc(shown, known)) if shown else None


def _reader_point(reader: str, row: dict) -> dict:
    low, high = row["sensitivity"].get("interval") or (None, None)
    point = {"reader": reader, "fp_per_image": row["false_positives_per_image"]["value"]}
    return point | {"sensitivity": row["sensitivity"]["value"], "low": low, "high": high}


def _images(results: StudyResults) -> list[dict]:
    """Figure 1's pictures, drawn when the data were summarized."""
    images = []
    for image in (results.statistics or {}).get("example_images", []):
        path = results.folder / "data" / image["file"]
        if path.is_file():
            images.append({"image": _image_uri(path), "caption": image["caption"]})
    return images


def _markup(svg: str) -> Markup:
    """Mark a chart of ours as markup: inside the page, its values show under the pointer."""
    return Markup(svg)


def _image_uri(path: Path) -> str:
    kind = {".png": "png", ".jpg": "jpeg"}[path.suffix]
    return f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode()
