"""`tools/benchmark.py evaluate` with tiny numbers: what it times computes the same thing."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"
TINY = ["--images", "12", "--classes", "3", "--detections", "8", "--resamples", "5", "--rounds", "2"]


@pytest.fixture
def numbers(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    main = runpy.run_path(str(BENCHMARK))["main"]
    assert main(["evaluate", *TINY, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == written
    return written


def test_every_way_is_timed_and_finds_the_same_map(numbers):
    assert set(numbers["seconds"]) == {"pycocotools_once", "faster_coco_eval_once", "match", "core", "everything"}
    found = {name: value for name, value in numbers["mAP"].items() if value is not None}
    assert 0 < found["pycocotools_once"] < 1
    assert list(found.values()) == pytest.approx([found["pycocotools_once"]] * len(found), abs=1e-9)
    ratio = numbers["seconds"]["core"] / numbers["seconds"]["pycocotools_once"]
    assert numbers["core_over_pycocotools"] == pytest.approx(ratio, abs=1e-3)


def test_the_numbers_say_how_they_were_made(numbers):
    assert numbers["command"].startswith("python tools/benchmark.py evaluate --images 12 --classes 3 ")
    assert " cores, " in numbers["machine"] and "torch " in numbers["machine"]
    assert (numbers["images"], numbers["resamples"]) == (12, 5)
    assert numbers["truth_boxes"] >= 12 and numbers["detections"] >= 12 * 8  # one truth box and 8 detections an image
