"""What `tools/benchmark.py compiled` says of a way that costs much at first and little afterwards."""

from pathlib import Path

import pytest

from d2_cxr.artifacts import read_json

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import compiled

    return compiled


class Way:
    """A step adds its CPU seconds to the test's clock; the first one costs more."""

    def __init__(self, clock: list[float], first: float, later: float):
        self._clock, self._costs = clock, [first]
        self._later = later

    def step(self) -> float:
        self._clock[0] += self._costs.pop() if self._costs else self._later
        return 1.0


def test_the_step_at_which_compilation_has_paid_for_itself(compiled, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(compiled, "_cpu_seconds", lambda: clock[0])
    found = compiled.in_turns({"eager": Way(clock, 1, 0.5), "compiled": Way(clock, 41, 0.25)}, steps=2, rounds=3)
    assert found["first_step"] == {"eager": 1.0, "compiled": 41.0}
    assert found["step"] == {"eager": 0.5, "compiled": 0.25} and found["times_faster"] == 2
    assert found["pays_after"] == 40 / 0.25
    assert len(found["value"]["eager"]) == 1 + 2 * 3
    slower = compiled.in_turns({"eager": Way(clock, 1, 0.5), "compiled": Way(clock, 41, 0.75)}, steps=1, rounds=1)
    assert slower["pays_after"] is None


@pytest.mark.slow
def test_both_ways_give_the_same_values(compiled, tmp_path):
    arguments = ["--images", "2", "--steps", "1", "--rounds", "1", "--batch-size", "1", "--backend", "aot_eager"]
    assert compiled.main([*arguments, "--json", str(tmp_path / "numbers.json")]) == 0
    values = read_json(tmp_path / "numbers.json")["inference"]["value"]
    assert values["compiled"] == pytest.approx(values["eager"], abs=1e-4) and len(values["eager"]) == 2
