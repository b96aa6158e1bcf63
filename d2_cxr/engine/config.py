"""A configuration ready to run: read safely, own sets registered, classes from the data set, contradictions refused."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg

import d2_cxr
from d2_cxr import configs
from d2_cxr.checkpoint import timm_backbone  # noqa: F401 - puts build_timm_fpn_backbone into Detectron2's registry
from d2_cxr.counted import counted
from d2_cxr.datasets import augmentations, builtin
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine import teacher_settings
from d2_cxr.engine.start_weights import checked

logger = logging.getLogger(__name__)

_LISTS_OF_NAMES: dict[str, tuple | list] = {
    "DATASETS.TRAIN": (),
    "DATASETS.TEST": (),
    "CXR.TEACHER.POOL": [],
}  # key -> an empty value of its type
_DETECTRON2_NUM_CLASSES = 80  # its default; means "not stated" here


def load_config(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """Return Detectron2's config with the CXR keys, a YAML and then `KEY VALUE ...` merged; touches no data.

    Args:
        config_file: YAML without Python tags; "" is Detectron2's defaults.
        opts: alternating keys and values, as on Detectron2's command line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown key, a value of another type, Python tags; one line.
    """
    cfg = get_cfg()
    d2_cxr.add_cxr_config(cfg)
    config_file = _found(config_file) if config_file else ""
    try:
        if config_file:
            cfg.merge_from_file(str(config_file), allow_unsafe=False)
        cfg.merge_from_list(_as_list(opts))
    except (KeyError, AssertionError, ValueError, TypeError, OSError, AttributeError) as error:
        raise ValueError(f"{config_file or 'options'}: {_first_line(error)}{_did_you_mean(error, cfg)}") from error
    except Exception as error:  # PyYAML's own family of errors
        raise ValueError(f"{config_file}: not plain YAML: {' '.join(str(error).split())}") from error
    _settle_length(cfg, opts)
    return cfg


def setup(config_file: str | Path = "", opts: Sequence[str] = (), output_dir: str | Path | None = None) -> CfgNode:
    """Return the config of a run: `load_config`, then everything that needs the data sets' names.

    Registers `CXR.DATASETS`, takes `ROI_HEADS.NUM_CLASSES` from the set, and moves to the CPU where there is no GPU.

    Raises:
        FileNotFoundError, ValueError: see `load_config`; a data set that has no such name or is not prepared; a number
            of classes that contradicts the set.
    """
    cfg = load_config(config_file, opts)
    if output_dir is not None:
        cfg.OUTPUT_DIR = str(output_dir)
    cfg.MODEL.WEIGHTS = checked(cfg.MODEL.WEIGHTS)
    register_datasets(cfg.CXR.DATASETS)
    _check_names(cfg)
    set_num_classes(cfg)
    _check_device(cfg)
    _check_test_weights(cfg)
    _check_recipe(cfg)
    teacher_settings.check(cfg)
    return cfg


def _found(config_file: str | Path) -> Path:
    """Return a config's file: as named, or below the configs of the package, which an installed wheel holds.

    Raises:
        FileNotFoundError: it is in neither place.
        ValueError: it is one of Detectron2's LazyConfigs.
    """
    if str(config_file).endswith(".py"):
        raise ValueError(f"{config_file}: LazyConfig (.py) is not supported, because it runs code; give a YAML (.yaml)")
    if Path(config_file).is_file():
        return Path(config_file)
    packaged = configs.FOLDER / str(config_file).removeprefix("configs/")
    if not packaged.is_file():
        raise FileNotFoundError(f"configuration {config_file} does not exist")
    return packaged


def register_datasets(entries: Sequence) -> None:
    """Register the own sets of `CXR.DATASETS`, [[name, folder], ...]; again in every process that uses the config."""
    for entry in entries:
        if len(entry) != 2:
            raise ValueError(f"CXR.DATASETS holds {entry}; give [[name, folder of the prepared set], ...]")
        name, folder = entry
        builtin.register_prepared(str(name), str(folder))


def unknown_classes(learned: Sequence[str], name: str, class_names: Sequence[str]) -> list[str]:
    """Return a sentence if a test set has classes that a detector does not know by these names, else [].

    Args:
        learned: the detector's classes.
        name: of the test set.
        class_names: of the test set, in any order.
    """
    unknown = [one for one in class_names if one not in learned]
    if not unknown:
        return []
    return [
        f"{name} has the classes {', '.join(unknown)}, which the detector does not know: name them as it does "
        f"(--classes of the preparation): {', '.join(learned)}"
    ]


def set_num_classes(cfg: CfgNode) -> None:
    """Set `ROI_HEADS.NUM_CLASSES` (and RetinaNet's) to the number of classes of the training or test set.

    Raises:
        ValueError: the config states another number, the training sets have different classes, or a test set has a
            class that they do not have.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    classes = {name: named_set(name).class_names for name in names}
    if not classes:
        return
    first = names[0]
    for name in names[1:]:
        if name in cfg.DATASETS.TRAIN and classes[name] != classes[first]:
            raise ValueError(f"{name} has the classes {classes[name]}, {first} has {classes[first]}")
        unknown = unknown_classes(classes[first], name, classes[name])
        if unknown:
            raise ValueError(f"{unknown[0]} ({first})")
    stated, found = cfg.MODEL.ROI_HEADS.NUM_CLASSES, len(classes[first])
    if stated not in (_DETECTRON2_NUM_CLASSES, found):
        raise ValueError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {stated}, but {first} has {counted(found, 'class')}; leave the key out, "
            "it is set from the data set"
        )
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = found
    cfg.MODEL.RETINANET.NUM_CLASSES = found


