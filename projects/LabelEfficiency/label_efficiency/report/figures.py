"""The report's charts as SVG text: plain values in, a picture out.

Every chart states its units; the style is chart_style.py's. All scores are fractions of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, ScalarFormatter

from d2_cxr import chart_style
from d2_cxr.chart_style import MARKERS, color, subplots, svg

_BESIDE = 1.02  # the next single point lies 2 % of its label fraction further right
_FROC_TICKS = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1: "1", 2: "2", 4: "4", 8: "8"}


def learning_curves(
    arms: Mapping[str, Sequence[Mapping]],
    metric: str,
    images: Mapping[int, int | None],
    level: tuple[str, float] | None = None,
) -> str:
    """A score against the label fraction, one line with its 95 % band per arm; labeled images on a second axis.

    Of one label fraction, a dot with its interval per arm.

    Args:
        arms: {arm: [{label_fraction, mean, low, high}]}; low and high may be None.
        images: {label fraction in percent: number of labeled training images, None if unknown}.
        level: name and height of a horizontal line, e.g. the prior-box baseline.
    """
    label_fractions = sorted({p["label_fraction"] for points in arms.values() for p in points})
    if len(label_fractions) == 1:
        return _dots(arms, metric, images, level)
    figure, axes = subplots(height=4.2)
    shown: list[chart_style.Point] = []
    beside = 1.0
    for index, (arm, points) in enumerate(arms.items()):
        if len(points) == 1:  # else the points of such arms hide one another
            beside *= _BESIDE
        points = [{**p, "x": p["label_fraction"] * (beside if len(points) == 1 else 1)} for p in points]
        shown += [(axes, p["x"], p["mean"], _value(arm, metric, p, images)) for p in points]
        style = {"color": color(index), "marker": MARKERS[index % len(MARKERS)], "markersize": 5}
        axes.plot([p["x"] for p in points], [p["mean"] for p in points], label=arm, **style)
        banded = [point for point in points if point["low"] is not None]
        edges = [[point[key] for point in banded] for key in ("x", "low", "high")]
        axes.fill_between(*edges, color=color(index), alpha=0.15, linewidth=0)
        if len(banded) == 1:
            axes.vlines(*edges, color=color(index), alpha=0.5)
    if level:
        axes.axhline(level[1], color="black", linestyle=":", label=level[0])
    _label_axis(axes, label_fractions)
    _image_axis(axes, images)
    axes.set_ylabel(f"{metric} (band: 95 % interval)")
    figure.legend(loc="outside right center")  # curves and bands may be anywhere
    return svg(figure, shown)


def _dots(
    arms: Mapping[str, Sequence[Mapping]],
    metric: str,
    images: Mapping[int, int | None],
    level: tuple[str, float] | None,
) -> str:
    figure, axes = subplots(height=1.4 + 0.34 * len(arms))
    shown: list[chart_style.Point] = []
    points = {arm: found[0] for arm, found in arms.items() if found}
    for index, (arm, point) in enumerate(points.items()):
        if point["low"] is not None:
            axes.hlines(index, point["low"], point["high"], color=color(index), linewidth=2)
        axes.plot([point["mean"]], [index], color=color(index), marker=MARKERS[index % len(MARKERS)])
        shown.append((axes, point["mean"], index, _value(arm, metric, point, images)))
    if level:
        axes.axvline(level[1], color="black", linestyle=":", label=level[0])
        axes.legend()
    axes.set_yticks(range(len(points)), list(points))
    axes.set_ylim(len(points) - 0.5, -0.5)
    fraction = next((point["label_fraction"] for point in points.values()), None)
    known = f", {images[fraction]:,} labeled images" if fraction is not None and images.get(fraction) else ""
    axes.set_xlabel(f"{metric} at {fraction} % of the labels{known} (line: 95 % interval)")
    return svg(figure, shown)


def _value(arm: str, metric: str, point: Mapping, images: Mapping[int, int | None]) -> str:
    fraction, known = point["label_fraction"], images.get(point["label_fraction"])
    labels = f"{fraction} % of the labels" + (f" ({known:,} images)" if known else "")
    interval = "" if point["low"] is None else f", 95 % interval {point['low']:.3f} to {point['high']:.3f}"
    return f"{arm}, {labels}: {metric} {point['mean']:.3f}{interval}"


def partition(rows: Sequence[Mapping]) -> str:
    """Figure 2: the training set cut into labeled and unlabeled images, one bar per label fraction.

    Args:
        rows: {label_fraction (percent), labeled, unlabeled, run (bool: this study trained on it)}.
    """
    figure, axes = subplots(height=0.5 + 0.33 * len(rows))
    names = [f"{row['label_fraction']} % labeled{' ●' if row['run'] else ''}" for row in rows]
    labeled, unlabeled = [row["labeled"] for row in rows], [row["unlabeled"] for row in rows]
    axes.barh(names, labeled, color=color(0), label="labeled: fine-tuning")
    axes.barh(names, unlabeled, left=labeled, color=color(4), alpha=0.55, label="unlabeled")
    for place, row in enumerate(rows):
        axes.text(row["labeled"] / 2, place, row["labeled"], ha="center", va="center", color="white", fontsize=8)
        if row["unlabeled"]:
            middle = row["labeled"] + row["unlabeled"] / 2
            axes.text(middle, place, row["unlabeled"], ha="center", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("training images with findings (● = run in this study)")
    axes.grid(False)
    figure.legend(loc="outside upper center", ncols=2)
    return svg(figure)


def class_balance(rows: Sequence[Mapping]) -> str:
    """Figure 3: training images that show a class before and after repeat-factor resampling.

    Args:
        rows: {class, original, expected (stochastic rounding), ceiling (what the paper drew)}.
    """
    rows = [row for row in rows if row["original"]]
    figure, axes = subplots(height=3.6)
    for shift, (key, label, shade) in enumerate(_BARS):
        places = [place + 0.27 * (shift - 1) for place in range(len(rows))]
        axes.bar(places, [row[key] for row in rows], 0.27, color=shade, label=label)
    axes.set_xticks(range(len(rows)), [row["class"] for row in rows], rotation=40, ha="right")
    axes.set_ylabel("training images per epoch")
    axes.grid(axis="x")
    axes.legend()
    return svg(figure)


_BARS = (
    ("original", "original", chart_style.GRAY),
    ("expected", "resampled, expected", color(0)),
    ("ceiling", "resampled, every factor rounded up", color(5)),
)


def class_curves(arms: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], mean: str) -> str:
    """Figure 4: a score of every class against the label fraction, one panel per arm, the mean over classes dashed.

    Args:
        arms: {arm: {class or `mean`: [(label fraction, score), ...]}}; all scores are of the same metric.
        mean: name of the mean over classes among them, e.g. "mAP".
    """
    columns = min(2, len(arms)) or 1
    rows = -(-len(arms) // columns) or 1
    figure, grid = subplots(rows, columns, height=3.1 * rows + 0.8, squeeze=False, sharey=True)
    for axes, (arm, curves) in zip(grid.flat, arms.items(), strict=False):
        axes.set_title(arm, fontsize=10)
        for index, (name, points) in enumerate(curves.items()):
            axes.plot(*zip(*points, strict=True), label=name, **_line(name == mean, index))
        _label_axis(axes, sorted({fraction for points in curves.values() for fraction, _ in points}))
    for axes in grid.flat[len(arms) :]:
        axes.axis("off")
    for axes in grid[:, 0]:
        axes.set_ylabel("AP (IoU .50:.95)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return svg(figure)


def _line(is_mean: bool, index: int) -> dict:
    if is_mean:
        return {"color": "black", "linestyle": "--", "linewidth": 2}
    marker = MARKERS[index % len(MARKERS)]
    return {"color": color(index), "marker": marker, "markersize": 4, "linewidth": 1.2}


def froc(curves: Mapping[str, Mapping[str, Sequence[float]]], readers: Sequence[Mapping] = ()) -> str:
    """Sensitivity against false positives per image, 95 % bands where known, single readers as points.

    Args:
        curves: {run: {fp_per_image, sensitivity, and perhaps low and high: equally long sequences}}.
        readers: {reader, fp_per_image, sensitivity, low, high}; the interval is that of the sensitivity.
    """
    figure, axes = subplots(height=3.8)
    for index, (name, curve) in enumerate(curves.items()):
        axes.plot(curve["fp_per_image"], curve["sensitivity"], label=name, color=color(index))
        if "low" in curve:
            edges = (curve["fp_per_image"], curve["low"], curve["high"])
            axes.fill_between(*edges, color=color(index), alpha=0.13, linewidth=0)
    for reader in readers:
        axes.plot(reader["fp_per_image"], reader["sensitivity"], "kD", markersize=5)
        if reader["low"] is not None:
            axes.vlines(reader["fp_per_image"], reader["low"], reader["high"], color="black", linewidth=1)
        place = (reader["fp_per_image"], reader["sensitivity"])
        axes.annotate(reader["reader"], place, (5, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(_FROC_TICKS), list(_FROC_TICKS.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("false positives per image (all classes)")
    axes.set_ylabel("sensitivity")
    axes.set_ylim(0, 1)
    axes.set_xlim(1 / 8, 8)
    axes.legend(fontsize=8, loc="upper left")
    return svg(figure)


def _label_axis(axes: Axes, label_fractions: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(label_fractions))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("label fraction, % of the training images")


def _image_axis(axes: Axes, images: Mapping[int, int | None]) -> None:
    """Say above each label fraction how many labeled images it is."""
    known = {fraction: count for fraction, count in images.items() if count is not None}
    if not known:
        return
    upper = axes.secondary_xaxis("top")
    upper.xaxis.set_major_locator(FixedLocator(list(known)))
    upper.set_xticks(list(known), [f"{count:,}" for count in known.values()])
    upper.xaxis.set_minor_locator(NullLocator())
    upper.set_xlabel("labeled training images")
