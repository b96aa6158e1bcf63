"""Charts of the label statistics as SVG text for the page, in the style of chart_style.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from d2_cxr import chart_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN = map(chart_style.color, (0, 5, 2))
_GRAY = chart_style.GRAY


def class_balance(found: dict) -> str:
    """Draw each class's training images before and after resampling, stochastic and by ceiling (Fig. 3)."""
    entries = sorted(found["classes"].items(), key=lambda item: -item[1]["train_images"])
    axes, places = _horizontal([name for name, _ in entries])
    series = (("train_images", "original", _GRAY), ("expected_exposures", "resampled", _BLUE))
    for shift, (key, label, color) in enumerate((*series, ("ceil_exposures", "resampled, ceiling", _ORANGE))):
        axes.barh(places + 0.27 * (shift - 1), [entry[key] for _, entry in entries], 0.27, label=label, color=color)
    axes.set_xlabel("images per epoch")
    _legend(axes)
    return _svg(axes)


def density(audit: dict) -> str:
    """Draw fused boxes per image in each tenth of the split's order."""
    axes = _axes(4)
    tenths = np.arange(1, len(audit["deciles"]) + 1)
    axes.bar(tenths, audit["deciles"], color=_BLUE)
    axes.set(xlabel="tenth of the images, in the order train, val, test", ylabel="fused boxes per image", xticks=tenths)
    return _svg(axes)


def partition(found: dict) -> str:
    """Draw how many training images keep their labels at each unlabeled fraction (Fig. 2)."""
    axes, places = _horizontal([f"{share} %" for share in found["fractions"]])
    labeled = [entry["labeled"] for entry in found["fractions"].values()]
    unlabeled = [entry["unlabeled"] for entry in found["fractions"].values()]
    axes.barh(places, unlabeled, color=_GRAY, label="without labels")
    axes.barh(places, labeled, left=unlabeled, color=_BLUE, label="with labels")
    axes.set(xlabel="training images", ylabel="unlabeled fraction")
    _legend(axes)
    return _svg(axes)


def readers(audit: dict) -> str:
    """Draw the fraction of the images with findings that each reader read, by part."""
    axes, places = _horizontal(list(audit["readers"]))
    parts = [(part, total) for part, total in audit["images"].items() if total]
    for shift, ((part, total), color) in enumerate(zip(parts, (_BLUE, _GREEN, _ORANGE), strict=False)):
        shares = [100 * images[part] / total for images in audit["readers"].values()]
        axes.barh(places + 0.27 * (shift - 1), shares, 0.27, label=part, color=color)
    axes.set(xlabel="percent of the part's images that the reader read", xlim=(0, 100))
    _legend(axes)
    return _svg(axes)


def readers_predict(audit: dict) -> str:
    """Draw the AUROC of the readers' names for each class."""
    entries = {"any finding": audit["any_finding"], **audit["classes"]}
    entries = {name: entry["auroc"] for name, entry in entries.items() if entry["auroc"] is not None}
    axes, places = _horizontal(list(entries))
    axes.scatter(list(entries.values()), places, color=_BLUE, zorder=3)
    axes.axvline(0.5, color=_GRAY, linestyle="--", linewidth=1)
    axes.set(xlabel="AUROC of the readers' names alone (0.5 = chance)", xlim=(0.4, 1))
    axes.grid(axis="x", color="#e5e5e5")
    return _svg(axes)


def box_f1(audit: dict) -> str:
    """Draw the pairwise F1 of readers for each class."""
    entries = {name: entry["f1"] or 0 for name, entry in {**audit["classes"], "all classes": audit["all"]}.items()}
    axes, places = _horizontal(list(entries))
    axes.barh(places, list(entries.values()), 0.6, color=_BLUE)
    axes.set(xlabel=f"box F1 of two readers, IoU > {audit['iou_threshold']:g}", xlim=(0, 1))
    return _svg(axes)


def _axes(height: float) -> Axes:
    axes = chart_style.subplots(height=height)[1]
    axes.grid(False)
    return axes


def _horizontal(labels: list[str]) -> tuple[Axes, np.ndarray]:
    """Return axes with one row a label, the first on top, and the rows' places (N,)."""
    axes = _axes(1.2 + 0.34 * len(labels))
    places = np.arange(len(labels))
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    return axes, places


def _legend(axes: Axes) -> None:
    """Put the legend above the axes, where no bar can be."""
    axes.figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)


def _svg(axes: Axes) -> str:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return chart_style.svg(figure)
