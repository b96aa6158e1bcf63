"""The page of mistakes: every box has its kind, and the worst images come first."""

from __future__ import annotations

import pytest

from d2_cxr.evaluation.matching import match
from d2_cxr.evaluation.mistakes import kinds, write_mistakes


def test_kinds_by_hand(images):
    """A hit, its repeat, another class on the box, a box beside it, one of another class beside it, background."""
    found = [
        (1, 1, 0, 0, 20, 20, 0.9),
        (1, 1, 0, 0, 20, 19, 0.8),
        (1, 2, 0, 0, 20, 20, 0.7),
        (1, 1, 10, 0, 20, 20, 0.6),
        (1, 2, 10, 0, 20, 20, 0.5),
        (1, 1, 60, 60, 20, 20, 0.4),
    ]
    matches = match(*images([(1, 1, 0, 0, 20, 20)], found, num_classes=2))
    assert kinds(matches).tolist() == ["hit", "Dupe", "Cls", "Loc", "Both", "Bkg"]


@pytest.fixture
def page(mistakes_set, tmp_path):
    root, results = mistakes_set
    return write_mistakes("page_cxr_test", results, tmp_path / "out", root=root).read_text()


def test_the_page_shows_the_worst_first_with_every_box(page):
    names = [page.index(f'aria-label="{name}"') for name in ("f3", "n9", "f1", "f2")]
    assert names == sorted(names)
    assert page.count('data-kind="hit"') == 2 and page.count('data-kind="miss"') == 3
    assert page.count('data-kind="Bkg"') == 1 and page.count('data-kind="reader"') == 3
    assert page.count('data-negative="1"') == 1
    assert 'data-score="-1.0"' in page  # the truth box of f3, found by no detection


def test_the_page_stands_alone_and_escapes_names(page):
    assert "&lt;R1&gt;" in page and "<R1>" not in page
    assert "http://" not in page and "https://" not in page
