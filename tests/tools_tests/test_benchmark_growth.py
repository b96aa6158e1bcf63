"""Work grows in proportion: counted in calls and bytes, not in seconds; and the benchmark that shows the seconds."""

from __future__ import annotations

import cProfile
import json
import pstats
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from d2_cxr import artifacts

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import growth

    return growth


def calls(run) -> int:
    """Return how many function calls some work makes."""
    profile = cProfile.Profile()
    profile.runcall(run)
    return pstats.Stats(profile).total_calls


def growing(growth, tmp_path, work: str, sizes: tuple[int, ...], csv: Path | None = None) -> list[int]:
    """Return calls by size; a first run at the smallest size imports and fills caches."""
    found = []
    for number, size in enumerate((sizes[0], *sizes)):
        folder = tmp_path / f"{work}{number}"
        folder.mkdir()
        found.append(calls(growth.make(work, size, folder, csv)))
    return found[1:]


def increments(found: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(found)]


def test_planning_twice_the_stages_makes_twice_the_calls(growth, tmp_path):
    first, second = increments(growing(growth, tmp_path, "planning", (50, 100, 200)))
    assert 0 < second <= 2.4 * first


@pytest.fixture
def labels(tmp_path) -> Path:
    """Three readers' boxes on 40 images, in Kaggle's layout."""
    rng = np.random.default_rng(0)
    rows = []
    for image in range(40):
        for reader in ("R1", "R2", "R3"):
            x, y = rng.uniform(0, 400, 2)
            row = {"image_id": f"i{image}", "class_name": "Cardiomegaly", "class_id": 3, "rad_id": reader}
            rows.append({**row, "x_min": x, "y_min": y, "x_max": x + 90, "y_max": y + 80})
    artifacts.write_csv(tmp_path / "labels.csv", rows, list(rows[0]))
    return tmp_path / "labels.csv"


def test_label_statistics_of_twice_the_images_make_at_most_twice_the_calls(growth, tmp_path, labels):
    first, second = increments(growing(growth, tmp_path, "label_statistics", (1, 2, 4), labels))
    assert 0 < second <= 2.4 * first


def test_near_duplicates_of_twice_the_images_hold_twice_the_memory_though_pairs_are_four_times_as_many(
    growth, tmp_path, monkeypatch
):
    from d2_cxr.audit import near_duplicates

    monkeypatch.setattr(near_duplicates, "_BLOCK", 32)
    peaks = []
    for size in (128, 256):
        run = growth.make("near_duplicates", size, tmp_path)
        tracemalloc.start()
        found = run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found) == size // 100  # every hundredth image is another one, encoded anew
    assert peaks[1] <= 2.4 * peaks[0]


@pytest.mark.slow
def test_a_report_on_twice_the_runs_makes_at_most_twice_the_calls(growth, tmp_path):
    first, second = increments(growing(growth, tmp_path, "report", (2, 4, 8)))
    assert 0 < second <= 2.4 * first


def test_the_benchmark_says_how_many_times_as_long_each_size_took(growth, tmp_path, capsys):
    assert growth.main(["planning", "--sizes", "10", "20", "--json", str(tmp_path / "out.json")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["size"] for row in written["rows"]] == [10, 20]
    assert written["rows"][1]["times"]["size"] == 2 and written["rows"][1]["memory_mb"] > 0


def test_label_statistics_without_a_table_are_refused(growth):
    with pytest.raises(ValueError, match="label_statistics needs --csv FILE"):
        growth.main(["label_statistics"])
