"""Detectron2's training loop on a fast-forwarded sampler, with this project's hooks (hooks.py)."""

from __future__ import annotations

import weakref
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.engine.defaults import default_writers
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from d2_cxr.engine import hooks as cxr_hooks
from d2_cxr.engine import teacher, teacher_pool, train_step
from d2_cxr.engine.build_loaders import TrainingImages, build_test_loader, build_train_loader
from d2_cxr.engine.checkpointer import CXRCheckpointer
from d2_cxr.engine.evaluate import evaluate_model
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.teacher_health import TeacherHealth, precise_thresholds
from d2_cxr.engine.teacher_pool import PoolLoader

_LAST_LOSSES = 5  # shown where a training diverged


class Trainer(TrainerBase):
    """Detectron2's loop over a fast-forwarded sampler, on CPU or GPU, in one process or several.

    Attributes:
        checkpointer: saves the model and the state of this trainer.
        precision: number format of the training, and the reason for it.
        teaching: the hook of a teacher, None without one.
        validation: the hook that evaluates during training, None without one.
    """

    def __init__(
        self, cfg: CfgNode, sets: RunSets, images: TrainingImages, seed: int, pool: teacher_pool.Pool | None = None
    ):
        """Build model, loader, optimizer, schedule, checkpointer and hooks.

        Args:
            cfg: with the schedule resolved.
            sets: of the run.
            images: of the training set.
            seed: of order, augmentation and the model's own sampling; >= 0.
            pool: of a teacher; None trains on labels alone.
        """
        super().__init__()
        self.cfg, self.sets, self.seed = cfg, sets, seed
        model = build_model(cfg)
        if cfg.CXR.CHANNELS_LAST:
            train_step.to_channels_last(model)
        loader, self.sampler = build_train_loader(cfg, images, seed)
        self.teaching = self._with_teacher(model, images, pool) if pool else None
        stepped = self.teaching.stepped if self.teaching else model
        if pool:
            loader = PoolLoader(cfg, loader, pool, seed)
        self.optimizer = train_step.build_optimizer(cfg, getattr(stepped, "student", stepped))
        stepped = train_step.wrap_for_processes(stepped, cfg.MODEL.DEVICE)
        self._stepper, self.precision = train_step.build_stepper(cfg, stepped, loader, self.optimizer)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self.checkpointer = CXRCheckpointer(
            self.model, cfg.OUTPUT_DIR, keep=cfg.CXR.KEEP_CHECKPOINTS, trainer=weakref.proxy(self)
        )
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.validation: cxr_hooks.Validation | None = None
        self.register_hooks(self.build_hooks())

    @property
    def model(self) -> torch.nn.Module:
        """What is validated, saved and tested: the teacher, where there is one."""
        return self.teaching.stepped.teacher if self.teaching else self._stepper.model

    def resume_or_load(self, resume: bool = True) -> bool:
        """Load the last checkpoint if `resume` asks for it and there is one, else MODEL.WEIGHTS.

        Returns:
            whether the run was resumed.
        """
        resumed = resume and self.checkpointer.has_checkpoint()
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resumed:
            self.start_iter = self.iter + 1  # the checkpoint holds the iteration that was finished
            self.sampler.start = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
            if self.teaching:
                self._stepper.data_loader.start_at(self.start_iter)
        return resumed

    def build_hooks(self) -> list[HookBase]:
        """Return the hooks in the order in which they act."""
        cfg = self.cfg
        found = [self.teaching] if self.teaching else []
        found += [cxr_hooks.StepSeed(self.seed), hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.EVAL_PERIOD > 0:
            self.validation = self._validation_hook()
            found.append(self.validation)
        found.append(cxr_hooks.Checkpoints(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
        if comm.is_main_process():
            writers = default_writers(cfg.OUTPUT_DIR, self.max_iter)
            found += [hooks.PeriodicWriter(writers, period=20), cxr_hooks.ProgressBar()]
        return found

    def train(self) -> None:
        """Run from `start_iter` to `max_iter`, which a hook may lower; Detectron2's own loop cannot stop early.

        Raises:
            DivergenceError: a loss became infinite or NaN.
        """
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                _ = self._stepper._data_loader_iter  # made before a step is seeded: making it draws a random number
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            except FloatingPointError as error:
                history = self.storage.histories().get("total_loss")
                losses = [value for value, _ in history.values()[-_LAST_LOSSES:]] if history else []
                raise train_step.divergence(error, self.cfg, self.iter, losses) from error
            finally:
                self.after_train()

    def run_step(self) -> None:
        """Train on one batch."""
        self._stepper.iter = self.iter
        self._stepper.run_step()

    def state_dict(self) -> dict:
        """Return what a checkpoint contains in addition to the model: iteration, hooks, optimizer, seed."""
        return {**super().state_dict(), "_trainer": self._stepper.state_dict(), "seed": self.seed}

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict`.

        Raises:
            ValueError: the checkpoint was made with another seed.
        """
        if state.get("seed", self.seed) != self.seed:
            raise ValueError(f"the checkpoint was made with SEED {state['seed']}, this run has {self.seed}")
        super().load_state_dict(state)
        self._stepper.load_state_dict(state["_trainer"])

    def _with_teacher(
        self, model: torch.nn.Module, images: TrainingImages, pool: teacher_pool.Pool
    ) -> teacher.Teaching:
        cfg, validation = self.cfg, self.sets.validation

        def choose() -> list[float]:
            evaluate_model(cfg, model, validation, resamples=0)
            return precise_thresholds(Path(cfg.OUTPUT_DIR) / "inference" / validation.name / "matches.npz")

        health = TeacherHealth(cfg, images, pool, teacher.pseudo_boxes)
        stepped = teacher.TeacherStudent(pool.keys, model, len(images.class_names))
        return teacher.Teaching(pool, stepped, health, choose)

    def _validation_hook(self) -> cxr_hooks.Validation:
        cfg, validation = self.cfg, self.sets.validation
        loss = None
        if cfg.CXR.VAL_LOSS:
            loader = build_test_loader(cfg, [validation], with_boxes=True)

            def loss() -> dict:
                return cxr_hooks.validation_loss(self.model, loader)

        def run() -> dict:
            return evaluate_model(cfg, self.model, validation, resamples=0)

        return cxr_hooks.Validation(cfg.TEST.EVAL_PERIOD, run, self.checkpointer, cfg.CXR.PATIENCE, loss)
