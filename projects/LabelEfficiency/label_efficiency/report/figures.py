"""The paper's Figures 1 to 4, learning curves and FROC as SVG text: plain values in, a picture out.

Every figure says its units and n; colors are drawing.py's, which color-blind readers tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, ScalarFormatter

from d2_cxr.drawing import class_color

_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "d2_cxr",  # the same figure gives the same bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
_FROC_TICKS = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1: "1", 2: "2", 4: "4", 8: "8"}
_MARKERS = "osD^vPX*<>hpd8"


def partition(rows: Sequence[Mapping]) -> str:
    """Figure 2: the training set cut into labeled and unlabeled images, a bar for each share.

    Args:
        rows: {label_fraction (with labels), labeled, unlabeled, run (bool: this study trained on it)}.
    """
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 0.5 + 0.33 * len(rows)), layout="constrained")
        names = [f"{row['label_fraction']} % labeled{' ●' if row['run'] else ''}" for row in rows]
        labeled, unlabeled = [row["labeled"] for row in rows], [row["unlabeled"] for row in rows]
        axes.barh(names, labeled, color=_hex(0), label="labeled: fine-tuning")
        axes.barh(names, unlabeled, left=labeled, color=_hex(4), alpha=0.55, label="unlabeled")
        for place, row in enumerate(rows):
            axes.text(row["labeled"] / 2, place, row["labeled"], ha="center", va="center", color="white", fontsize=8)
            if row["unlabeled"]:
                middle = row["labeled"] + row["unlabeled"] / 2
                axes.text(middle, place, row["unlabeled"], ha="center", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("training images with findings (● = run in this study)")
        axes.grid(False)
        figure.legend(loc="outside upper center", ncols=2)
        return _svg(figure)


def class_balance(rows: Sequence[Mapping]) -> str:
    """Figure 3: training images that show a class before and after repeat-factor resampling.

    Args:
        rows: {class, original, expected (stochastic rounding), ceiling (what the paper drew)}.
    """
    rows = [row for row in rows if row["original"]]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
        for shift, (key, label, color) in enumerate(_BARS):
            places = [place + 0.27 * (shift - 1) for place in range(len(rows))]
            axes.bar(places, [row[key] for row in rows], 0.27, color=color, label=label)
        axes.set_xticks(range(len(rows)), [row["class"] for row in rows], rotation=40, ha="right")
        axes.set_ylabel("training images an epoch")
        axes.grid(axis="x")
        axes.legend()
        return _svg(figure)


_BARS = (
    ("original", "original", "#999999"),
    ("expected", "resampled, expected", "#0072b2"),
    ("ceiling", "resampled, every factor rounded up", "#e69f00"),
)


def class_curves(arms: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], dashed: str = "mAP50") -> str:
    """Figure 4: AP of every class against the share of labels, a panel for each arm, mAP50 dashed.

    Args:
        arms: {arm: {class or "mAP50": [(label_fraction, score), ...]}}.
    """
    with plt.rc_context(_STYLE):
        columns = min(2, len(arms)) or 1
        rows = -(-len(arms) // columns) or 1
        figure, grid = plt.subplots(
            rows, columns, figsize=(3.7 * columns, 3.1 * rows), layout="constrained", squeeze=False, sharey=True
        )
        for axes, (arm, curves) in zip(grid.flat, arms.items(), strict=False):
            axes.set_title(arm, fontsize=10)
            for index, (name, points) in enumerate(curves.items()):
                style = _line(name == dashed, index)
                axes.plot(*zip(*points, strict=True), label=name, **style)
            _share_axis(axes, sorted({p for points in curves.values() for p, _ in points}))
        for axes in grid.flat[len(arms) :]:
            axes.axis("off")
        grid[0, 0].set_ylabel("AP at IoU .50:.95")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
        return _svg(figure)


def _line(is_dashed: bool, index: int) -> dict:
    if is_dashed:
        return {"color": "black", "linestyle": "--", "linewidth": 2}
    marker = _MARKERS[index % len(_MARKERS)]
    return {"color": _hex(index), "marker": marker, "markersize": 4, "linewidth": 1.2}


def learning_curves(arms: Mapping[str, Sequence[Mapping]], metric: str, level: tuple[str, float] | None = None) -> str:
    """A score against the share of labels, a line with its 95 % band for each arm.

    Args:
        arms: {arm: [{label_fraction, mean, low, high}]}; low and high may be None.
        level: name and height of a horizontal line, e.g. the prior-box baseline.
    """
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
        for index, (arm, points) in enumerate(arms.items()):
            shares = [point["label_fraction"] for point in points]
            style = {"color": _hex(index), "marker": _MARKERS[index], "markersize": 5}
            axes.plot(shares, [point["mean"] for point in points], label=arm, **style)
            banded = [point for point in points if point["low"] is not None]
            edges = [[point[key] for point in banded] for key in ("label_fraction", "low", "high")]
            axes.fill_between(*edges, color=_hex(index), alpha=0.15, linewidth=0)
            if len(banded) == 1:
                axes.vlines(*edges, color=_hex(index), alpha=0.5)
        if level:
            axes.axhline(level[1], color="black", linestyle=":", label=level[0])
        _share_axis(axes, sorted({point["label_fraction"] for points in arms.values() for point in points}))
        axes.set_ylabel(f"{metric} (band: 95 %)")
        axes.legend()
        return _svg(figure)


def froc(
    curves: Mapping[str, Mapping[str, Sequence[float]]], readers: Sequence[Mapping] = (), markers: bool = True
) -> str:
    """Sensitivity against false positives per image, with single readers as points.

    Args:
        curves: {run: {"fp_per_image": [...], "sensitivity": [...]}}.
        readers: {reader, fp_per_image, sensitivity}.
    """
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
        for index, (name, curve) in enumerate(curves.items()):
            style = {"color": _hex(index), "marker": _MARKERS[index % len(_MARKERS)] if markers else ""}
            style["markersize"] = 4
            axes.plot(curve["fp_per_image"], curve["sensitivity"], label=name, **style)
        for reader in readers:
            axes.plot(reader["fp_per_image"], reader["sensitivity"], "k+", markersize=9)
            axes.annotate(reader["reader"], (reader["fp_per_image"], reader["sensitivity"]), fontsize=8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(_FROC_TICKS), list(_FROC_TICKS.values()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("false positives per image (all classes)")
        axes.set_ylabel("sensitivity")
        axes.set_ylim(0, 1)
        axes.set_xlim(1 / 8, 8)
        axes.legend(fontsize=8)
        return _svg(figure)


def _share_axis(axes, label_fractions: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(label_fractions))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("labels, % of the training images")


def _hex(index: int) -> str:
    """Color of a line: drawing.py's in an order that puts yellow, weak on white, last."""
    return "#{:02x}{:02x}{:02x}".format(*class_color(_ORDER[index % 7] + 7 * (index // 7 % 2)))


_ORDER = (4, 5, 2, 6, 1, 0, 3)


def _svg(figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()
