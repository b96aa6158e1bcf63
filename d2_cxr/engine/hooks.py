"""Detectron2 hooks of a run: seeds, checkpoints, validation, the progress bar."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from d2_cxr.counted import counted
from d2_cxr.engine.checkpointer import CXRCheckpointer
from d2_cxr.progress import Bar

logger = logging.getLogger(__name__)


class StepSeed(HookBase):
    """Seed PyTorch before each step from the run's seed, the iteration and the process.

    Proposals and RoIs are sampled at random. With this seed a resumed run draws the same numbers as an uninterrupted
    one, and an evaluation in between changes nothing.
    """

    def __init__(self, seed: int):
        self._seed = seed

    def before_step(self) -> None:
        """Seed PyTorch for this step."""
        torch.manual_seed(step_seed(self._seed, self.trainer.iter, comm.get_rank()))


def step_seed(seed: int, iteration: int, rank: int) -> int:
    """Return a 64-bit seed; those of neighboring iterations are unrelated."""
    return int(np.random.SeedSequence([seed % 2**32, iteration, rank]).generate_state(1, np.uint64)[0] >> 1)


class Checkpoints(HookBase):
    """Save periodically, and save `model_final` after the last step, also after an early stop."""

    def __init__(self, checkpointer: CXRCheckpointer, period: int):
        self._checkpointer, self._period = checkpointer, period

    def after_step(self) -> None:
        """Save if a checkpoint is due."""
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter:
            self._checkpointer.save("model_final", iteration=self.trainer.iter)
        elif done % self._period == 0:
            self._checkpointer.save(f"model_{self.trainer.iter:07d}", iteration=self.trainer.iter)


class Validation(HookBase):
    """Evaluate on the validation set; keep the best weights; stop when they no longer improve.

    This hook comes before `Checkpoints`, because the checkpoint must contain its result and an early stop.
    """

    metric = "bbox/AP"  # mAP, COCO, in percent

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], dict],
        checkpointer: CXRCheckpointer,
        patience: int = 0,
        loss: Callable[[], dict[str, float]] | None = None,
    ):
        """
        Args:
            period: iterations between evaluations; another one follows the last iteration.
            evaluate: () -> {"bbox": {"AP": percent, ...}}; {} on processes other than the first.
            patience: evaluations without a better mAP before the training ends; 0 never ends it.
            loss: () -> {name: value} on the validation set, or None.
        """
        self._period, self._evaluate, self._checkpointer = period, evaluate, checkpointer
        self._patience, self._loss = patience, loss
        self.best, self.best_iteration, self.waited = -math.inf, -1, 0
        self.history: list[dict] = []

    def before_train(self) -> None:
        """End at once if the resumed run had stopped early."""
        if self._out_of_patience():  # it was killed after its early stop and before its test
            self.trainer.max_iter = self.trainer.start_iter

    def after_step(self) -> None:
        """Validate if it is due."""
        done = self.trainer.iter + 1
        if done % self._period == 0 or done >= self.trainer.max_iter:
            self._validate()

    def _validate(self) -> None:
        storage, iteration = self.trainer.storage, self.trainer.iter
        losses = self._loss() if self._loss else {}
        results = {name: float(value) for name, value in self._evaluate().get("bbox", {}).items()}
        if comm.is_main_process():
            for name, value in results.items():
                storage.put_scalar(f"bbox/{name}", value, smoothing_hint=False)
        for name, value in losses.items():
            storage.put_scalar(f"val_{name}", value, smoothing_hint=False)
        self._judge(comm.all_gather(results.get("AP", math.nan))[0], iteration)
        self.history.append({"iteration": iteration + 1, "AP": results.get("AP"), **losses})
        comm.synchronize()

    def _judge(self, value: float, iteration: int) -> None:
        if value > self.best:  # False for NaN, the mAP without any prediction
            self.best, self.best_iteration, self.waited = value, iteration, 0
            self._checkpointer.save_weights("model_best", iteration=iteration)
            logger.info("validation mAP %.2f after %s: best so far", value, counted(iteration + 1, "iteration"))
            return
        self.waited += 1
        logger.info("validation mAP %.2f; best %.2f, %s ago", value, self.best, counted(self.waited, "evaluation"))
        if self._out_of_patience() and iteration + 1 < self.trainer.max_iter:
            steps, waited = counted(iteration + 1, "iteration"), counted(self.waited, "evaluation")
            logger.info("stopped after %s: no improvement for %s", steps, waited)
            self.trainer.max_iter = iteration + 1  # the trainer's loop and later hooks read it

    def _out_of_patience(self) -> bool:
        return bool(self._patience) and self.waited >= self._patience

    def state_dict(self) -> dict:
        """Return what a resumed run needs, plain values."""
        return {
            "best": self.best,
            "best_iteration": self.best_iteration,
            "waited": self.waited,
            "history": self.history,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take what `state_dict` returned."""
        self.best, self.best_iteration, self.waited = state["best"], state["best_iteration"], state["waited"]
        self.history = list(state["history"])


class ProgressBar(HookBase):
    """A bar with the total loss on a terminal; in a file, one line per minute."""

    def before_train(self) -> None:
        """Show the bar."""
        self._bar = Bar(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            desc="train",
            unit="iteration",
            disable=not comm.is_main_process(),
        )

    def after_step(self) -> None:
        """Advance the bar; show the loss every ten steps."""
        self._bar.update()
        if (self.trainer.iter + 1) % 10 == 0:
            loss = self.trainer.storage.latest().get("total_loss")
            self._bar.set_postfix(loss=f"{loss[0]:.3f}" if loss else "?", refresh=False)

    def after_train(self) -> None:
        """Close the bar."""
        self._bar.close()


def validation_loss(model: nn.Module, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Return the mean of each loss over a loader's images, without gradients; BatchNorm's statistics do not change.

    Args:
        model: in training mode; its mode is restored.
        loader: batches of samples with `instances`.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    states = [module.training for module in norms]
    sums: dict[str, float] = {}
    count = 0
    for module in norms:
        module.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                torch.manual_seed(count)  # the same proposals are sampled at each evaluation
                for name, value in model(batch).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
                count += len(batch)
    finally:
        for module, state in zip(norms, states, strict=True):
            module.train(state)
    return _mean_over_processes(sums, count)


def _mean_over_processes(sums: dict[str, float], count: int) -> dict[str, float]:
    parts = comm.all_gather((sums, count))
    total = sum(part[1] for part in parts)
    means = {name: sum(part[0].get(name, 0.0) for part in parts) / total for name in sums}
    return {**means, "total_loss": sum(means.values())}
