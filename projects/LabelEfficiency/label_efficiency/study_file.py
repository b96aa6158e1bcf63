"""What a study file may say: its keys, what the command line sets, and what is refused before anything runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

_KEYS = {
    "study": True,  # a word for titles
    "title": False,
    "output": True,  # folder of the study, from the working directory
    "data": True,
    "weights": False,  # made elsewhere: name -> file (path or URL), sha256, timm, pixel_mean, pixel_std
    "pretraining": False,
    "arms": True,
    "labels": True,
    "seeds": True,
    "same_ground": True,
    "evaluation": False,
    "endpoint": False,
    "criterion": False,
    "groups": False,  # CSV:COLUMN, groups of images within which the report scores too
    "tuning": False,  # one value an arm, chosen on validation images
    "resources": False,
    "results": False,  # folder that gets a copy of all that the report needs, run by run
    "notes": False,
}
_DATA_KEYS = ("name", "prefix", "root", "phantoms", "dicom_dir", "annotations", "patients", "prepare", "split_seeds")
_WEIGHTS_KEYS = {"file": True, "sha256": False, "timm": False, "pixel_mean": False, "pixel_std": False}
_TUNING_KEYS = {"option": True, "values": True, "percent": True, "seed": False}
_ARM_KEYS = {"config", "weights", "options", "longer", "iterations", "percent"}
# What an arm may set for itself: the input convention that its weights demand, and the rate that was tuned for it.
_ARM_OPTIONS = ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT", "MODEL.RESNETS.STRIDE_IN_1X1", "SOLVER.BASE_LR")


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict:
    """Read a study file, set KEY=VALUE and check the result.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is unknown, missing or of the wrong kind, or an arm leaves the common ground.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no study file {path}")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for text in overrides if isinstance(settings, dict) else ():
        override(settings, text)
    check(settings, path)
    return settings


def override(settings: dict, text: str) -> None:
    """Set a key of a study. Below `same_ground` and `options` the rest is one key: `same_ground.SOLVER.MAX_ITER=5`."""
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise ValueError(f"{text} is no KEY=VALUE, e.g. seeds=[0,1] or data.dicom_dir=images")
    key, _, rest = dotted.partition(".")
    target, walked = settings, []
    while rest:
        walked.append(key)
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise ValueError(f"{text}: {'.'.join(walked)} is {target}, and holds no keys")
        key, _, rest = (rest, "", "") if key in _FLAT else rest.partition(".")
    try:
        target[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{text}: the value is no YAML; put it in quotes") from error


_FLAT = ("same_ground", "options")  # their keys hold dots themselves


def check_inputs(settings: dict) -> None:
    """Check that the images and tables that a study prepares are there, before anything is timed or written.

    Raises:
        FileNotFoundError: one is missing.
    """
    for key in ("dicom_dir", "annotations", "patients"):
        path = settings["data"].get(key)
        if path and not Path(path).exists():
            raise FileNotFoundError(f"data.{key}: there is no {path}; give yours on the command line: data.{key}=PATH")
    for name, entry in (settings.get("weights") or {}).items():
        if "://" not in entry["file"] and not Path(entry["file"]).is_file():
            raise FileNotFoundError(
                f"weights.{name}: there is no {entry['file']}; give yours on the command line: weights.{name}.file=PATH"
            )
    groups = settings.get("groups")
    if groups and not Path(groups.rpartition(":")[0]).is_file():
        raise FileNotFoundError(f"groups: there is no table {groups.rpartition(':')[0]}; it is CSV:COLUMN")


def check(settings, path: Path) -> None:
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a study file: it holds no keys")
    _check_keys(settings, _KEYS, str(path))
    _check_keys(settings["data"], dict.fromkeys(_DATA_KEYS, False), f"{path}: data")
    seeds = settings["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ValueError(f"{path}: seeds: {seeds} is not a list of whole numbers, e.g. [0, 1, 2]")
    _check_weights(settings, path)
    for name, arm in settings["arms"].items():
        _check_arm(name, arm or {}, settings, path)
    if settings.get("tuning"):
        _check_tuning(settings, path)
    period = settings["same_ground"].get("TEST.EVAL_PERIOD", 0)
    if (settings.get("evaluation") or {}).get("val_selected") and period <= 0:
        raise ValueError(
            f"{path}: evaluation: val_selected needs validations: set same_ground: TEST.EVAL_PERIOD to the iterations "
            "between them"
        )
    wrong = [p for p in settings["labels"]["percent"] if p not in (*range(10, 100, 10), 100)]
    if wrong:
        raise ValueError(f"{path}: labels: percent: {wrong[0]} does not exist; shares are 10, 20 ... 100")


def _check_keys(found: dict, known: dict[str, bool], where: str) -> None:
    """Refuse keys that are not known and the lack of those whose value in `known` is True."""
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]}; known are {', '.join(known)}")
    missing = [key for key, required in known.items() if required and key not in found]
    if missing:
        raise ValueError(f"{where}: the key {missing[0]} is missing")


