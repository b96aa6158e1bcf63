"""The keys of `CXR.TEACHER`: what they may say, before anything is loaded."""

from __future__ import annotations

from detectron2.config import CfgNode

from d2_cxr.datasets.named_sets import POOL_PARTS, named_set

CONTROLS = ("", "shuffled", "labeled")


def check(cfg: CfgNode) -> None:
    """Refuse keys of `CXR.TEACHER` that cannot be used; an empty POOL means no teacher.

    Raises:
        ValueError: a name that is no pool, another preparation than the training images', a value out of range.
    """
    keys = cfg.CXR.TEACHER
    if not keys.POOL:
        return
    if cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        raise ValueError(
            f"CXR.TEACHER needs MODEL.META_ARCHITECTURE GeneralizedRCNN, not {cfg.MODEL.META_ARCHITECTURE}"
        )
    if keys.CONTROL not in CONTROLS:
        raise ValueError(f"CXR.TEACHER.CONTROL is {keys.CONTROL!r}; it can be '', shuffled or labeled")
    if not 0 <= keys.BURN_IN < 1:
        raise ValueError(
            f"CXR.TEACHER.BURN_IN is {keys.BURN_IN}, a fraction of the iterations; give 0 or more, but less than 1"
        )
    if not 0 <= keys.EMA < 1:
        raise ValueError(f"CXR.TEACHER.EMA is {keys.EMA}; give 0 or more, but less than 1")
    if not 0 <= keys.UNCERTAIN <= 1:
        raise ValueError(f"CXR.TEACHER.UNCERTAIN is {keys.UNCERTAIN}; give a score from 0 to 1")
    if keys.RATIO <= 0:
        raise ValueError(f"CXR.TEACHER.RATIO is {keys.RATIO}; give a number above 0")
    if keys.WEIGHT < 0:
        raise ValueError(f"CXR.TEACHER.WEIGHT is {keys.WEIGHT}; give 0 or more")
    classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if len(keys.THRESHOLDS) not in (0, 1, classes):
        raise ValueError(f"CXR.TEACHER.THRESHOLDS has {len(keys.THRESHOLDS)} values; give 0, 1 or {classes}")
    _check_names(cfg)


def _check_names(cfg: CfgNode) -> None:
    labeled = named_set(cfg.DATASETS.TRAIN[0])
    for name in cfg.CXR.TEACHER.POOL:
        try:
            named = named_set(name)
        except KeyError as error:
            raise ValueError(f"CXR.TEACHER.POOL: {error.args[0]}") from error
        if named.part not in POOL_PARTS:
            raise ValueError(
                f"CXR.TEACHER.POOL: {name} is held out; learning from it would leak validation or test images"
            )
        if named.kind == "boxes":
            raise ValueError(
                f"CXR.TEACHER.POOL: {name} has labels; give NAME_train_unlabeled, a fraction's complement "
                "(NAME_train_unlabeled_90_seed0), NAME_unlabeled or NAME_negative_train"
            )
        rules, found = labeled.preprocess, named.preprocess
        if rules and found and found != rules:
            raise ValueError(f"CXR.TEACHER.POOL: {name} was prepared as {found}, {labeled.name} as {rules}")
