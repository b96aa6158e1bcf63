"""Teacher-student training on the tiny set: half of its images are labeled, the others and the negatives are the pool."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, leakage
from d2_cxr.engine import hooks, teacher, trainer

POOL = "['tiny_cxr_train_unlabeled_50_seed1', 'tiny_cxr_negative_train']"
TEACHER = ["DATASETS.TRAIN", "('tiny_cxr_train_labeled_50_seed1',)", "CXR.TEACHER.POOL", POOL]
TEACHER += ["CXR.TEACHER.THRESHOLDS", "[0.06]", "CXR.VAL_AT_END", "False", "CXR.TEACHER.EMA", "0.5"]
SHORT = ["SOLVER.MAX_ITER", "5", "CXR.TEACHER.BURN_IN", "0.4", "DATASETS.TEST", "()"]


def content_of(folder, name="model_final"):
    return torch.load(Path(folder) / f"{name}.pth", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics_of(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]


class Killed(BaseException):
    """What a kill is to the loop."""


def killed_after(monkeypatch, iterations):
    original = hooks.Checkpoints.after_step

    def after_step(self):
        original(self)
        if self.trainer.iter + 1 == iterations:
            raise Killed

    monkeypatch.setattr(hooks.Checkpoints, "after_step", after_step)


@pytest.mark.parametrize("killed_at", [1, 3])  # in the burn-in and behind it
@pytest.mark.parametrize("thresholds", ["[0.06]", "[]"])
def test_a_resumed_run_equals_the_uninterrupted_one(tiny_cfg, monkeypatch, killed_at, thresholds):
    opts = [*TEACHER, *SHORT, "SOLVER.CHECKPOINT_PERIOD", "1", "CXR.TEACHER.THRESHOLDS", thresholds]
    whole, parts = tiny_cfg(*opts, output="whole"), tiny_cfg(*opts, output="parts")
    trainer.train(whole)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, killed_at)
        trainer.train(parts)
    trainer.train(parts, resume=True)
    a, b = content_of(whole.OUTPUT_DIR), content_of(parts.OUTPUT_DIR)
    student = [content["trainer"]["hooks"]["Teaching"]["student"] for content in (a, b)]
    assert same(a["model"], b["model"]) and same(*student)
    assert not same(a["model"], student[0])  # the teacher is saved, not the student
    records = [artifacts.read_json(Path(cfg.OUTPUT_DIR) / "teacher.json") for cfg in (whole, parts)]
    assert records[0] == records[1] and len(records[0]["history"]) == 3
