"""Train a detector with Detectron2's loop on the images, checks and records of this project.

What is not the loop is a hook (hooks.py). `train(cfg)` may be called repeatedly in one process.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.engine.defaults import default_writers
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from d2_cxr import artifacts
from d2_cxr.engine import class_exposure, run_record, schedule, teacher, teacher_pool, train_step, weights_report
from d2_cxr.engine import hooks as cxr_hooks
from d2_cxr.engine import resume as resuming
from d2_cxr.engine.anchors import resolve_anchors
from d2_cxr.engine.build_loaders import (
    TrainingImages,
    build_test_loader,
    build_train_loader,
    check_pixels,
    training_images,
)
from d2_cxr.engine.card import detector_card, image_hashes
from d2_cxr.engine.checkpointer import CXRCheckpointer
from d2_cxr.engine.config import register_datasets, setup
from d2_cxr.engine.evaluate import evaluate_model, evaluate_only, test_on_all, validation_thresholds
from d2_cxr.engine.other_sets import check_other_sets
from d2_cxr.engine.plain_config import write_plain_config
from d2_cxr.engine.run_log import log_to
from d2_cxr.engine.run_sets import RunSets, refuse_shared_images
from d2_cxr.engine.start_weights import StartWeights, read_start_weights
from d2_cxr.engine.teacher_pool import PoolLoader

__all__ = ["Trainer", "evaluate_model", "evaluate_only", "setup", "train"]
logger = logging.getLogger(__name__)
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
        stepped = train_step.wrap_for_processes(cfg, stepped)
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
        """Return what a checkpoint holds beside the model: iteration, hooks, optimizer, seed."""
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
        def evaluate(name: str) -> None:
            evaluate_model(self.cfg, model, name, resamples=0)

        return teacher.build(self.cfg, model, images, pool, evaluate)

    def _validation_hook(self) -> cxr_hooks.Validation:
        cfg, name = self.cfg, self.sets.validation.name
        loss = None
        if cfg.CXR.VAL_LOSS:
            loader = build_test_loader(cfg, name, with_boxes=True)

            def loss() -> dict:
                return cxr_hooks.validation_loss(self.model, loader)

        def run() -> dict:
            return evaluate_model(cfg, self.model, name, resamples=0)

        return cxr_hooks.Validation(cfg.TEST.EVAL_PERIOD, run, self.checkpointer, cfg.CXR.PATIENCE, loss)


def train(cfg: CfgNode, resume: bool = False) -> dict:
    """Train with a config of `setup`, evaluate, and leave a run folder (docs/formats.md, 3).

    Args:
        cfg: not changed.
        resume: continue from the last checkpoint in OUTPUT_DIR; a finished run returns its results at once.

    Returns:
        name of each test set -> {"bbox": {"AP": per cent, ...}}; {} on processes other than the first.

    Raises:
        FileNotFoundError: a set, an image, the weights or the checkpoint to continue from is missing.
        ValueError: the weights, the config and the data contradict each other; another process trains in OUTPUT_DIR;
            OUTPUT_DIR holds a finished run and `resume` is False, or a run of another config; the training diverged.
    """
    cfg = cfg.clone()
    cfg.defrost()
    register_datasets(cfg)
    finished = resuming.finished_results(cfg, resume)
    continued = resuming.last_checkpoint(cfg.OUTPUT_DIR) is not None if resume and finished is None else False
    comm.synchronize()  # nobody writes before everybody has looked
    if finished is not None:
        logger.info("%s is finished already", cfg.OUTPUT_DIR)
        return finished
    if continued:
        resuming.require_same_config(cfg)
    with _alone(cfg.OUTPUT_DIR), log_to(cfg.OUTPUT_DIR, comm.get_rank()):
        return _train(cfg, continued)


def _train(cfg: CfgNode, continued: bool) -> dict:
    """Check everything, write what is known before the first step, train, test."""
    train_step.set_machine(cfg)
    seed = _seed(cfg, continued)
    seed_all_rng(seed + comm.get_rank())
    sets = RunSets.of(cfg)
    images = training_images(cfg, sets)
    refuse_shared_images(sets)
    check_other_sets(sets)
    check_pixels(sets, cfg.CXR.CHECK_IMAGES)
    resolve_anchors(cfg, images.findings, Path(cfg.OUTPUT_DIR) / "config.yaml" if continued else None)
    plan = schedule.resolve(cfg, images.epoch_length)
    pool = teacher_pool.load_pool(cfg, images)
    shown = _shown_first(cfg, sets, images, plan, pool)
    start = read_start_weights(cfg, sets)
    values = run_record.start_values(cfg, sets, seed, plan, shown, start.card)
    record = run_record.RunRecord(cfg.OUTPUT_DIR, values, writes=comm.is_main_process())
    with _recorded(record):
        _begin(cfg, continued)
        trainer = Trainer(cfg, sets, images, seed, pool)
        record.values["precision"] = list(trainer.precision)
        card = detector_card(cfg, sets, start.card, len(images.findings))
        trainer.checkpointer.extra = {"card": card.to_dict(), "images": image_hashes(sets.learned_from, start.images)}
        _place_weights(trainer, continued, start)
        record.start()
        trainer.train()
        return _finish(trainer, record)


def _shown_first(
    cfg: CfgNode, sets: RunSets, images: TrainingImages, plan: dict, pool: teacher_pool.Pool | None
) -> dict:
    """Log what an epoch shows, the schedule and the warnings; return it for run.json."""
    shown = class_exposure.preview(images, cfg.DATALOADER.REPEAT_THRESHOLD, plan)
    if pool:
        shown["teacher"] = teacher_pool.preview(cfg, pool)
    shown["warnings"] += schedule.schedule_warnings(cfg)
    if cfg.CXR.VAL_AT_END and not sets.has_validation:
        shown["warnings"].append(
            f"the validation set {sets.validation.name} has no image: the detector gets no thresholds of its own"
        )
    class_exposure.log_preview(shown)
    return shown


@contextlib.contextmanager
def _alone(output_dir: str) -> Iterator[None]:
    """Hold OUTPUT_DIR on the first process, so that no other run writes there, and name it on a full disk."""
    with artifacts.only_one(output_dir) if comm.is_main_process() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _recorded(record: run_record.RunRecord) -> Iterator[None]:
    """Let run.json say that a run failed after it had started, and why."""
    try:
        yield
    except BaseException as error:
        if record.values.get("status") == run_record.RUNNING:
            with contextlib.suppress(OSError):  # a full disk is what the error says already
                record.fail(error)
        raise


def _seed(cfg: CfgNode, continued: bool) -> int:
    """Return SEED; where that is negative, one random seed for all processes, which a resumed run keeps."""
    if cfg.SEED >= 0:
        return cfg.SEED
    path = Path(cfg.OUTPUT_DIR) / "run.json"
    if continued and path.is_file():
        return artifacts.read_json(path)["seed"]
    return comm.shared_random_seed() % 2**31


def _place_weights(trainer: Trainer, continued: bool, start: StartWeights) -> None:
    """Load the weights; at iteration 0 write weights.json, and refuse to start with a hole in them."""
    if start.path and not continued:
        trainer.checkpointer.take(start.path, start.content)
    if trainer.resume_or_load(continued):
        logger.info("resumed after iteration %d", trainer.start_iter)
        return
    model = getattr(trainer.model, "module", trainer.model)
    found = weights_report.refusals(model, trainer.checkpointer.report)
    if found:
        raise ValueError("; ".join(found))
    report = weights_report.weights_report(model, trainer.checkpointer.report)
    report["unchecked"] = bool(trainer.cfg.MODEL.WEIGHTS) and start.card is None
    weights_report.log_report(report)
    if comm.is_main_process():
        artifacts.write_json(Path(trainer.cfg.OUTPUT_DIR) / "weights.json", report)


def _begin(cfg: CfgNode, continued: bool) -> None:
    """Write the config; a run that starts anew does not append to an interrupted one's metrics, nor resume from it."""
    if comm.is_main_process():
        artifacts.write_text(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
        write_plain_config(cfg)
        if not continued:
            (Path(cfg.OUTPUT_DIR) / "last_checkpoint").unlink(missing_ok=True)
            (Path(cfg.OUTPUT_DIR) / "metrics.json").unlink(missing_ok=True)
    comm.synchronize()


def _finish(trainer: Trainer, record: run_record.RunRecord) -> dict:
    """Choose thresholds on validation, put them into the card, test, and close the record."""
    cfg, validation = trainer.cfg, trainer.validation
    name = _tested_weights(trainer)
    thresholds = validation_thresholds(cfg, trainer.model, trainer.sets)
    if thresholds is not None:
        trainer.checkpointer.extra["card"]["thresholds"] = thresholds
        if validation is not None and name == "model_best":
            trainer.checkpointer.save_weights(name, iteration=validation.best_iteration)
        else:
            trainer.checkpointer.save(name, iteration=trainer.iter - 1)
    results = test_on_all(cfg, trainer.model, thresholds, trainer.sets.train[0].class_names)
    record.update(
        iterations=trainer.iter,
        tested=f"{name}.pth",
        validation=None if validation is None else validation.state_dict(),
    )
    record.finish(results)
    comm.synchronize()
    return results


def _tested_weights(trainer: Trainer) -> str:
    """Return the name of the weights to test, after loading the best ones where CXR.TEST_WEIGHTS asks for them."""
    if trainer.cfg.CXR.TEST_WEIGHTS != "best":
        return "model_final"
    if trainer.validation is None or trainer.validation.best_iteration < 0:
        logger.warning("no validation gave a mAP, so none is best: the last weights are tested")
        return "model_final"
    trainer.checkpointer.load(str(Path(trainer.cfg.OUTPUT_DIR) / "model_best.pth"), checkpointables=[])
    return "model_best"
