"""Train and evaluate a detector: Detectron2's `DefaultTrainer` with our images, checks and records.

What is not the loop is a hook (hooks.py). `train(cfg)` may be called again and again in one process.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Mapping
from pathlib import Path

from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from d2_cxr import artifacts
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine import hooks as cxr_hooks
from d2_cxr.engine import (
    preview,
    run_record,
    schedule,
    stepping,
    teacher,
    teacher_pool,
    weights_check,
    weights_report,
)
from d2_cxr.engine.card import detector_card, image_hashes
from d2_cxr.engine.checkpointer import CXRCheckpointer
from d2_cxr.engine.run_log import log_to
from d2_cxr.engine.setup import register_datasets, setup
from d2_cxr.engine.teacher_pool import PoolLoader
from d2_cxr.engine.training_data import TrainingImages, build_test_loader, build_train_loader, training_images
from d2_cxr.evaluation.cxr_evaluation import CXREvaluator

__all__ = ["Trainer", "evaluate_only", "setup", "train"]
logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Detectron2's trainer over a fast-forwarded sampler, on CPU or GPU, one process or several."""

    def __init__(self, cfg, images: TrainingImages, seed: int, pool: teacher_pool.Pool | None = None):
        """Build everything that `DefaultTrainer.__init__` builds, which leaves no place for a CPU, bfloat16 or
        another checkpointer.

        Args:
            cfg: with the schedule resolved.
            images: of the training set.
            seed: of order, augmentation and the model's own sampling; >= 0.
            pool: of a teacher; None trains on labels alone.
        """
        super(DefaultTrainer, self).__init__()
        self.cfg, self.seed = cfg, seed
        model = build_model(cfg)
        if cfg.CXR.CHANNELS_LAST:
            stepping.to_channels_last(model)
        loader, self.sampler = build_train_loader(cfg, images, seed)
        self.teaching = self._with_teacher(model, images, pool) if pool else None
        stepped = self.teaching.stepped if self.teaching else model
        if pool:
            loader = PoolLoader(cfg, loader, pool, seed)
        optimizer = stepping.build_optimizer(cfg, getattr(stepped, "student", stepped))
        stepped = stepping.wrap_for_processes(cfg, stepped)
        self._trainer, self.precision = stepping.build_stepper(cfg, stepped, loader, optimizer)
        self.scheduler = build_lr_scheduler(cfg, optimizer)
        self.checkpointer = CXRCheckpointer(
            self.model, cfg.OUTPUT_DIR, keep=cfg.CXR.KEEP_CHECKPOINTS, trainer=weakref.proxy(self)
        )
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.validation: cxr_hooks.Validation | None = None
        self.register_hooks(self.build_hooks())

    @property
    def model(self):
        """What is validated, saved and tested: the teacher, where there is one."""
        return self.teaching.stepped.teacher if self.teaching else self._trainer.model

    def resume_or_load(self, resume: bool = True) -> bool:
        """Load the last checkpoint where resume asks for it and there is one, else MODEL.WEIGHTS; return whether it
        was resumed."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        resumed = resume and self.checkpointer.has_checkpoint()
        if resumed:
            self.start_iter = self.iter + 1  # the checkpoint holds the iteration that was finished
            self.sampler.start = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
            if self.teaching:
                self.data_loader.start_at(self.start_iter)
        return resumed

    def build_hooks(self) -> list:
        cfg = self.cfg
        found = [self.teaching] if self.teaching else []
        found += [cxr_hooks.StepSeed(self.seed), hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.EVAL_PERIOD > 0:
            self.validation = self._validation_hook()
            found.append(self.validation)
        found.append(cxr_hooks.Checkpoints(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
        if comm.is_main_process():
            found += [hooks.PeriodicWriter(self.build_writers(), period=20), cxr_hooks.ProgressBar()]
        return found

    def train(self) -> None:
        """Run from `start_iter` to `max_iter`, which a hook may lower; Detectron2's loop fixes it beforehand."""
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                _ = self._trainer._data_loader_iter  # made before a step is seeded: making it draws a random number
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            finally:
                self.after_train()

    def state_dict(self) -> dict:
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state: dict) -> None:
        if state.get("seed", self.seed) != self.seed:
            raise ValueError(f"the checkpoint was made with SEED {state['seed']}, this run has {self.seed}")
        super().load_state_dict(state)

    def _with_teacher(self, model, images: TrainingImages, pool: teacher_pool.Pool) -> teacher.Teaching:
        def evaluate(name: str) -> None:
            evaluate_model(self.cfg, model, name, resamples=0)

        return teacher.build(self.cfg, model, images, pool, evaluate)

    def _validation_hook(self) -> cxr_hooks.Validation:
        cfg = self.cfg
        name = cfg.CXR.VAL_DATASET or named_set(cfg.DATASETS.TRAIN[0]).sibling("val").name
        loss = None
        if cfg.CXR.VAL_LOSS:
            loader = build_test_loader(cfg, name, with_boxes=True)

            def loss() -> dict:
                return cxr_hooks.validation_loss(self.model, loader)

        def run() -> dict:
            return evaluate_model(cfg, self.model, name, resamples=0)

        return cxr_hooks.Validation(cfg.TEST.EVAL_PERIOD, run, self.checkpointer, cfg.CXR.PATIENCE, loss)


