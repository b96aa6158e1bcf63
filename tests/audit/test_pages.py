"""Pages share one frame, print text escaped, and load nothing from elsewhere."""

import pytest

from d2_cxr.audit import pages

_PAGE = """{% extends "base.html.j2" %}
{% import "macros.html.j2" as macros %}
{% block title %}Title of {{ name }}{% endblock %}
{% block content %}{{ macros.table(head, rows) }}{{ macros.figure("", "a caption") }}{% endblock %}
"""


def _write(tmp_path, **values):
    (tmp_path / "page.html.j2").write_text(_PAGE)
    pages.write_page(tmp_path / "page.html", "page.html.j2", folder=tmp_path, **values)
    return (tmp_path / "page.html").read_text()


def test_a_page_has_its_title_twice_and_its_table_once(tmp_path):
    page = _write(tmp_path, name="a set", head=("part", "images"), rows=[("train", 3)])
    assert page.count("Title of a set") == 2
    assert '<th>part</th><th class="n">images</th>' in page
    assert '<td>train</td><td class="n">3</td>' in page


def test_text_is_escaped_and_style_is_inside(tmp_path):
    page = _write(tmp_path, name="<b>", head=(), rows=[("<script>alert(1)</script>",)])
    assert "<b>" not in page and "<script>" not in page
    assert "<thead>" not in page
    assert "prefers-color-scheme: dark" in page and "&#" not in page.split("</style>")[0].split("<style>")[1]
    assert "http://" not in page and "https://" not in page


def test_a_forgotten_value_is_an_error(tmp_path):
    with pytest.raises(Exception, match="head"):
        _write(tmp_path, name="a set", rows=[])
