"""What happens around Lightning's steps: the checkpoint, the numbers of each epoch, the progress bar."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytorch_lightning as pl

from d2_cxr import artifacts
from d2_cxr.pretraining.health import EpochHealth, check_pairs, unlearned_alarms
from d2_cxr.progress import Bar

logger = logging.getLogger(__name__)


class LastCheckpoint(pl.callbacks.Checkpoint):
    """Keep `last.ckpt` as of the last written epoch; always finished or absent, and always there at the end."""

    def __init__(self, path: Path, every: int):
        self.path, self.every = path, every

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Write the checkpoint where it is due."""
        done = trainer.current_epoch + 1
        if done % self.every and done != trainer.max_epochs:
            return
        if trainer.is_global_zero:
            artifacts.write_with(self.path, trainer.save_checkpoint)
        else:
            trainer.save_checkpoint(self.path)  # collective; only the first process writes


class History(pl.Callback):
    """An epoch's loss, health and speed, in TensorBoard and in the checkpoint, so that a resumed run has them all."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size  # images per step, all processes together
        self.epochs: list[dict] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Begin to measure an epoch."""
        self._health, self._start = EpochHealth(), time.perf_counter()
        self._losses: list[float] = []
        self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Add a step's loss and projections."""
        if pl_module.projected is not None:  # None: the method contrasts nothing
            check_pairs(pl_module.numbers, pl_module.projected, trainer.world_size)
            self._health.add(pl_module.projected, pl_module.features)
        self._losses.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Log the epoch and keep its numbers."""
        seconds = time.perf_counter() - self._start
        health = self._health.summary() if pl_module.projected is not None else {"alarms": []}
        for alarm in health["alarms"]:
            logger.warning("epoch %d: %s", trainer.current_epoch + 1, alarm)
        numbers = {
            "epoch": trainer.current_epoch + 1,
            "loss": sum(self._losses) / len(self._losses),
            "lr": self._lr,
            "seconds": round(seconds, 3),
            "views_per_second": round(2 * self.batch_size * len(self._losses) / seconds, 2),
            **health,
        }
        self.epochs.append(numbers)
        for name in ("loss", "contrastive_top1", "alignment", "uniformity", "effective_rank", "views_per_second"):
            if name in numbers:
                pl_module.log(f"epoch/{name}", float(numbers[name]), sync_dist=False, rank_zero_only=True)

    def on_train_end(self, trainer, pl_module) -> None:
        """Warn of what the whole run shows."""
        for alarm in self._final_alarms():
            logger.warning("%s", alarm)

    def state_dict(self) -> dict:
        """Return what a resumed run needs."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict) -> None:
        """Take what `state_dict` returned."""
        self.epochs = list(state["epochs"])
        for epoch in self.epochs:
            if "images_per_second" in epoch:  # the key's name until 0.2.0; its value was always views
                epoch["views_per_second"] = epoch.pop("images_per_second")

    def record(self) -> dict:
        """Return what pretraining.json says: every epoch, and the last one's numbers once more on top."""
        last = self.epochs[-1]
        seconds = sum(epoch["seconds"] for epoch in self.epochs)
        views = sum(epoch["seconds"] * epoch["views_per_second"] for epoch in self.epochs)
        return {
            "history": self.epochs,
            "final": {name: last[name] for name in ("loss", "contrastive_top1", "effective_rank") if name in last},
            "seconds": round(seconds, 2),
            "views_per_second": round(views / seconds, 2),
            "alarms": [f"epoch {epoch['epoch']}: {alarm}" for epoch in self.epochs for alarm in epoch["alarms"]]
            + self._final_alarms(),
        }

    def _final_alarms(self) -> list[str]:
        return unlearned_alarms(self.epochs[-1].get("contrastive_top1"), self.batch_size) if self.epochs else []


class Progress(pl.Callback):
    """One bar for the whole run, with views a second."""

    def __init__(self, total_steps: int, network: str):
        self.total_steps = total_steps
        self.network = network  # as the settings name it; solo-learn's own name can be that of the network it replaces
        self.bar: Bar | None = None

    def on_train_start(self, trainer, pl_module) -> None:
        """Show the bar, in the first process."""
        if trainer.is_global_zero:
            self.bar = Bar(
                total=self.total_steps,
                initial=trainer.global_step,
                desc=f"pretraining {self.network}",
                unit="step",
            )
            self._start, self._first = time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Move the bar on."""
        if self.bar is None:
            return
        steps = trainer.global_step - self._first
        rate = 2 * len(batch[0]) * trainer.world_size * steps / (time.perf_counter() - self._start)
        self.bar.set_postfix_str(f"loss {float(outputs['loss']):.3f}, {rate:.0f} views/s", refresh=False)
        self.bar.update(1)

    def on_train_end(self, trainer, pl_module) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer, pl_module, exception) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
