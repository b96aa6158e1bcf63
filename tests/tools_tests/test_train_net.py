import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def train_net(load_tool):
    return load_tool("train_net")


def test_detectron2s_options_are_understood(train_net):
    args = train_net.parse_args(
        ["--config-file", "a.yaml", "--num-gpus", "2", "--resume", "--eval-only", "SOLVER.MAX_ITER", "5"]
    )
    assert (args.config_file, args.num_gpus, args.resume, args.eval_only) == ("a.yaml", 2, True, True)
    assert args.opts == ["SOLVER.MAX_ITER", "5"] and args.num_machines == 1


def test_the_tool_stays_small():
    assert len((ROOT / "tools" / "train_net.py").read_text().splitlines()) < 90


def test_mistakes_are_refused_before_anything_is_written(train_net, tmp_path):
    pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")
    output = tmp_path / "run"
    for argv, error, message in (
        (["--config-file", "nowhere.yaml"], FileNotFoundError, r"nowhere\.yaml does not exist"),
        (["--allow", "nowhere.txt"], FileNotFoundError, r"nowhere\.txt does not exist; list in it the images to allow"),
        (["OUTPUT", str(output)], ValueError, "Non-existent key: OUTPUT"),
        (["DATASETS.TRAIN", "('nowhere_train',)"], ValueError, "no data set 'nowhere_train'"),
    ):
        with pytest.raises(error, match=message):
            train_net.main([*argv, *(["OUTPUT_DIR", str(output)] if "OUTPUT" not in argv else [])])
    assert not output.exists()


def documented(path):
    """Return the loop of a document that compares repeat thresholds, as one line a threshold."""
    text = " ".join((ROOT / path).read_text().replace("\\", " ").split())
    thresholds, command = re.search(r"for t in ([\d. ]+); do python tools/train_net\.py (.*?); done", text).groups()
    return [command.replace("$t", threshold) for threshold in thresholds.split()]


@pytest.mark.parametrize("path", ["tools/train_net.py", "docs/paper.md"])
def test_the_documented_comparison_of_thresholds_is_a_config(train_net, path):
    pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")
    from d2_cxr.engine.config import load_config

    found = []
    for command in documented(path):
        args = train_net.parse_args(shlex.split(command))
        cfg = load_config(ROOT / args.config_file, args.opts)  # yacs takes 0 for no float
        found.append((cfg.DATALOADER.REPEAT_THRESHOLD, cfg.OUTPUT_DIR))
        assert cfg.DATASETS.TEST == ("vindr_cxr_val",)
    assert found == [(0.0, "output/repeat_0.0"), (0.1, "output/repeat_0.1"), (0.4, "output/repeat_0.4")]


def test_help_needs_no_heavy_import(train_net, capsys):
    with pytest.raises(SystemExit) as stop:
        train_net.parse_args(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "python tools/train_net.py --config-file configs/VinDr-CXR/faster_rcnn_R_50_FPN.yaml" in text
    assert "DATALOADER.REPEAT_THRESHOLD $t" in text  # the documented comparison
