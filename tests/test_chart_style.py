"""chart_style.py: one look, and values under the pointer."""

import re

from d2_cxr import chart_style


def chart(**options):
    figure, axes = chart_style.subplots(**options)
    axes.plot([1, 2], [0.25, 0.5], label="a < b")
    axes.set(xlabel="false positives per image (all)", xlim=(0, 4), ylim=(0, 1))
    return figure, axes


def titles(svg):
    return re.findall(r"<title>(.*?)</title>", svg)


def test_every_point_of_a_labeled_line_shows_its_value_and_the_text_is_escaped():
    figure, axes = chart()
    axes.plot([1, 2], [0.1, 0.2])  # unlabeled: a helping line
    shown = titles(chart_style.svg(figure))
    assert shown == [f"a &lt; b: {y} at {x} false positives per image" for y, x in (("0.250", 1), ("0.500", 2))]


def test_a_point_is_where_the_data_are():
    figure, axes = chart(width=4, height=3)
    svg = chart_style.svg(figure, [(axes, 2, 0.5, "middle")])
    (place,) = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)
    box = axes.bbox
    assert abs(float(place[0]) - (box.x0 + box.x1) / 2) < 0.1
    assert abs(float(place[1]) - (3 * 72 - (box.y0 + box.y1) / 2)) < 0.1


def test_points_outside_the_axes_are_left_out():
    figure, axes = chart()
    assert titles(chart_style.svg(figure, [(axes, 9, 0.5, "outside")])) == []


def test_bars_show_their_values():
    figure, axes = chart_style.subplots()
    axes.barh(["x", "y"], [3, 0.25], label="images")
    assert titles(chart_style.svg(figure)) == ["images: 3", "images: 0.25"]


def test_the_same_chart_gives_the_same_bytes():
    assert chart_style.svg(chart()[0]) == chart_style.svg(chart()[0])


def test_neighboring_lines_have_different_colors():
    assert chart_style.color(0) == "#0072b2" and len({chart_style.color(index) for index in range(14)}) == 14
