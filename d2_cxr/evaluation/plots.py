"""Figures of one evaluation: FROC and AP by class, with intervals and n; as SVG they show values under the pointer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from d2_cxr import artifacts, chart_style
from d2_cxr.counted import counted
from d2_cxr.evaluation import froc
from d2_cxr.evaluation.evaluate import Evaluation

_LEFT = froc.RATES[0] / 1.9  # 0 is not on a logarithmic axis: it is drawn at the left edge
_MODEL, _ALONE, _PRIOR, _READER = map(chart_style.color, (0, 4, 5, 1))


def froc_figure(evaluation: Evaluation) -> Figure:
    """Draw sensitivity against false positives per image, classes pooled; a second panel if there are readers."""
    readers = evaluation.document.get("readers")
    columns = 2 if readers else 1
    figure, ((*panels,),) = chart_style.subplots(1, columns, width=6 * columns, height=4.6, squeeze=False)
    _pooled_panel(panels[0], evaluation)
    if readers:
        _readers_panel(panels[1], readers)
    return figure


def class_figure(evaluation: Evaluation) -> Figure:
    """Draw AP50 by class with 95 % intervals, most frequent class first, and the prior-box baseline if known."""
    table = evaluation.document["per_class"]
    names = _by_frequency(table)
    prior = evaluation.document["rows"].get("prior_box", {}).get("per_class", {})
    figure, axes = chart_style.subplots(height=1.3 + 0.34 * max(1, len(names)))
    for place, name in enumerate(names):
        entry = table[name]["AP50"]
        if entry["interval"]:
            axes.plot(entry["interval"], [place, place], color=_MODEL, linewidth=2)
        axes.plot(entry["value"], place, "o", color=_MODEL, label="model, 95 % interval" if place == 0 else None)
        if "AP50" in prior.get(name, {}):
            label = "prior-box baseline" if place == 0 else None
            axes.plot(prior[name]["AP50"]["value"], place, "D", color=_PRIOR, markersize=5, label=label)
    labels = [
        f"{name} ({counted(table[name]['num_boxes'], 'box')}, {counted(table[name]['num_images'], 'image')})"
        for name in names
    ]
    axes.set_yticks(range(len(names)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("AP50 (fraction of 1)")
    axes.set_title(f"{evaluation.document['dataset']}: {_images(evaluation)}", fontsize=10)
    if names:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def froc_svg(evaluation: Evaluation) -> str:
    """Return `froc_figure` as SVG: values at each rate, and of each reader."""
    figure = froc_figure(evaluation)
    pooled, *others = figure.axes
    points = list(_rate_points(pooled, evaluation))
    if others:
        points += _reader_points(others[0], evaluation.document["readers"])
    return chart_style.svg(figure, points)


def class_svg(evaluation: Evaluation) -> str:
    """Return `class_figure` as SVG with each value and its interval."""
    figure = class_figure(evaluation)
    (axes,) = figure.axes
    table = evaluation.document["per_class"]
    entries = [(name, table[name]["AP50"]) for name in _by_frequency(table)]
    points = [(axes, e["value"], place, f"{name}: AP50 {_value(e)}") for place, (name, e) in enumerate(entries)]
    return chart_style.svg(figure, points)


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG."""
    artifacts.write_with(path, lambda temporary: figure.savefig(temporary, dpi=130, metadata={"Software": None}))


def _pooled_panel(axes: Axes, evaluation: Evaluation) -> None:
    matches, entries = evaluation.matches, evaluation.document["metrics"]
    with_negatives = "negative images counted" if matches.has_negatives else "images with findings only"
    _curve(axes, froc.curve(matches), _MODEL, f"model, {with_negatives}")
    if matches.has_negatives:
        _curve(axes, froc.curve(matches, negatives=False), _ALONE, "model, images with findings only")
    if evaluation.prior_box is not None:
        _curve(axes, froc.curve(evaluation.prior_box), _PRIOR, "prior-box baseline")
    for rate, name in zip(froc.RATES, froc.RATE_NAMES, strict=True):
        interval = entries[f"froc_sens_at_{name}"]["interval"]
        if interval:
            axes.plot([rate, rate], interval, color=_MODEL, linewidth=1.5, marker="_", markersize=8)
    axes.set_title(f"{_images(evaluation)}, {evaluation.document['num_boxes']} truth boxes; bars: 95 %", fontsize=10)
    _froc_axes(axes)


def _by_frequency(table: Mapping) -> list[str]:
    known = (name for name in table if table[name]["AP50"]["value"] is not None)
    return sorted(known, key=lambda name: -table[name]["num_boxes"])


