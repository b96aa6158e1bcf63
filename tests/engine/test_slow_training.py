"""What takes minutes: several processes, the real detector at 512 px, and Detectron2's own training script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.engine import trainer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STOCK = ROOT / "build" / "detectron2-tools" / "plain_train_net.py"


def run(*argv, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def option_list(cfg_opts, tiny_set, output):
    return [*cfg_opts, "CXR.DATASETS", f"[['tiny_cxr', '{tiny_set}']]", "OUTPUT_DIR", str(output)]


def test_two_processes_train_on_the_same_images(tiny_set, tiny_opts, tmp_path):
    opts = [*tiny_opts, "DATASETS.TRAIN", "('tiny_cxr_train_labeled_50_seed1',)", "SOLVER.MAX_ITER", "2"]
    config = "configs/quick_schedules/demo_R_18.yaml"
    output = tmp_path / "two"
    run("tools/train_net.py", "--config-file", config, "--num-gpus", "2", *option_list(opts, tiny_set, output))
    record = artifacts.read_json(output / "run.json")
    assert record["status"] == "finished" and "AP" in record["results"]["tiny_cxr_test"]["bbox"]
    schedules = [
        [
            line
            for line in (output / name).read_text().splitlines()
            if "images with findings" in line or "Schedule" in line
        ]
        for name in ("log.txt", "log.txt.rank1")
    ]
    plain = [[line.split("INFO: ")[1] for line in lines] for lines in schedules]
    assert plain[0] == plain[1] and len(plain[0]) == 2  # every process sees the same labeled subset

    argv = ["tools/train_net.py", "--config-file", config, "--num-gpus", "2", *option_list(opts, tiny_set, output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    again = subprocess.run([sys.executable, *argv], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "Traceback" not in again.stderr
    assert f"train_net.py: error: {output} holds a finished run" in again.stderr


def test_two_processes_share_a_teachers_pool(tiny_set, tiny_opts, tmp_path):
    opts = [*tiny_opts, "DATASETS.TRAIN", "('tiny_cxr_train_labeled_50_seed1',)", "SOLVER.MAX_ITER", "4"]
    opts += ["CXR.TEACHER.POOL", "['tiny_cxr_train_unlabeled']", "CXR.TEACHER.THRESHOLDS", "[0.06]"]
    opts += ["SOLVER.IMS_PER_BATCH", "4", "CXR.TEACHER.BURN_IN", "0.5", "SOLVER.CHECKPOINT_PERIOD", "3"]
    argv = ["tools/train_net.py", "--config-file", "configs/quick_schedules/demo_R_18.yaml", "--num-gpus", "2"]
    run(*argv, *option_list(opts, tiny_set, tmp_path / "two"))
    history = artifacts.read_json(tmp_path / "two" / "teacher.json")["history"]
    assert [entry["iteration"] for entry in history] == [3, 4]
    assert [entry["images"] for entry in history] == [4, 4]  # of both processes
    (tmp_path / "two" / "run.json").unlink()  # as if killed before its last step was recorded
    (tmp_path / "two" / "last_checkpoint").write_text("model_0000002.pth")
    run(*argv, "--resume", *option_list(opts, tiny_set, tmp_path / "two"))
    assert artifacts.read_json(tmp_path / "two" / "teacher.json")["history"][0] == history[0]


def test_the_real_detector_trains_at_512_pixels(tiny_set, tmp_path):
    opts = ["DATASETS.TRAIN", "('tiny_cxr_train',)", "DATASETS.TEST", "('tiny_cxr_test',)", "SOLVER.MAX_ITER", "2"]
    opts += [
        "SOLVER.IMS_PER_BATCH",
        "2",
        "MODEL.DEVICE",
        "cpu",
        "DATALOADER.NUM_WORKERS",
        "0",
        "CXR.VAL_AT_END",
        "False",
    ]
    opts += ["CXR.DATASETS", f"[['tiny_cxr', '{tiny_set}']]", "CXR.RESAMPLES", "0"]
    cfg = trainer.setup("configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml", opts, tmp_path)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (512,) and cfg.MODEL.RESNETS.DEPTH == 50
    assert "tiny_cxr_test" in trainer.train(cfg)
    losses = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert losses["iteration"] == 1 and 0 < losses["total_loss"] < 20


@pytest.mark.skipif(
    not STOCK.is_file(), reason="Detectron2's own tools are missing: python tools/install_detectron2.py"
)
def test_detectron2s_own_script_trains_and_evaluates_on_our_names(tiny_set, tmp_path):
    """Only `import d2_cxr` and a registered set come from here; script, config and loader are Detectron2's."""
    script = (
        "import runpy, sys, d2_cxr; from d2_cxr.datasets.builtin import register_prepared; "
        f"register_prepared('tiny_cxr', {str(tiny_set)!r}); sys.argv = ['plain_train_net.py', *sys.argv[1:]]; "
        f"runpy.run_path({str(STOCK)!r}, run_name='__main__')"
    )
    config = {
        "MODEL": {
            "WEIGHTS": "",
            "DEVICE": "cpu",
            "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 0},
            "RESNETS": {
                "DEPTH": 18,
                "RES2_OUT_CHANNELS": 64,
                "NORM": "BN",
                "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
            },
            "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"]},
            "RPN": {"IN_FEATURES": ["p3", "p4", "p5"]},
            "ANCHOR_GENERATOR": {"SIZES": [[16], [32], [64]]},
            "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p3", "p4", "p5"], "NUM_CLASSES": 2},
            "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 1},
        },
        "DATASETS": {"TRAIN": ["tiny_cxr_train"], "TEST": ["tiny_cxr_test"]},
        "DATALOADER": {"NUM_WORKERS": 0},
        "INPUT": {"MIN_SIZE_TRAIN": [64], "MIN_SIZE_TEST": 64},
        "SOLVER": {"MAX_ITER": 2, "IMS_PER_BATCH": 2},
        "OUTPUT_DIR": str(tmp_path),
        "VERSION": 2,
    }
    artifacts.write_json(tmp_path / "stock.yaml", config)  # JSON is YAML
    run("-c", script, "--config-file", tmp_path / "stock.yaml")
    assert "model" in torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert (tmp_path / "inference/tiny_cxr_test/coco_instances_results.json").is_file()  # by COCOEvaluator


