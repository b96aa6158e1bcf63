"""`tools/benchmark.py gpu`: all of it in small on a CPU, and what it does where time or a part fails."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import gpu

    return gpu


@pytest.mark.slow
def test_the_tiny_run_measures_every_part_and_a_second_call_measures_none(gpu, tmp_path, capsys):
    command = ["--tiny", "--minutes", "15", "--output", str(tmp_path)]
    assert gpu.main(command) == 0, capsys.readouterr().err
    first = json.loads((tmp_path / "gpu.json").read_text())
    assert tuple(first["parts"]) and set(first["parts"]) == set(gpu.PARTS)
    for name in ("stock_fp32", "ours_bf16", "ours_bf16_compiled"):
        part = first["parts"][f"detector_{name}"]
        assert len(part["loss"]) == gpu.TINY.warm + gpu.TINY.steps and part["images_per_second"] > 0, name
    losses = [first["parts"][f"detector_ours_bf16{end}"]["loss"] for end in ("", "_compiled")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # what is compiled computes the same
    assert 0 <= first["parts"]["whole_run"]["prior_box_AP50"]["value"] <= 1
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.log")}
    assert len(times) == len(gpu.PARTS)
    assert gpu.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.log")} == times


def test_without_time_nothing_is_begun_and_the_exit_code_says_so(gpu, tmp_path, capsys):
    assert gpu.main(["--tiny", "--minutes", "0", "--output", str(tmp_path)]) == 1
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert set(written["left_out"]) == set(gpu.PARTS) and written["parts"] == {}
    assert "not begun: 0 s are left, 5 are needed" in capsys.readouterr().err


def test_a_part_that_fails_leaves_its_last_line_and_a_part_that_wrote_its_numbers_counts(gpu, tmp_path, monkeypatch):
    args = Namespace(output=tmp_path, tiny=True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert gpu._run_part("simclr", args, time.monotonic() + 60).startswith("exit code 1: no output (see ")
    (tmp_path / "simclr.json").write_text("{}")
    assert gpu._run_part("simclr", args, time.monotonic() + 60) is None


def test_a_part_that_runs_out_of_time_is_ended(gpu, tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\necho began\nsleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(gpu, "TINY", gpu.TINY.__class__(**{**vars(gpu.TINY), "least_seconds": {"simclr": 1}}))
    reason = gpu._run_part("simclr", Namespace(output=tmp_path, tiny=True), time.monotonic() + 1.5)
    assert reason.startswith("out of time: began")


def test_the_whole_run_divides_the_time_left_by_the_measured_rates_once(gpu, tmp_path):
    (tmp_path / "simclr.json").write_text('{"views per second, images": 1000}')
    (tmp_path / "detector_ours_bf16.json").write_text('{"images_per_second": 80}')
    budget = gpu._budget(tmp_path, gpu.FULL, time.monotonic() + gpu._RESERVE + 200)
    assert budget["views"] == pytest.approx(100_000, rel=0.01)  # 100 s
    assert budget["iterations"] == pytest.approx(660, rel=0.01)  # 66 s of 10 batches of 8
    assert gpu._budget(tmp_path, gpu.FULL, time.monotonic()) == budget


def test_use_of_the_gpu_is_the_median_and_the_most_of_what_nvidia_smi_wrote(gpu, tmp_path):
    assert gpu.gpu_use(tmp_path, "simclr") is None
    (tmp_path / "simclr.use.csv").write_text("0, 10\n90, 4000\n80, 5000\n[N/A], 1\n")
    assert gpu.gpu_use(tmp_path, "simclr") == {"median_percent": 80, "most_percent": 90, "most_memory_mib": 5000}


def test_a_way_of_the_detector_switches_the_other_ways_off(gpu):
    from benchmarks import _detector

    from d2_cxr.engine.config import load_config

    cfg = load_config(str(TOOLS.parent / "configs" / "quick_schedules" / "demo_R_18.yaml"))
    assert (cfg.CXR.AMP, cfg.CXR.CHANNELS_LAST) == ("auto", True)
    stock, ours = (_detector.way_config(cfg, way) for way in ("stock fp32", "ours bf16"))
    assert (stock.CXR.AMP, stock.CXR.CHANNELS_LAST, stock.CXR.TF32) == ("off", False, False)
    assert (ours.CXR.AMP, ours.CXR.CHANNELS_LAST, ours.CXR.TF32) == ("bf16", True, True)
    assert _detector.way_config(cfg, "stock AMP").SOLVER.AMP.ENABLED