def _check_names(cfg: CfgNode) -> None:
    for key, names in (("DATASETS.TRAIN", cfg.DATASETS.TRAIN), ("DATASETS.TEST", cfg.DATASETS.TEST)):
        for name in names:
            try:
                named = named_set(name)
            except KeyError as error:
                raise ValueError(f"{key}: {error.args[0]}") from error
            if named.kind != "boxes":
                raise ValueError(
                    f"{key}: {name} has no boxes ({named.kind} images); CXR.NEGATIVE_RATIO adds negative images"
                )
            if key == "DATASETS.TRAIN" and named.part != "train":
                raise ValueError(f"{key}: {name} is not a training set; give NAME_train or a labeled fraction of it")


def _settle_length(cfg: CfgNode, opts: Sequence[str]) -> None:
    """Let SOLVER.MAX_ITER on the command line take over from epochs in a file, and refuse two lengths at once."""
    given = set(_as_list(opts)[::2])
    if "SOLVER.MAX_ITER" in given and cfg.CXR.EPOCHS > 0:
        if "CXR.EPOCHS" in given:
            raise ValueError("SOLVER.MAX_ITER and CXR.EPOCHS both set the length of training; give one")
        logger.info("SOLVER.MAX_ITER %d replaces CXR.EPOCHS %d", cfg.SOLVER.MAX_ITER, cfg.CXR.EPOCHS)
        cfg.CXR.EPOCHS, cfg.CXR.STEP_EPOCHS = 0, []


def _check_device(cfg: CfgNode) -> None:
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        logger.info("no GPU found: MODEL.DEVICE is set to cpu")
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.DEVICE == "cpu" and cfg.SOLVER.AMP.ENABLED:
        raise ValueError("SOLVER.AMP.ENABLED is Detectron2's float16 and needs a GPU; on the CPU use CXR.AMP bf16")
    norms = {cfg.MODEL.RESNETS.NORM, cfg.MODEL.FPN.NORM, cfg.MODEL.ROI_BOX_HEAD.NORM}
    if cfg.MODEL.DEVICE == "cpu" and "SyncBN" in norms:
        raise ValueError("SyncBN has no CPU implementation; use BN or GN for MODEL.*.NORM")
    if cfg.TEST.PRECISE_BN.ENABLED:
        raise ValueError("TEST.PRECISE_BN is not supported by this trainer; set TEST.PRECISE_BN.ENABLED False")


