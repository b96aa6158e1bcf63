"""A detector on a named set: validation during training, the test at its end, and `--eval-only`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from d2_cxr import artifacts
from d2_cxr.checkpoint.image_list import seen_images
from d2_cxr.checkpoint.weights_card import contradictions, load_with_card, zoo_card
from d2_cxr.datasets.named_sets import NamedSet, named_set
from d2_cxr.engine import anchors, resume, run_record, train_step
from d2_cxr.engine.build_loaders import build_test_loader
from d2_cxr.engine.checkpointer import CXRCheckpointer
from d2_cxr.engine.config import register_datasets, unknown_classes
from d2_cxr.engine.run_log import log_to
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.start_weights import local_path, preprocessing_contradictions
from d2_cxr.engine.weights_report import require_complete
from d2_cxr.evaluation.cxr_evaluation import CXREvaluator
from d2_cxr.evaluation.thresholds import check_thresholds

logger = logging.getLogger(__name__)


def evaluate_only(cfg: CfgNode, from_checkpoint: bool = False) -> dict:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST; returns what `trainer.train` does.

    Args:
        cfg: of `setup`.
        from_checkpoint: evaluate the last checkpoint of OUTPUT_DIR instead, if there is one.

    Raises:
        ValueError: the file does not fill the whole model, contradicts the config, or has other classes.
    """
    cfg = cfg.clone()
    cfg.defrost()
    register_datasets(cfg.CXR.DATASETS)
    with log_to(cfg.OUTPUT_DIR, comm.get_rank()):
        train_step.set_machine(cfg.CXR.NUM_THREADS, cfg.CXR.TF32)
        last = resume.last_checkpoint(cfg.OUTPUT_DIR) if from_checkpoint else None
        path = str(last or cfg.MODEL.WEIGHTS)
        thresholds, class_names = check_detector(cfg, path)
        model = build_model(cfg)
        if cfg.CXR.CHANNELS_LAST:
            train_step.to_channels_last(model)
        checkpointer = CXRCheckpointer(model, cfg.OUTPUT_DIR)
        checkpointer.load(path, checkpointables=[])
        require_complete(model, checkpointer.report)
        return test_on_all(cfg, model, thresholds, class_names)


def evaluate_model(
    cfg: CfgNode,
    model: nn.Module,
    named: NamedSet,
    resamples: int | None = None,
    thresholds: Mapping | None = None,
    class_names: Sequence[str] | None = None,
) -> dict:
    """Run a model over a set and, with CXR.TEST_NEGATIVES, the negative images of its split; write its evaluation.

    Args:
        cfg: of the run.
        model: the detector, also inside DistributedDataParallel.
        named: the data set; its files go to OUTPUT_DIR/inference/NAME/.
        resamples: of the bootstrap; default CXR.RESAMPLES.
        thresholds: content of a thresholds.json chosen on other images, to report at.
        class_names: of the model; None: those of the data set, in its order.

    Returns:
        {"bbox": {"AP": percent, ...}}; {} on processes other than the first.
    """
    negatives = named.negatives() if cfg.CXR.TEST_NEGATIVES else None
    evaluator = CXREvaluator(
        named.name,
        str(Path(cfg.OUTPUT_DIR) / "inference" / named.name),
        resamples=cfg.CXR.RESAMPLES if resamples is None else resamples,
        negative_dataset=negatives.name if negatives else None,
        chosen_thresholds=thresholds,
        class_names=class_names,
    )
    model = getattr(model, "module", model)  # DistributedDataParallel has nothing to do here
    loader = build_test_loader(cfg, [named, negatives] if negatives else [named])
    return inference_on_dataset(model, loader, evaluator) or {}


def test_on_all(
    cfg: CfgNode, model: nn.Module, thresholds: Mapping | None, class_names: Sequence[str] | None = None
) -> dict:
    """Evaluate on every name of DATASETS.TEST; returns name -> results, {} on processes other than the first."""
    results = {}
    for name in cfg.DATASETS.TEST:
        chosen = thresholds if thresholds and thresholds.get("chosen_on") != name else None
        results[name] = evaluate_model(cfg, model, named_set(name), thresholds=chosen, class_names=class_names)
        if results[name]:
            box = results[name]["bbox"]
            logger.info("%s: AP %.2f, AP50 %.2f", name, box["AP"], box["AP50"])
    return run_record.plain(results) if comm.is_main_process() else {}


def validation_thresholds(cfg: CfgNode, model: nn.Module, sets: RunSets) -> dict | None:
    """Evaluate on the validation set and return its thresholds.json.

    Returns:
        None where CXR.VAL_AT_END is off, the set has no image, or it is a test set itself.
    """
    if not cfg.CXR.VAL_AT_END or sets.validation in sets.test or not sets.has_validation:
        return None
    evaluate_model(cfg, model, sets.validation, resamples=0)
    comm.synchronize()
    return artifacts.read_json(Path(cfg.OUTPUT_DIR) / "inference" / sets.validation.name / "thresholds.json")


def check_detector(cfg: CfgNode, path: str) -> tuple[dict | None, list[str] | None]:
    """Compare a detector's file with the config and the test sets before it is evaluated.

    Returns:
        its thresholds and its class names; None where it does not say.

    With CXR.ANCHORS auto the config gets the file's anchors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a weights file, its card contradicts the config, the images' preparation or
            their classes, or it was trained on test images.
    """
    if not path:
        raise ValueError("MODEL.WEIGHTS is empty; give the weights to evaluate")
    content, own = load_with_card(local_path(path), path)
    card = own or zoo_card(path)
    anchors.take_from_card(cfg, card, path)
    if card is None:
        logger.warning("%s has no card: nothing can be compared with the config", path)
        return None, None
    found = contradictions(card, cfg)
    for named in map(named_set, cfg.DATASETS.TEST):
        found += preprocessing_contradictions(card.preprocess or {}, named.preprocess)
        found += unknown_classes(card.class_names, named.name, named.class_names) if card.class_names else []
        if named.part != "train":  # whose evaluation measures the fit
            found += seen_images(content.get("images"), [named])
    if found:
        raise ValueError(f"{path} cannot be evaluated with this config: {'; '.join(found)}")
    if card.thresholds is None:
        return None, card.class_names
    return check_thresholds(card.thresholds, card.class_names or (), f"the card of {path}"), card.class_names
