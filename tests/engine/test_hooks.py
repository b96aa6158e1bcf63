import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from d2_cxr.engine.hooks import Checkpoints, Validation, step_seed, validation_loss


class Saver:
    """Replaces the checkpointer: notes what it should save."""

    def __init__(self):
        self.saved = []

    def save(self, name, **_):
        self.saved.append(name)

    save_weights = save


class Storage:
    def put_scalar(self, *_, **__):
        pass


class Loop:
    """Replaces the trainer: runs hooks until `max_iter`, which they may lower."""

    def __init__(self, hooks, max_iter):
        self.iter, self.max_iter, self.storage = 0, max_iter, Storage()
        for hook in hooks:
            hook.trainer = self
        while self.iter < self.max_iter:
            for hook in hooks:
                hook.after_step()
            self.iter += 1


def validation(values, period=1, patience=0, saver=None):
    values = iter(values)
    return Validation(period, lambda: {"bbox": {"AP": next(values)}}, saver or Saver(), patience)


def test_the_best_weights_are_those_of_the_highest_map():
    saver = Saver()
    hook = validation([10.0, 30.0, 20.0, 31.0], saver=saver)
    Loop([hook], 4)
    assert saver.saved == ["model_best"] * 3
    assert (hook.best, hook.best_iteration, hook.waited) == (31.0, 3, 0)
    assert [entry["AP"] for entry in hook.history] == [10.0, 30.0, 20.0, 31.0]


def test_training_stops_after_patience_evaluations_and_still_saves_its_end():
    saver = Saver()
    hook = validation([10.0, 9.0, 8.0, 50.0], period=2, patience=2, saver=saver)
    loop = Loop([hook, Checkpoints(saver, period=1000)], 8)
    assert loop.iter == 6  # best after 2, no better after 4 and 6
    assert saver.saved == ["model_best", "model_final"]


def test_no_prediction_at_all_is_never_the_best():
    hook = validation([math.nan, 1.0, math.nan])
    Loop([hook], 3)
    assert (hook.best, hook.best_iteration) == (1.0, 1)


def test_there_is_an_evaluation_after_the_last_iteration():
    hook = validation([1.0, 2.0], period=3)
    Loop([hook], 5)
    assert [entry["iteration"] for entry in hook.history] == [3, 5]


def test_what_validation_knows_survives_a_checkpoint():
    hook = validation([5.0, 4.0], patience=3)
    Loop([hook], 2)
    other = validation([])
    other.load_state_dict(hook.state_dict())
    assert (other.best, other.best_iteration, other.waited) == (5.0, 0, 1)


def test_a_run_that_had_stopped_early_does_not_train_on_when_resumed():
    hook = validation([5.0, 4.0, 3.0], patience=2)
    Loop([hook], 9)
    for patience, end in ((2, 3), (5, 9)):  # 5: who asks for more patience gets it
        other = validation([], patience=patience)
        other.load_state_dict(hook.state_dict())
        other.trainer = SimpleNamespace(start_iter=3, max_iter=9)
        other.before_train()
        assert other.trainer.max_iter == end


def test_checkpoints_come_at_their_period_and_at_the_end():
    saver = Saver()
    Loop([Checkpoints(saver, period=2)], 5)
    assert saver.saved == ["model_0000001", "model_0000003", "model_final"]


def test_steps_have_seeds_of_their_own():
    seeds = {step_seed(seed, iteration, rank) for seed in (0, 1) for iteration in range(50) for rank in (0, 1)}
    assert len(seeds) == 200 and all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(0, 7, 1) == step_seed(0, 7, 1)


def test_validation_loss_moves_neither_statistics_nor_gradients():
    model = nn.Sequential(nn.BatchNorm2d(1)).train()

    class Losses(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, batch):
            return {"loss_a": self.inner(torch.stack(batch)).square().mean(), "loss_b": torch.tensor(2.0)}

    losses = Losses().train()
    before = model[0].running_mean.clone()
    loader = [[torch.full((1, 2, 2), 3.0)], [torch.full((1, 2, 2), 1.0)] * 3]
    values = validation_loss(losses, loader)
    # evaluation mode with mean 0 and variance 1: 9 for one image, 1 for three
    assert values["loss_a"] == pytest.approx((9 + 3 * 1) / 4, rel=1e-4)
    assert values["total_loss"] == pytest.approx(3 + 2, rel=1e-4)
    assert torch.equal(model[0].running_mean, before) and model[0].training
    assert model[0].weight.grad is None
