import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.engine import hooks, train_step, trainer

VALIDATION = ("TEST.EVAL_PERIOD", "2")


def weights_of(folder, name="model_final"):
    return torch.load(Path(folder) / f"{name}.pth", weights_only=True)["model"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses_of(folder):
    lines = (Path(folder) / "metrics.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_folder_holds_what_the_formats_say(finished):
    _, results, folder = finished
    expected = ["config.yaml", "run.json", "weights.json", "metrics.json", "model_final.pth", "model_best.pth"]
    inference = [f"inference/tiny_cxr_test/{name}" for name in ("evaluation.json", "matches.npz", "thresholds.json")]
    assert all((folder / name).is_file() for name in [*expected, *inference, "log.txt"])
    assert set(results) == {"tiny_cxr_test"} and "AP50" in results["tiny_cxr_test"]["bbox"]


def test_run_json_tells_what_the_run_was_made_from(finished, tiny_set):
    _, results, folder = finished
    record = artifacts.read_json(folder / "run.json")
    fingerprint = artifacts.read_json(tiny_set / "dataset.json")["images_fingerprint"]
    assert record["status"] == "finished" and record["start"] <= record["end"]
    assert record["results"] == results
    assert (record["num_train_images"], record["iterations"], record["seed"]) == (12, 4, 0)
    assert record["datasets"]["tiny_cxr_test"]["images_fingerprint"] == fingerprint
    assert record["weights"] is None and record["weights_card"] is None and record["weights_unchecked"] is False
    assert record["schedule"]["max_iter"] == 4 and record["versions"]["torch"] == torch.__version__
    assert len(record["validation"]["history"]) == 2


def test_weights_json_is_of_iteration_0(finished):
    _, _, folder = finished
    groups = artifacts.read_json(folder / "weights.json")["groups"]
    assert {row["origin"] for row in groups.values()} == {"random"}
    assert groups["backbone.bottom_up.res5"]["frozen"] == "no"


def test_the_weights_carry_a_card_that_prediction_needs(finished):
    _, _, folder = finished
    for name in ("model_final.pth", "model_best.pth"):
        card = read_card(folder / name)
        assert card.class_names == ["Disc", "Square"]
        assert card.preprocess == {"size": 64, "resize": "squash", "equalize": "histogram", "window": "file"}
        assert str(folder) not in card.config and "NUM_CLASSES: 2" in card.config
    assert read_card(folder / "model_final.pth").thresholds["chosen_on"] == "tiny_cxr_val"


def test_the_weights_list_the_images_they_have_seen(finished):
    _, _, folder = finished
    images = torch.load(folder / "model_final.pth", weights_only=True)["images"]
    assert images.shape == (12 + 6, 16)  # with findings and negative


def test_validation_leaves_curves_in_the_log(finished):
    _, _, folder = finished
    last = losses_of(folder)[-1]
    assert last["iteration"] == 3 and "bbox/AP" in last
    assert {"val_total_loss", "val_loss_cls", "val_loss_rpn_cls"} <= set(last)


def test_negative_images_are_evaluated_beside_the_others(finished):
    _, _, folder = finished
    with np.load(folder / "inference" / "tiny_cxr_test" / "matches.npz") as matches:
        assert matches["image_negative"].sum() == 3 and len(matches["image_negative"]) == 8


def test_a_finished_run_is_not_trained_again(finished, monkeypatch):
    cfg, results, _ = finished
    monkeypatch.setattr(trainer, "Trainer", None)  # must not be needed
    assert trainer.train(cfg, resume=True) == results
    with pytest.raises(ValueError, match="holds a finished run; choose another OUTPUT_DIR"):
        trainer.train(cfg)


def test_evaluation_alone_gives_the_same_results(finished, tmp_path):
    cfg, results, folder = finished
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(folder / "model_final.pth"), str(tmp_path)
    assert trainer.evaluate_only(cfg) == results


def test_a_backbone_is_not_evaluated_as_a_detector(finished, tmp_path):
    cfg, _, folder = finished
    content = torch.load(folder / "model_final.pth", weights_only=True)
    content["model"] = {name: value for name, value in content["model"].items() if name.startswith("backbone")}
    del content["card"]["tensors_sha256"]
    torch.save(content, tmp_path / "backbone.pth")
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(tmp_path / "backbone.pth"), str(tmp_path)
    with pytest.raises(ValueError, match="tensors of the model random, first: proposal_generator"):
        trainer.evaluate_only(cfg)


class Killed(BaseException):
    """What a kill is to the loop."""


def killed_after(monkeypatch, iterations):
    original = hooks.Checkpoints.after_step

    def after_step(self):
        original(self)
        if self.trainer.iter + 1 == iterations:
            raise Killed

    monkeypatch.setattr(hooks.Checkpoints, "after_step", after_step)


def test_a_resumed_run_equals_the_uninterrupted_one(tiny_cfg, monkeypatch):
    opts = ["SOLVER.MAX_ITER", "5", *VALIDATION, "CXR.VAL_AT_END", "False"]
    whole = tiny_cfg(*opts, output="whole")
    parts = tiny_cfg(*opts, "SOLVER.CHECKPOINT_PERIOD", "2", output="parts")
    expected = trainer.train(whole)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 3)
        trainer.train(parts)
    record = artifacts.read_json(Path(parts.OUTPUT_DIR) / "run.json")
    assert record["status"] == "failed" and len(list(Path(parts.OUTPUT_DIR).glob("model_0*.pth"))) == 1
    assert trainer.train(parts, resume=True) == expected
    assert same(weights_of(whole.OUTPUT_DIR), weights_of(parts.OUTPUT_DIR))
    assert same(weights_of(whole.OUTPUT_DIR, "model_best"), weights_of(parts.OUTPUT_DIR, "model_best"))


def test_starting_over_keeps_nothing_of_an_interrupted_run(tiny_cfg, monkeypatch):
    opts = ["SOLVER.MAX_ITER", "2", "CXR.VAL_AT_END", "False", "DATASETS.TEST", "()"]
    first = tiny_cfg(*opts, output="first")
    second = tiny_cfg(*opts, "SOLVER.CHECKPOINT_PERIOD", "1", output="second")
    trainer.train(first)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 1)
        trainer.train(second)
    trainer.train(second)  # no resume
    assert same(weights_of(first.OUTPUT_DIR), weights_of(second.OUTPUT_DIR))
    assert [line["iteration"] for line in losses_of(second.OUTPUT_DIR)] == [1]


