"""A bar on a terminal, whole lines in a file."""

import io

import pytest

from d2_cxr import progress
from d2_cxr.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(file, monkeypatch, seconds_a_step=5.0, steps=40) -> str:
    now = [0.0]
    with Bar(total=steps, desc="images", unit="image", file=file) as bar:
        monkeypatch.setattr(bar, "_time", lambda: now[0])
        bar.start_t = bar.last_print_t = 0.0
        for _ in range(steps):
            now[0] += seconds_a_step
            bar.update()
    return file.getvalue()


def test_a_file_gets_a_line_at_the_start_after_ten_seconds_and_once_a_minute(monkeypatch):
    lines = shown(io.StringIO(), monkeypatch).splitlines()
    assert [line.split()[1] for line in lines] == ["0", "2", "14", "26", "38", "40"]  # of 40 steps of 5 s
    assert lines[1].startswith("images: 2 of 40 images, ") and "left" in lines[1]


def test_a_file_gets_no_carriage_return_and_no_empty_line(monkeypatch):
    text = shown(io.StringIO(), monkeypatch)
    assert "\r" not in text and "\n\n" not in text and text.endswith("\n")


def test_a_terminal_gets_a_bar(monkeypatch):
    assert "\r" in shown(Terminal(), monkeypatch)


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_nothing_is_shown_where_it_is_turned_off(file):
    with Bar(total=3, disable=True, file=file) as bar:
        bar.update()
    assert file.getvalue() == ""


def test_a_loop_is_shown_too(capsys):
    assert list(Bar(range(3), desc="pages", unit="page")) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines()[-1].startswith("pages: 3 of 3 pages")
    assert progress._FIRST_S == 10
