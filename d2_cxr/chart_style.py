"""One look for every chart: colors that color-blind readers tell apart, light grid, no frame, values under the pointer.

matplotlib is imported when a chart is drawn, and pyplot never: no display and no global state.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from d2_cxr.drawing import class_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches
MARKERS = "osD^vPX*<>hpd8"
GRAY = "#999999"
STYLE: Any = {  # matplotlib's own type is the list of all its keys
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "d2_cxr",  # the same figure gives the same bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}
_ORDER = (4, 5, 2, 6, 1, 0, 3)  # of drawing.py's palette: yellow, weak on white, last
_REACH = 7  # pixels around a point that show its value
_MOST_POINTS = 200  # of a line: a denser one has no values to show

Point = tuple["Axes", float, float, str]  # axes, x and y in their data, text


def color(index: int) -> str:
    """Return the color of a line or bar, e.g. "#0072b2"; the 8th to 14th are lighter shades."""
    return "#{:02x}{:02x}{:02x}".format(*class_color(_ORDER[index % 7] + 7 * (index // 7 % 2)))


def subplots(rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = 4.0, **options: Any) -> tuple:
    """Return a figure in this style and its axes: one, or an array (rows, columns).

    Args:
        width, height: inches.
        options: of `Figure.subplots`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def svg(figure: Figure, points: Sequence[Point] | None = None) -> str:
    """Return a figure as SVG text whose points show their values under the pointer (as SVG `title`).

    Args:
        figure: of `subplots`.
        points: what to show where; None: the value of every point of a labeled line, and of every labeled bar.
    """
    import matplotlib
    from matplotlib.legend import Legend

    text = io.StringIO()
    for legend in figure.findobj(Legend):
        legend.set_frame_on(False)  # a legend is made outside `subplots`, so its own setting is not read
    figure.set_dpi(72)  # that of SVG, so that the layout is the one in the file
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    content = text.getvalue()
    height = figure.get_figheight() * 72
    marks = _bars(figure, height) if points is None else []
    marks += _points(list(_line_points(figure)) if points is None else points, height)
    start, end = content.index("<svg"), content.rindex("</svg>")
    return f"{content[start:end]}{''.join(marks)}</svg>\n"


def _line_points(figure: Figure) -> Iterator[Point]:
    for axes in figure.axes:
        unit = axes.get_xlabel().split(" (")[0]
        for line in axes.lines:
            label = str(line.get_label())
            places = np.asarray(line.get_xydata(), dtype=float)
            if label.startswith("_") or not 1 < len(places) <= _MOST_POINTS:
                continue
            for x, y in places.tolist():
                yield axes, x, y, f"{label}: {y:.3f} at {x:g} {unit}".rstrip()


def _points(points: Sequence[Point], height: float) -> list[str]:
    marks = []
    for axes, x, y, text in points:
        place = axes.transData.transform((x, y))
        if axes.bbox.padded(1).contains(*place):
            circle = f'<circle cx="{place[0]:.1f}" cy="{height - place[1]:.1f}" r="{_REACH}" fill-opacity="0">'
            marks.append(f"{circle}<title>{escape(text)}</title></circle>")
    return marks


def _bars(figure: Figure, height: float) -> list[str]:
    marks = []
    for container in (container for axes in figure.axes for container in axes.containers):
        label = str(container.get_label())
        bars, values = getattr(container, "patches", ()), getattr(container, "datavalues", ())
        for bar, value in zip(bars, values, strict=True):
            box, shown = bar.get_window_extent(), f"{value:.3f}".rstrip("0").rstrip(".")
            rectangle = f'<rect x="{box.x0:.1f}" y="{height - box.y1:.1f}" width="{box.width:.1f}" '
            title = f"{label}: {shown}" if not label.startswith("_") else shown
            marks.append(f'{rectangle}height="{box.height:.1f}" fill-opacity="0"><title>{escape(title)}</title></rect>')
    return marks
