"""Train a detector: check everything, record it, run the loop (loop.py), choose thresholds, test.

`train(cfg)` may be called repeatedly in one process.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from d2_cxr import artifacts
from d2_cxr.checkpoint.image_list import image_hashes
from d2_cxr.engine import class_exposure, run_record, schedule, teacher_pool, train_step, weights_report
from d2_cxr.engine import resume as resuming
from d2_cxr.engine.anchors import resolve_anchors
from d2_cxr.engine.build_loaders import TrainingImages, training_images
from d2_cxr.engine.card import detector_card
from d2_cxr.engine.config import register_datasets, setup
from d2_cxr.engine.evaluate import evaluate_model, evaluate_only, test_on_all, validation_thresholds
from d2_cxr.engine.loop import Trainer
from d2_cxr.engine.plain_config import write_configs
from d2_cxr.engine.run_log import log_to
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.set_checks import check_sets
from d2_cxr.engine.start_weights import StartWeights, read_start_weights

__all__ = ["Trainer", "evaluate_model", "evaluate_only", "setup", "train"]
logger = logging.getLogger(__name__)


def train(cfg: CfgNode, resume: bool = False) -> dict:
    """Train with a config of `setup`, evaluate, and leave a run folder (docs/formats.md, 3).

    Args:
        cfg: not changed.
        resume: continue from the last checkpoint in OUTPUT_DIR; a finished run returns its results at once.

    Returns:
        name of each test set -> {"bbox": {"AP": percent, ...}}; {} on processes other than the first.

    Raises:
        FileNotFoundError: a set, an image, the weights or the checkpoint to continue from is missing.
        ValueError: the weights, the config and the data contradict each other; another process trains in OUTPUT_DIR;
            OUTPUT_DIR holds a finished run and `resume` is False, or a run of another config; the training diverged.
    """
    cfg = cfg.clone()
    cfg.defrost()
    register_datasets(cfg.CXR.DATASETS)
    finished = resuming.finished_results(cfg, resume)
    continued = resuming.last_checkpoint(cfg.OUTPUT_DIR) is not None if resume and finished is None else False
    comm.synchronize()  # nobody writes before everybody has looked
    if finished is not None:
        logger.info("%s is finished already", cfg.OUTPUT_DIR)
        return finished
    if continued:
        resuming.require_same_config(cfg)
    alone = artifacts.only_one(cfg.OUTPUT_DIR) if comm.is_main_process() else contextlib.nullcontext()
    with alone, log_to(cfg.OUTPUT_DIR, comm.get_rank()):
        return _train(cfg, continued)


def _train(cfg: CfgNode, continued: bool) -> dict:
    """Check everything, write what is known before the first step, train, test."""
    folder = Path(cfg.OUTPUT_DIR)
    seed = _seed(cfg.SEED, folder / "run.json" if continued else None)
    train_step.set_machine(cfg.CXR.NUM_THREADS, cfg.CXR.TF32)
    seed_all_rng(seed + comm.get_rank())
    sets = RunSets.of(cfg)
    images = training_images(cfg, sets)
    check_sets(sets, cfg.CXR.CHECK_IMAGES)
    resolve_anchors(cfg, images.findings, folder / "config.yaml" if continued else None)
    plan = schedule.resolve(cfg, images.epoch_length)
    pool = teacher_pool.load_pool(cfg, images)
    shown = _shown_first(cfg, sets, images, plan, pool)
    start = read_start_weights(cfg, sets)
    values = run_record.start_values(sets, start, seed, cfg.MODEL.DEVICE, plan, shown)
    record = run_record.RunRecord(folder, values, writes=comm.is_main_process())
    with _recorded(record):
        _begin(cfg, continued)
        trainer = Trainer(cfg, sets, images, seed, pool)
        record.values["precision"] = list(trainer.precision)
        fingerprints = {named.name: values["datasets"][named.name].get("images_fingerprint") for named in sets.train}
        card = detector_card(cfg, sets, start.card, len(images.findings), fingerprints)
        trainer.checkpointer.extra = {"card": card.to_dict(), "images": image_hashes(sets.learned_images, start.images)}
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
        shown["teacher"] = teacher_pool.preview(pool, plan)
    shown["warnings"] += schedule.schedule_warnings(cfg)
    if cfg.CXR.VAL_AT_END and not sets.has_validation:
        shown["warnings"].append(
            f"the validation set {sets.validation.name} has no image: the detector gets no thresholds of its own"
        )
    class_exposure.log_preview(shown)
    return shown


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


def _seed(stated: int, resumed: Path | None) -> int:
    """Return SEED; where that is negative, one random seed for all processes, which a resumed run keeps (run.json)."""
    if stated >= 0:
        return stated
    if resumed is not None and resumed.is_file():
        return artifacts.read_json(resumed)["seed"]
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
    report["unchecked"] = start.unchecked
    weights_report.log_report(report)
    if comm.is_main_process():
        artifacts.write_json(Path(trainer.cfg.OUTPUT_DIR) / "weights.json", report)


def _begin(cfg: CfgNode, continued: bool) -> None:
    """Write the configs; a run that starts anew does not append to an interrupted one's metrics, nor resume from it."""
    if comm.is_main_process():
        write_configs(cfg)
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
        logger.warning("no validation result has an mAP; testing the last weights")
        return "model_final"
    trainer.checkpointer.load(str(Path(trainer.cfg.OUTPUT_DIR) / "model_best.pth"), checkpointables=[])
    return "model_best"
