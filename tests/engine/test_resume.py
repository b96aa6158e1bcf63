import shutil
from pathlib import Path

import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.loading import load_yaml
from d2_cxr.engine import trainer
from d2_cxr.engine.resume import changed_keys, last_checkpoint

SHORT = ("CXR.VAL_AT_END", "False", "DATASETS.TEST", "()")


@pytest.fixture
def interrupted(tiny_cfg, trained_once):
    """Return a function: KEY VALUE pairs -> config of a run that was interrupted after two of four iterations."""

    def make(*opts):
        lasting = ("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", *SHORT)
        cfg = tiny_cfg(*lasting, *opts)
        folder = Path(cfg.OUTPUT_DIR)
        shutil.copytree(trained_once(*lasting).OUTPUT_DIR, folder, ignore=shutil.ignore_patterns("model_*"))
        shutil.copy(Path(trained_once(*lasting).OUTPUT_DIR) / "model_0000001.pth", folder)
        (folder / "last_checkpoint").write_text("model_0000001.pth")
        record = artifacts.read_json(folder / "run.json")
        artifacts.write_json(folder / "run.json", {**record, "status": "failed"})
        return cfg

    return make


def test_a_changed_config_is_refused_with_its_keys(interrupted):
    cfg = interrupted("SOLVER.BASE_LR", "0.02", "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(2,)")
    before = (Path(cfg.OUTPUT_DIR) / "config.yaml").read_text()
    with pytest.raises(ValueError, match="had another config") as error:
        trainer.train(cfg, resume=True)
    assert "SOLVER.BASE_LR was 0.001, is 0.02" in str(error.value) and "\n" not in str(error.value)
    assert "SOLVER.LR_SCHEDULER_NAME was 'WarmupCosineLR', is 'WarmupMultiStepLR'" in str(error.value)
    assert (Path(cfg.OUTPUT_DIR) / "config.yaml").read_text() == before


def test_what_does_not_change_the_result_may_change(interrupted):
    cfg = interrupted("SOLVER.CHECKPOINT_PERIOD", "1", "DATALOADER.NUM_WORKERS", "1", "CXR.KEEP_CHECKPOINTS", "5")
    assert trainer.train(cfg, resume=True) == {}
    assert artifacts.read_json(Path(cfg.OUTPUT_DIR) / "run.json")["iterations"] == 4


def test_a_finished_run_does_not_answer_for_a_longer_one(finished):
    cfg, _, _ = finished
    longer = cfg.clone()
    longer.SOLVER.MAX_ITER = 8
    with pytest.raises(ValueError, match=r"the run that finished here .*SOLVER\.MAX_ITER was 4, is 8"):
        trainer.train(longer, resume=True)


def test_a_finished_run_whose_weights_are_cut_short_is_noticed(interrupted):
    cfg = interrupted()
    trainer.train(cfg, resume=True)
    path = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is finished, but .*model_final\.pth is not a readable weights file"):
        trainer.train(cfg, resume=True)
    path.write_bytes(whole)
    content = torch.load(path, weights_only=True)
    content["model"]["proposal_generator.rpn_head.conv.bias"][0] += 0.25
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"is finished, but .*model_final\.pth: its tensors are not those"):
        trainer.train(cfg, resume=True)
    path.unlink()
    with pytest.raises(ValueError, match=r"is finished, but .*model_final\.pth does not exist"):
        trainer.train(cfg, resume=True)


def test_a_checkpoint_that_is_gone_is_named(tiny_cfg):
    cfg = tiny_cfg("SOLVER.MAX_ITER", "1", *SHORT)
    Path(cfg.OUTPUT_DIR).mkdir()
    (Path(cfg.OUTPUT_DIR) / "last_checkpoint").write_text("model_0000999.pth")
    with pytest.raises(
        FileNotFoundError, match=r"last_checkpoint names model_0000999\.pth, which is missing; .*without"
    ):
        trainer.train(cfg, resume=True)
    assert last_checkpoint(Path(cfg.OUTPUT_DIR).parent) is None


def test_steps_behind_the_end_and_iterations_of_epochs_are_no_change(tiny_cfg, tmp_path):
    cfg = tiny_cfg("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "(2, 30)")
    stored = cfg.clone()
    stored.SOLVER.STEPS = (2,)
    artifacts.write_text(tmp_path / "config.yaml", stored.dump())
    assert changed_keys(load_yaml(tmp_path / "config.yaml"), cfg) == {}
    cfg.CXR.EPOCHS = 2
    cfg.SOLVER.MAX_ITER = 40000
    assert changed_keys(load_yaml(tmp_path / "config.yaml"), cfg) == {"CXR.EPOCHS": (0, 2)}