def _check_test_weights(cfg: CfgNode) -> None:
    if cfg.CXR.TEST_WEIGHTS not in ("last", "best"):
        raise ValueError(f"CXR.TEST_WEIGHTS is {cfg.CXR.TEST_WEIGHTS!r}; it can be last or best")
    if cfg.CXR.TEST_WEIGHTS == "best" and cfg.TEST.EVAL_PERIOD <= 0:
        raise ValueError("CXR.TEST_WEIGHTS best is chosen on validation; set TEST.EVAL_PERIOD above 0")


def _check_recipe(cfg: CfgNode) -> None:
    augmentations.of_choice(cfg.CXR.AUGMENTATION)
    if cfg.CXR.ANCHORS not in ("fixed", "auto"):
        raise ValueError(f"CXR.ANCHORS is {cfg.CXR.ANCHORS!r}; it can be fixed or auto")
    if cfg.CXR.ANCHORS == "auto" and cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        raise ValueError(
            f"CXR.ANCHORS auto fits the anchors of MODEL.META_ARCHITECTURE GeneralizedRCNN, not of "
            f"{cfg.MODEL.META_ARCHITECTURE}; state MODEL.ANCHOR_GENERATOR"
        )


def _as_list(opts: Sequence[str]) -> list:
    """Accept Detectron2's `KEY VALUE ...` as well as the older `KEY=VALUE ...`."""
    opts = [str(entry) for entry in opts]
    if opts and "=" in opts[0] and not opts[0].startswith("="):
        opts = [part for entry in opts for part in entry.split("=", 1)]
    if len(opts) % 2:
        raise ValueError(f"options come as KEY VALUE pairs; {opts[-1]!r} has no value")
    return [part for key, value in zip(opts[::2], opts[1::2], strict=True) for part in (key, _as_names(key, value))]


def _as_names(key: str, value: str) -> str:
    """Accept data-set names without quotes and parentheses: clinic_train, or a_train,b_train."""
    if key not in _LISTS_OF_NAMES or not re.fullmatch(r"[\w.-]+(\s*,\s*[\w.-]+)*,?", value):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    return repr(tuple(names) if isinstance(_LISTS_OF_NAMES[key], tuple) else names)


def _did_you_mean(error: Exception, cfg: CfgNode) -> str:
    """Return the known key that is most like an unknown one: "; did you mean SOLVER.BASE_LR?", or ""."""
    unknown = re.search(r"Non-existent (?:config )?key: ([\w.]+)", str(error))
    if not unknown:
        return ""
    known = _keys(cfg)
    written = unknown[1].upper()
    near = difflib.get_close_matches(written, known, n=1, cutoff=0.75)
    same_name = [key for key in known if key.rpartition(".")[2] == written.rpartition(".")[2]]  # another section
    found = near or same_name[:1]
    return f"; did you mean {found[0]}?" if found else ""


def _keys(node: CfgNode, prefix: str = "") -> list[str]:
    """Return the dotted names of all keys and sections."""
    names = []
    for key, value in node.items():
        names.append(f"{prefix}{key}")
        names += _keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else []
    return names


def _first_line(error: Exception) -> str:
    text = " ".join((str(error.args[0]) if error.args else type(error).__name__).split())
    other = re.search(r"<class '(\w+)'> vs\. .*values \((.*) vs\. (.*)\) for config key: ([\w.]+)", text)  # yacs's
    if not other:
        return text[:300]
    kind, default, value, key = other.groups()
    off = (
        ". YAML reads off, on, yes and no as true or false: put them into quotes" if value in ("True", "False") else ""
    )
    return f"{key} is {value[:80]}; it must be {_KINDS.get(kind, kind)}, such as {default[:80]}{off}"


_KINDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "True or False"}
_KINDS |= {"list": "a list", "tuple": "a list"}
