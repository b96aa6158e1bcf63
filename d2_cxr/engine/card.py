"""The card of a detector: everything that prediction needs, inside the weights file (docs/formats.md, 2)."""

from __future__ import annotations

import yaml
from detectron2.config import CfgNode, get_cfg

import d2_cxr
from d2_cxr import artifacts
from d2_cxr.checkpoint.weights_card import WeightsCard
from d2_cxr.config import RENAMED_KEYS
from d2_cxr.counted import counted
from d2_cxr.engine.run_sets import RunSets


def detector_card(
    cfg: CfgNode, sets: RunSets, origin: WeightsCard | None, num_images: int, fingerprints: dict[str, str | None]
) -> WeightsCard:
    """Return the card of a detector trained with a config.

    Args:
        cfg: of the run.
        sets: of the run.
        origin: card of the weights that it started from.
        num_images: training images with findings.
        fingerprints: name of each training set -> its images_fingerprint, None where it has none.
    """
    first = sets.train[0]
    start = cfg.MODEL.WEIGHTS.rsplit("/", 1)[-1] or "random"
    return WeightsCard(
        **_backbone(cfg),
        pixel_mean=[float(value) for value in cfg.MODEL.PIXEL_MEAN],
        pixel_std=[float(value) for value in cfg.MODEL.PIXEL_STD],
        input_format=cfg.INPUT.FORMAT,
        norm=cfg.MODEL.RESNETS.NORM,
        method=f"{cfg.MODEL.META_ARCHITECTURE} from {(origin and origin.method) or start}",
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        initialized_from=start,
        source_format="d2_cxr detector",
        data_names=[named.name for named in sets.train],
        num_images=num_images,
        data_fingerprints=fingerprints,
        preprocess=first.preprocess or None,
        license=origin.license if origin else None,
        citation=origin.citation if origin else None,
        project_version=d2_cxr.__version__,
        project_commit=artifacts.project_commit(),
        config=portable_config(cfg),
        class_names=list(first.class_names),
    )


def _backbone(cfg: CfgNode) -> dict:
    if cfg.MODEL.BACKBONE.NAME == "build_timm_fpn_backbone":
        return {"architecture": f"timm:{cfg.MODEL.TIMM.NAME}"}
    depth = cfg.MODEL.RESNETS.DEPTH
    return {"architecture": f"resnet{depth}", "depth": depth, "stride_in_1x1": cfg.MODEL.RESNETS.STRIDE_IN_1X1}


def portable_config(cfg: CfgNode) -> str:
    """Return the config as YAML without this machine's paths."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, cfg.CXR.DATASETS = "", "./output", []
    return cfg.dump()


def config_of(card: WeightsCard, source: str) -> CfgNode:
    """Return the config inside a detector's card; inverse of `portable_config`.

    Args:
        source: name of the file, for errors.

    Raises:
        ValueError: the card is not a detector's, or its config has keys that this version does not know.
    """
    if not card.config or not card.class_names:
        raise ValueError(f"{source} holds a backbone, not a detector; give a run's model_final.pth")
    cfg = get_cfg()
    d2_cxr.add_cxr_config(cfg)
    try:
        cfg.merge_from_other_cfg(CfgNode(_with_todays_names(yaml.safe_load(card.config))))
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, yaml.YAMLError) as error:
        said = "" if isinstance(error, TypeError | AttributeError) else " ".join(str(error).split())[:300]
        raise ValueError(f"{source}: its config does not fit this version ({said or 'it is not a config'})") from error
    stated = cfg.MODEL.RETINANET if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else cfg.MODEL.ROI_HEADS
    if len(card.class_names) != stated.NUM_CLASSES:
        raise ValueError(
            f"{source}: its card names {counted(len(card.class_names), 'class')}, but its config has "
            f"{stated.NUM_CLASSES}; the card was changed"
        )
    return cfg


def _with_todays_names(values: dict) -> dict:
    """Rename, in place, the keys that earlier versions spelled otherwise."""
    if not isinstance(values, dict):
        raise TypeError("no mapping")
    for old, new in RENAMED_KEYS.items():
        section, key = old.split(".")
        if isinstance(values.get(section), dict) and key in values[section]:
            values[section][new.split(".")[1]] = values[section].pop(key)
    return values
