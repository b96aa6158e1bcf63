"""`tools/benchmark.py train` with tiny numbers, and the clocks that divide a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
DEMO = str(TOOLS.parent / "configs" / "quick_schedules" / "demo_R_18.yaml")


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.chdir(TOOLS.parent)
    from benchmarks import train

    def measured(*options: str) -> dict:
        path = tmp_path / "numbers.json"
        assert train.main([*options, "--json", str(path)]) == 0
        return json.loads(path.read_text())

    return measured


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for `clock.now += seconds`."""
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import _profile

    class Clock:
        now = 0.0

    monkeypatch.setattr(_profile.time, "perf_counter", lambda: Clock.now)
    return Clock


def test_all_three_loaders_are_timed(run):
    milliseconds = run("--images", "2", "--rounds", "1")["milliseconds_per_sample"]
    assert set(milliseconds) == {"DatasetMapper", "array", "png"} and min(milliseconds.values()) > 0


@pytest.mark.slow
def test_a_step_is_divided_into_all_its_parts(run):
    ways = run(
        "--profile", "--images", "2", "--steps", "1", "--rounds", "1", "--batch-size", "1", "--config-file", DEMO
    )
    for name, parts in ways["milliseconds"].items():
        assert parts["step"] == pytest.approx(sum(parts.values()) - parts["step"]), name
        assert len(parts) == 19 and min(parts.values()) >= 0, name  # 18 parts and their sum
        assert parts["backbone, backward"] > parts["RPN: anchors"], name


def test_a_part_inside_another_is_taken_out_of_it(clock):
    from benchmarks._profile import Clocks

    clocks = Clocks()
    with clocks.running("outer"):
        clock.now += 1
        with clocks.running("inner"):
            clock.now += 10
        clock.now += 2
    assert clocks.seconds == {"outer": 3, "inner": 10}


def test_the_backward_pass_is_divided_at_the_first_gradient_of_each_border(clock):
    from benchmarks._profile import BACKBONE, FPN, HEADS, Clocks

    clocks = Clocks()
    with clocks.running("step"):
        for seconds, border in ((5, HEADS), (1, HEADS), (2, FPN), (4, FPN)):
            clock.now += seconds
            clocks.reach(border)
        clocks.divide_backward(start=0.0)
    assert clocks.seconds == {HEADS: 5, FPN: 3, BACKBONE: 4, "step": 0}
