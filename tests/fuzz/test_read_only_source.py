"""From a source checkout that nobody may write to, a set is prepared, a detector trained, and images predicted."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2_cxr import artifacts

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MAX_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64"]
SMALL += ["INPUT.MAX_SIZE_TEST", "64", "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"]
SMALL += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "2", "CXR.RESAMPLES", "10"]


@pytest.fixture
def checkout(tmp_path):
    """This checkout, mounted so that nothing can be written there."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    done = subprocess.run(["mount", "--bind", ROOT, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the checkout cannot be mounted: {done.stderr.strip()}")
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_everything_works_from_a_checkout_that_cannot_be_written(checkout, make_dicom, tmp_path):
    with pytest.raises(OSError, match="Read-only"):
        (checkout / "x").write_text("x")
    rows = ["image_id,class_name,x_min,y_min,x_max,y_max"]
    for index in range(12):
        make_dicom(np.random.default_rng(index).integers(0, 4096, (200, 160)), name=f"images/f{index:02d}.dicom")
        rows.append(f"f{index:02d},Opacity,{10 + index},20,120,150")
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")

    def run(*command: object) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]

    inputs = ["--dicom-dir", tmp_path / "images", "--annotations", tmp_path / "boxes.csv", "--output", tmp_path / "set"]
    run("tools/prepare_vindr_cxr.py", *inputs, "--name", "own_cxr", "--classes", "from-csv", "--size", "64")
    sets = ["CXR.DATASETS", f"[['own_cxr', '{tmp_path / 'set'}']]", "OUTPUT_DIR", tmp_path / "run"]
    names = ["DATASETS.TRAIN", "('own_cxr_train',)", "DATASETS.TEST", "('own_cxr_test',)"]
    config = "configs/quick_schedules/demo_R_18.yaml"
    run("tools/train_net.py", "--config-file", config, *SMALL, *sets, *names)
    weights = tmp_path / "run/model_final.pth"
    run("tools/predict.py", "--weights", weights, tmp_path / "images", "--output", tmp_path / "out", "--device", "cpu")
    assert len(artifacts.read_json(tmp_path / "out/findings.json")) == 12