def test_the_predictor_reads_real_dicom(finished, open_images, tmp_path):
    from d2_cxr.prediction.predict import predict
    from d2_cxr.prediction.predictor import Predictor

    images, _ = predict(Predictor(finished[2] / "model_final.pth", "cpu"), [open_images / "dicom"], tmp_path)
    assert images and all((image.boxes_xyxy[:, 2:] <= [image.width, image.height]).all() for image in images)


def test_sigterm_ends_a_training_with_143_and_a_restart_equals_the_whole_run(tiny_set, tiny_opts, tmp_path):
    import time

    opts = [*tiny_opts, "SOLVER.MAX_ITER", "30", "SOLVER.CHECKPOINT_PERIOD", "3", "DATASETS.TEST", "()"]
    command = ["tools/train_net.py", "--config-file", "configs/quick_schedules/demo_R_18.yaml"]
    run(*command, *option_list(opts, tiny_set, tmp_path / "whole"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    parts = option_list(opts, tiny_set, tmp_path / "parts")
    process = subprocess.Popen([sys.executable, *command, *parts], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    while not (tmp_path / "parts" / "last_checkpoint").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait() == 143
    record = artifacts.read_json(tmp_path / "parts" / "run.json")
    assert record["status"] == "failed" and record["error"].startswith("stopped by SIGTERM")
    run(*command, "--resume", *parts)
    whole, resumed = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"] for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
