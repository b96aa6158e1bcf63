"""docs/build_site.py: the navigation is the index, and links work where the pages are staged."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_is_the_sections_and_links_of_the_index(site):
    index = "# Documentation\n## Start\n- [a](a.md): one.\n## Reference\n- [b](../b.md): two\n- no link, [c](c.md)\n"
    assert site.navigation(index) == {"Start": ["a.md"], "Reference": ["../b.md"]}


def test_every_page_is_in_the_index_or_in_the_folder_of_an_index(site):
    index = (ROOT / site.INDEX).read_text(encoding="utf-8")
    linked = {site.resolve(site.INDEX, link) for links in site.navigation(index).values() for link in links}
    assert None not in linked
    rooms = {Path(page).parent for page in site._FOLDER_INDEXES}
    elsewhere = {Path(site.INDEX), Path("CONTRIBUTING.md")}
    assert [
        page for page in map(Path, site.pages()) if page not in linked | elsewhere and page.parent not in rooms
    ] == []


def test_links_are_rewritten_to_where_the_site_has_their_targets(site):
    text = (
        "[home](../README.md#cite) [room](../d2_cxr/engine) [folder](../tools) [page](formats.md) [web](https://a.b/c)"
    )
    assert site.rewrite("docs/design.md", text) == (
        "[home](../index.md#cite) [room](../api/d2_cxr/engine/index.rst) [folder](../folders/tools.md) "
        "[page](formats.md) [web](https://a.b/c)"
    )


def test_a_link_to_nothing_stays_for_sphinx_to_fail_on(site):
    assert site.rewrite("docs/design.md", "[x](nowhere.md)") == "[x](nowhere.md)"


def test_what_a_page_links_to_is_staged_with_it(site, tmp_path):
    site.stage(tmp_path)
    assert (tmp_path / "docs" / "pictures" / "demo.jpg").is_file()
    assert "`tools/evaluate.py`" in (tmp_path / "folders" / "tools.md").read_text()
    home = (tmp_path / "index.md").read_text()
    assert ":caption: Start" in home and "API reference </api/d2_cxr/index>" in home