def train(cfg, resume: bool = False) -> dict:
    """Train with a config of `setup`, evaluate, and leave a run folder (docs/formats.md, 3).

    Args:
        cfg: not changed.
        resume: go on from the last checkpoint in OUTPUT_DIR; a run that has finished gives its results at once.

    Returns:
        name of each test set -> {"bbox": {"AP": per cent, ...}}; {} on processes other than the first.

    Raises:
        ValueError: the weights, the config and the data contradict each other (weights_check, weights_report), or
            OUTPUT_DIR holds a finished run and `resume` is not given.
    """
    cfg = cfg.clone()
    cfg.defrost()
    register_datasets(cfg)
    finished = run_record.finished_results(cfg.OUTPUT_DIR)
    comm.synchronize()  # nobody writes before everybody has looked
    if finished is not None and not resume:
        raise ValueError(f"{cfg.OUTPUT_DIR} holds a finished run; choose another OUTPUT_DIR, or --resume to keep it")
    if finished is not None:
        logger.info("%s is finished already", cfg.OUTPUT_DIR)
        return finished
    with log_to(cfg.OUTPUT_DIR, comm.get_rank()):
        return _train(cfg, resume)


def evaluate_only(cfg, resume: bool = False) -> dict:
    """Evaluate MODEL.WEIGHTS (or the last checkpoint of OUTPUT_DIR) on DATASETS.TEST; returns what `train` does.

    Raises:
        ValueError: the file does not fill the whole model, contradicts the config, or has other classes.
    """
    register_datasets(cfg)
    with log_to(cfg.OUTPUT_DIR, comm.get_rank()):
        stepping.set_machine(cfg)
        model = build_model(cfg)
        if cfg.CXR.CHANNELS_LAST:
            stepping.to_channels_last(model)
        checkpointer = CXRCheckpointer(model, cfg.OUTPUT_DIR)
        resumed = resume and checkpointer.has_checkpoint()
        path = checkpointer.get_checkpoint_file() if resumed else cfg.MODEL.WEIGHTS
        thresholds = weights_check.check_detector(cfg, path)
        checkpointer.load(path, checkpointables=[])
        weights_check.require_complete(model, checkpointer.loaded)
        return _test(cfg, model, thresholds)


def evaluate_model(cfg, model, name: str, resamples: int | None = None, thresholds: Mapping | None = None) -> dict:
    """Run a model over a set and the negative images of its split; write OUTPUT_DIR/inference/`name`/.

    Args:
        resamples: of the bootstrap; CXR.RESAMPLES when left out.
        thresholds: content of a thresholds.json of other images, to report at.

    Returns:
        {"bbox": {"AP": per cent, ...}}; {} on processes other than the first.
    """
    negatives = named_set(name).negatives()
    evaluator = CXREvaluator(
        name,
        str(Path(cfg.OUTPUT_DIR) / "inference" / name),
        resamples=cfg.CXR.RESAMPLES if resamples is None else resamples,
        negative_dataset=negatives.name if negatives and cfg.CXR.TEST_NEGATIVES else None,
        chosen_thresholds=thresholds,
    )
    model = getattr(model, "module", model)  # DistributedDataParallel has nothing to do here
    return inference_on_dataset(model, build_test_loader(cfg, name), evaluator) or {}


def _train(cfg, resume: bool) -> dict:
    stepping.set_machine(cfg)
    seed = _seed(cfg, resume)
    seed_all_rng(seed + comm.get_rank())
    images = training_images(cfg)
    weights_check.refuse_shared_images(cfg)
    plan = schedule.resolve(cfg, images.epoch_length)
    pool = teacher_pool.load_pool(cfg, images)
    shown = preview.preview(images, cfg.DATALOADER.REPEAT_THRESHOLD, plan)
    if pool:
        shown["teacher"] = teacher_pool.preview(cfg, pool)
    preview.log_preview(shown)
    origin = weights_check.check_weights(cfg)
    values = run_record.start_values(cfg, seed, plan, shown, origin)
    record = run_record.RunRecord(cfg.OUTPUT_DIR, values, writes=comm.is_main_process())
    with _recorded(record):
        _begin(cfg, fresh=not (resume and (Path(cfg.OUTPUT_DIR) / "last_checkpoint").is_file()))
        trainer = Trainer(cfg, images, seed, pool)
        record.values["precision"] = list(trainer.precision)
        trainer.checkpointer.extra = _extra(cfg, images, origin)
        _place_weights(trainer, resume, origin)
        record.start()
        trainer.train()
        return _finish(trainer, record)


