"""What is killed again and again ends with the same bytes, or weights. FUZZ_KILLS sets the number of kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("FUZZ_KILLS", "5"))
TOOL = Path(__file__).resolve().parents[2] / "tools" / "prepare_vindr_cxr.py"


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop("timings.csv")  # the only file that differs between two equal runs
    return files


def test_a_preparation_that_is_killed_many_times_gives_the_same_bytes(make_dicom, tmp_path):
    rows = ["image_id,class_name,x_min,y_min,x_max,y_max"]
    for index in range(24):
        make_dicom(np.random.default_rng(index).integers(0, 4096, (200, 160)), name=f"images/f{index:02d}.dicom")
        rows.append(f"f{index:02d},Opacity,{10 + index},20,120,150")
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")

    def start(output: Path) -> subprocess.Popen:
        inputs = ["--dicom-dir", tmp_path / "images", "--annotations", tmp_path / "boxes.csv", "--output", output]
        choices = ["--name", "own_cxr", "--classes", "from-csv", "--size", "64", "--jobs", "1", "--array"]
        command = [sys.executable, TOOL, *inputs, *choices]
        return subprocess.Popen(list(map(str, command)), start_new_session=True, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    whole, chance, killed = time.monotonic() - began, random.Random(0), 0
    output = tmp_path / "killed"
    for _ in range(KILLS):
        process = start(output)
        time.sleep(chance.uniform(0.3, 1.1) * whole)
        killed += process.poll() is None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (output / "dataset.json").is_file() and (output / "images.npy").is_file():  # start anew
            assert start(output).wait() == 0
            assert contents(output) == contents(tmp_path / "whole")
            output = tmp_path / f"killed{killed}"
    assert start(output).wait() == 0
    assert contents(output) == contents(tmp_path / "whole")
    assert killed >= 1


@pytest.mark.parametrize("kind", ["train", "pretrain"])
def test_a_run_that_is_killed_many_times_ends_with_the_same_weights(kind, tmp_path):
    script = Path(__file__).resolve().parents[1] / "kill_often.py"
    command = [sys.executable, script, kind, "--kills", KILLS, "--output", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] == KILLS and counts["compared"] >= 1 and counts["differing"] == counts["failed"] == 0