def _check_weights(settings: dict, path: Path) -> None:
    """Check what is said of weights that were made elsewhere, and that pretraining starts from none but these."""
    weights, pretraining = settings.get("weights") or {}, settings.get("pretraining") or {}
    for name, entry in weights.items():
        _check_keys(entry, _WEIGHTS_KEYS, f"{path}: weights: {name}")
        digest = entry.get("sha256", "0" * 8)
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{8,64}", digest):
            raise ValueError(f"{path}: weights: {name}: sha256 is {digest!r}; give 8 to 64 of its digits, in quotes")
        if name in pretraining:
            raise ValueError(f"{path}: {name} stands under weights and under pretraining; rename one")
    for name, plan in pretraining.items():
        if plan.get("init_from") and plan["init_from"] not in weights:
            raise ValueError(f"{path}: pretraining: {name}: init_from: {plan['init_from']} is not under weights")


def _check_tuning(settings: dict, path: Path) -> None:
    tuning = settings["tuning"]
    _check_keys(tuning, _TUNING_KEYS, f"{path}: tuning")
    if tuning["option"] != "SOLVER.BASE_LR":
        raise ValueError(f"{path}: tuning: option: {tuning['option']}: only SOLVER.BASE_LR may differ between arms")
    values = tuning["values"]
    if not isinstance(values, list) or len(values) < 2 or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"{path}: tuning: values: {values} is no list of two numbers or more, e.g. [0.0005, 0.001]")
    if tuning["percent"] not in settings["labels"]["percent"]:
        raise ValueError(f"{path}: tuning: percent: {tuning['percent']} is not among labels: percent")
    if tuning.get("seed", settings["seeds"][0]) not in settings["seeds"]:
        raise ValueError(f"{path}: tuning: seed: {tuning['seed']} is not among seeds")
    for name, arm in settings["arms"].items():
        if tuning["option"] in (arm.get("options") or {}):
            raise ValueError(f"{path}: arm {name} sets {tuning['option']}, which tuning chooses; drop one of them")


def _check_arm(name: str, arm: dict, settings: dict, path: Path) -> None:
    unknown = sorted(set(arm) - _ARM_KEYS)
    if unknown:
        raise ValueError(
            f"{path}: arm {name} has the unknown key {unknown[0]}; known are {', '.join(sorted(_ARM_KEYS))}"
        )
    if "config" not in arm:
        raise ValueError(f"{path}: arm {name} names no config")
    for option in arm.get("options") or {}:
        if option not in _ARM_OPTIONS:
            raise ValueError(f"{path}: arm {name} sets {option}: arms differ only in {', '.join(_ARM_OPTIONS)}")
    needed = arm.get("longer") or source(arm)
    known = (settings.get("pretraining") or {}).keys() | (settings.get("weights") or {}).keys()
    if needed and needed not in known and not Path(needed).suffix:
        raise ValueError(f"{path}: arm {name} needs {needed}, which is not under pretraining or weights, and no file")


def source(arm: dict) -> str | None:
    """Name under `pretraining` (or path) of an arm's weights; `permuted(NAME)` is its negative control."""
    weights = arm.get("weights")
    return weights.removeprefix("permuted(").removesuffix(")") if weights else None