def test_the_best_weights_can_be_the_tested_ones(tiny_cfg):
    cfg = tiny_cfg("SOLVER.MAX_ITER", "4", *VALIDATION, "CXR.TEST_WEIGHTS", "best")
    trainer.train(cfg)
    record = artifacts.read_json(Path(cfg.OUTPUT_DIR) / "run.json")
    assert record["tested"] == "model_best.pth"
    assert read_card(Path(cfg.OUTPUT_DIR) / "model_best.pth").thresholds["chosen_on"] == "tiny_cxr_val"


def test_another_seed_is_another_run_and_workers_change_nothing(tiny_cfg):
    opts = ["SOLVER.MAX_ITER", "1", "CXR.VAL_AT_END", "False", "DATASETS.TEST", "()"]
    runs = [
        tiny_cfg(*opts, "SEED", seed, "DATALOADER.NUM_WORKERS", workers, output=seed + workers)
        for seed, workers in (("0", "0"), ("0", "2"), ("1", "0"))
    ]
    for cfg in runs:
        assert trainer.train(cfg) == {}
    a, b, c = (weights_of(cfg.OUTPUT_DIR) for cfg in runs)
    assert same(a, b) and not same(a, c)


def test_weights_with_a_hole_do_not_start(finished, tiny_cfg, tmp_path):
    _, _, folder = finished
    content = torch.load(folder / "model_final.pth", weights_only=True)
    del content["model"]["backbone.bottom_up.res5.0.conv2.weight"]
    del content["card"]["tensors_sha256"]
    torch.save(content, tmp_path / "hole.pth")
    cfg = tiny_cfg("SOLVER.MAX_ITER", "1", "MODEL.WEIGHTS", str(tmp_path / "hole.pth"))
    with pytest.raises(ValueError, match=r"1 tensor of the backbone is random .*res5\.0\.conv2\.weight"):
        trainer.train(cfg)
    assert not (Path(cfg.OUTPUT_DIR) / "run.json").exists()


def test_a_run_starts_from_another_runs_weights(finished, tiny_cfg):
    _, _, folder = finished
    cfg = tiny_cfg("SOLVER.MAX_ITER", "1", "MODEL.WEIGHTS", str(folder / "model_final.pth"), "DATASETS.TEST", "()")
    trainer.train(cfg)
    report = artifacts.read_json(Path(cfg.OUTPUT_DIR) / "weights.json")
    assert {row["origin"] for row in report["groups"].values()} == {"file"}
    assert report["sha256"] == artifacts.sha256_file(folder / "model_final.pth")
    assert read_card(Path(cfg.OUTPUT_DIR) / "model_final.pth").initialized_from == "model_final.pth"


def test_each_run_logs_to_its_own_folder(finished, tiny_cfg):
    names = ("d2_cxr", "detectron2", "fvcore")
    before = [list(logging.getLogger(name).handlers) for name in names]
    cfg = tiny_cfg("SOLVER.MAX_ITER", "1", "CXR.VAL_AT_END", "False", "DATASETS.TEST", "()")
    trainer.train(cfg)
    for folder in (finished[2], cfg.OUTPUT_DIR):
        assert (Path(folder) / "log.txt").read_text().count("Schedule: ") == 1
    assert before == [list(logging.getLogger(name).handlers) for name in names]