def _rate_points(axes: Axes, evaluation: Evaluation) -> Iterator[chart_style.Point]:
    document = evaluation.document
    curves = [("model", document["metrics"], "froc_sens_at_")]
    if evaluation.matches.has_negatives:
        curves.append(("model, images with findings only", document["metrics"], "froc_findings_only_sens_at_"))
    if evaluation.prior_box is not None:
        curves.append(("prior-box baseline", document["rows"]["prior_box"]["metrics"], "froc_sens_at_"))
    for label, entries, name in curves:
        for rate, text in zip(froc.RATES, froc.RATE_NAMES, strict=True):
            entry = entries.get(name + text, {"value": None})
            if entry["value"] is not None:
                shown = f"{label}: sensitivity {_value(entry)} at {text} false positives per image"
                yield axes, rate, entry["value"], shown


def _reader_points(axes: Axes, readers: Mapping) -> list[chart_style.Point]:
    pairs = [(name, entry["reader"]) for name, entry in readers["by_reader"].items()]
    pairs += [("readers pooled", readers["pooled"]["reader"]), ("model", readers["pooled"]["model"])]
    points: list[chart_style.Point] = []
    for name, point in pairs:
        found, false = point["sensitivity"], point["false_positives_per_image"]["value"]
        if found["value"] is not None:
            text = f"{name}: sensitivity {_value(found)} at {false:.2f} false positives per image"
            points.append((axes, max(false, _LEFT), found["value"], text))
    return points


def _value(entry: Mapping) -> str:
    interval = entry.get("interval")
    return f"{entry['value']:.3f}" + (f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _readers_panel(axes: Axes, readers: Mapping) -> None:
    curve = {key: np.array(values) for key, values in readers["model_curve"].items()}
    _curve(axes, curve, _MODEL, "model, all its boxes")
    _name_readers(axes, readers["by_reader"])
    for key, color, marker, label in (
        ("reader", _READER, "*", "readers pooled; squares: one reader (images)"),
        ("model", _MODEL, "*", "model with as many boxes per image"),
    ):
        point = readers["pooled"][key]
        axes.plot(
            point["false_positives_per_image"]["value"],
            point["sensitivity"]["value"],
            marker,
            color=color,
            markersize=13,
            label=label,
        )
    axes.set_title(f"against the other readers' fused boxes, {readers['pooled']['num_images']} readings", fontsize=10)
    _froc_axes(axes)


def _name_readers(axes: Axes, by_reader: Mapping) -> None:
    """Draw each reader as a square; the names are in a column at the right edge and do not overlap."""
    x_key, y_key = "false_positives_per_image", "sensitivity"
    points = [(name, entry["num_images"], entry["reader"]) for name, entry in by_reader.items()]
    points = [(point[y_key]["value"], point[x_key]["value"], f"{name} ({images})") for name, images, point in points]
    lowest = -1.0
    for y, x, label in sorted(point for point in points if point[0] is not None):
        lowest = max(y, lowest + 0.035)
        x = max(x, _LEFT)
        axes.plot(x, y, "s", color=_READER, markersize=5)
        axes.plot([x, froc.RATES[-1]], [y, lowest], color=_READER, linewidth=0.4)
        axes.text(froc.RATES[-1] * 1.02, lowest, label, fontsize=7, va="center")


def _curve(axes: Axes, points: Mapping[str, np.ndarray], color: str, label: str) -> None:
    """Draw a FROC curve as a step function, to the right edge of the figure."""
    false, sensitivity = points["false_positives_per_image"], points["sensitivity"]
    x = np.concatenate([[froc.RATES[0] / 4], np.maximum(false, froc.RATES[0] / 4), [froc.RATES[-1] * 2]])
    y = np.concatenate([[0], sensitivity, [sensitivity[-1] if len(sensitivity) else 0]])
    axes.plot(x, y, drawstyle="steps-post", color=color, label=label)


def _froc_axes(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(froc.RATES[0] / 2, froc.RATES[-1] * 2)
    axes.xaxis.set_major_locator(FixedLocator(froc.RATES))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(froc.RATE_NAMES)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("false positives per image")
    axes.set_ylabel("sensitivity (fraction of truth boxes found)")
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _images(evaluation: Evaluation) -> str:
    document = evaluation.document
    negative = document["num_negative_images"]
    images = counted(document["num_findings_images"], "image")
    return f"{images} with findings" + (f" and {negative:,} without" if negative else "")