@contextlib.contextmanager
def _recorded(record: run_record.RunRecord):
    """Let run.json say that a run that had started failed."""
    try:
        yield
    except BaseException as error:
        if record.values.get("status") == run_record.RUNNING:
            record.fail(error)
        raise


def _seed(cfg, resume: bool) -> int:
    """Return SEED, or where it is negative one random seed for all processes, the same after --resume."""
    if cfg.SEED >= 0:
        return cfg.SEED
    path = Path(cfg.OUTPUT_DIR) / "run.json"
    if resume and path.is_file():
        return artifacts.read_json(path)["seed"]
    return comm.shared_random_seed() % 2**31


def _extra(cfg, images: TrainingImages, origin) -> dict:
    """Return what every checkpoint carries beside the model: its card and the images it has seen."""
    names = list(cfg.DATASETS.TRAIN)
    if images.negatives:
        names += dict.fromkeys(named_set(name).sibling("negative_train").name for name in cfg.DATASETS.TRAIN)
    names += cfg.CXR.TEACHER.POOL
    seen = weights_check.images_of(cfg.MODEL.WEIGHTS)
    card = detector_card(cfg, images.class_names, origin, len(images.findings))
    return {"card": card.to_dict(), "images": image_hashes(names, seen)}


def _place_weights(trainer: Trainer, resume: bool, origin) -> None:
    """Load the weights; at iteration 0 write weights.json, and refuse to start with a hole in them."""
    if trainer.resume_or_load(resume):
        logger.info("resumed after iteration %d", trainer.start_iter)
        return
    model = getattr(trainer.model, "module", trainer.model)
    found = weights_report.refusals(model, trainer.checkpointer.loaded)
    if found:
        raise ValueError("; ".join(found))
    report = weights_report.weights_report(model, trainer.checkpointer.loaded)
    report["unchecked"] = bool(trainer.cfg.MODEL.WEIGHTS) and origin is None
    weights_report.log_report(report)
    if comm.is_main_process():
        artifacts.write_json(Path(trainer.cfg.OUTPUT_DIR) / "weights.json", report)


def _begin(cfg, fresh: bool) -> None:
    """Write the config; a run that starts over does not append to an interrupted one's metrics, nor resume from it."""
    if comm.is_main_process():
        artifacts.write_text(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
        if fresh:
            (Path(cfg.OUTPUT_DIR) / "last_checkpoint").unlink(missing_ok=True)
            (Path(cfg.OUTPUT_DIR) / "metrics.json").unlink(missing_ok=True)
    comm.synchronize()


def _finish(trainer: Trainer, record: run_record.RunRecord) -> dict:
    """Choose thresholds on validation, put them into the card, test, and close the record."""
    cfg, checkpointer = trainer.cfg, trainer.checkpointer
    name = "model_final"
    best = trainer.validation is not None and trainer.validation.best_iteration >= 0
    if cfg.CXR.TEST_WEIGHTS == "best" and not best:
        logger.warning("no validation gave a mAP, so none is best: the last weights are tested")
    elif cfg.CXR.TEST_WEIGHTS == "best":
        name = "model_best"
        checkpointer.load(str(Path(cfg.OUTPUT_DIR) / "model_best.pth"), checkpointables=[])
    thresholds = _validation_thresholds(cfg, trainer.model)
    if thresholds is not None:
        checkpointer.extra["card"]["thresholds"] = thresholds
        if name == "model_best":
            checkpointer.save_weights(name, iteration=trainer.validation.best_iteration)
        else:
            checkpointer.save(name, iteration=trainer.iter - 1)
    results = _test(cfg, trainer.model, thresholds)
    validation = trainer.validation
    record.update(
        iterations=trainer.iter,
        tested=f"{name}.pth",
        validation=None if validation is None else validation.state_dict(),
    )
    record.finish(results)
    comm.synchronize()
    return results


def _validation_thresholds(cfg, model) -> dict | None:
    """Evaluate on NAME_val and return its thresholds.json; None where CXR.VAL_AT_END is off."""
    name = cfg.CXR.VAL_DATASET or named_set(cfg.DATASETS.TRAIN[0]).sibling("val").name
    if not cfg.CXR.VAL_AT_END or name in cfg.DATASETS.TEST or not named_set(name).exists:
        return None
    if not named_set(name).images():
        return None
    evaluate_model(cfg, model, name, resamples=0)
    comm.synchronize()
    return artifacts.read_json(Path(cfg.OUTPUT_DIR) / "inference" / name / "thresholds.json")


def _test(cfg, model, thresholds: Mapping | None) -> dict:
    results = {}
    for name in cfg.DATASETS.TEST:
        chosen = thresholds if thresholds and thresholds["chosen_on"] != name else None
        results[name] = evaluate_model(cfg, model, name, thresholds=chosen)
        if results[name]:
            box = results[name]["bbox"]
            logger.info("%s: AP %.2f, AP50 %.2f", name, box["AP"], box["AP50"])
    return run_record.plain(results) if comm.is_main_process() else {}