def test_a_kill_while_writing_leaves_the_last_checkpoint(finished, tmp_path, monkeypatch):
    from d2_cxr.engine.checkpointer import CXRCheckpointer

    shutil.copy(finished[2] / "model_final.pth", tmp_path / "model_final.pth")
    checkpointer = CXRCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))
    checkpointer.save("model_0000001")

    def killed(content, path):
        Path(path).write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(Killed):
        checkpointer.save("model_final")
    monkeypatch.undo()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert artifacts.sha256_file(tmp_path / "model_final.pth") == artifacts.sha256_file(finished[2] / "model_final.pth")
    assert not list(tmp_path.glob(".unfinished*"))


def test_an_empty_test_set_is_named_before_the_first_step(tiny_set, tiny_cfg, tmp_path, forget_fingerprints):
    shutil.copytree(tiny_set, tmp_path / "small")
    for part in ("test", "val"):
        path = tmp_path / f"small/annotations/stratified/{part}.json"
        artifacts.write_json(path, {**artifacts.read_json(path), "images": [], "annotations": []})
    forget_fingerprints(tmp_path / "small")
    opts = ["CXR.DATASETS", f"[['small_cxr', '{tmp_path / 'small'}']]", "DATASETS.TRAIN", "('small_cxr_train',)"]
    cfg = tiny_cfg(*opts, "DATASETS.TEST", "('small_cxr_test',)", "SOLVER.MAX_ITER", "1")
    with pytest.raises(ValueError, match="small_cxr_test has no image, so nothing can be evaluated"):
        trainer.train(cfg)
    cfg = tiny_cfg(*opts, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "2", *VALIDATION)
    with pytest.raises(ValueError, match="small_cxr_val has no image"):
        trainer.train(cfg)
    assert not (Path(cfg.OUTPUT_DIR) / "run.json").exists()
    cfg = tiny_cfg(*opts, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1")
    trainer.train(cfg)
    warnings = artifacts.read_json(Path(cfg.OUTPUT_DIR) / "run.json")["preview"]["warnings"]
    assert any("small_cxr_val has no image: the detector gets no thresholds" in text for text in warnings)


def test_a_divergence_is_one_line_and_the_run_folder_says_so(tiny_cfg, caplog):
    cfg = tiny_cfg("SOLVER.MAX_ITER", "9", "SOLVER.BASE_LR", "1e20", "CXR.VAL_AT_END", "False", "DATASETS.TEST", "()")
    with pytest.raises(ValueError, match=r"training diverged after \d+ steps?: ") as error:
        trainer.train(cfg)
    assert "\n" not in str(error.value) and "Total losses before: " in str(error.value)
    assert "a lower SOLVER.BASE_LR (it is 1e+20)" in str(error.value)
    record = artifacts.read_json(Path(cfg.OUTPUT_DIR) / "run.json")
    assert record["status"] == "failed" and record["error"].startswith("DivergenceError: training diverged after")
    assert "Traceback" not in caplog.text


def test_a_loss_that_was_too_high_from_the_start_is_no_matter_of_the_rate(tiny_cfg):
    cfg, error = tiny_cfg(), FloatingPointError("Loss became infinite or NaN!")
    assert "Try other MODEL.WEIGHTS: " in str(train_step.divergence(error, cfg, 1, [1e27]))
    for iteration, losses in ((1, [2.0]), (9, [1e27] * 5), (0, [])):
        assert "Try a lower SOLVER.BASE_LR" in str(train_step.divergence(error, cfg, iteration, losses))


def test_two_runs_do_not_write_into_one_folder(tiny_cfg):
    cfg = tiny_cfg("SOLVER.MAX_ITER", "1", "CXR.VAL_AT_END", "False", "DATASETS.TEST", "()")
    with artifacts.only_one(cfg.OUTPUT_DIR), pytest.raises(ValueError, match=r"another process writes to .*run; wait"):
        trainer.train(cfg)
    trainer.train(cfg)


def test_pixels_that_are_not_the_manifests_are_not_trained_on(tiny_set, tiny_cfg, tmp_path):
    shutil.copytree(tiny_set, tmp_path / "painted")
    opts = ["CXR.DATASETS", f"[['painted_cxr', '{tmp_path / 'painted'}']]", "DATASETS.TRAIN", "('painted_cxr_train',)"]
    cfg = tiny_cfg(*opts, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1", "CXR.CHECK_IMAGES", "-1")
    shutil.copy(tmp_path / "painted/images/image001.png", tmp_path / "painted/images/image002.png")
    with pytest.raises(ValueError, match=r"image002\.png is not the image that manifest\.csv lists"):
        trainer.train(cfg)


def test_start_weights_are_read_from_the_disk_once(finished, tiny_cfg, monkeypatch):
    from d2_cxr.checkpoint import weights_card
    from d2_cxr.engine import checkpointer

    read = []
    for module in (checkpointer, weights_card):
        load = module.load_weights_file
        monkeypatch.setattr(module, "load_weights_file", lambda path, load=load: read.append(path) or load(path))
    weights = str(finished[2] / "model_final.pth")
    trainer.train(tiny_cfg("SOLVER.MAX_ITER", "1", "MODEL.WEIGHTS", weights, "DATASETS.TEST", "()"))
    assert read == [weights]
