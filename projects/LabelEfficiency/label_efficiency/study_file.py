"""Study files: read, overridden from the command line, and checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from d2_cxr.projects.label_efficiency.arms import ARM_OPTIONS
from d2_cxr.projects.label_efficiency.names import source
from d2_cxr.projects.label_efficiency.study_keys import RENAMED, STUDY
from d2_cxr.projects.label_efficiency.study_schema import check_shape, quoted, suggestion

from d2_cxr.datasets.set_folders import BUILTIN
from d2_cxr.dicom.preprocess import Preprocess

_FLAT = ("shared_options", "same_ground", "options")  # the keys below these contain dots themselves


_RULES = ("size", "resize", "equalize", "window")  # keys of data: prepare that Preprocess checks


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict:
    """Read a study file, set KEY=VALUE and check the result.

    Args:
        path: a YAML file.
        overrides: KEY=VALUE, the value in YAML, e.g. "data.dicom_dir=images".

    Returns:
        Plain values under today's spelling of every key; keys without a value are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no YAML, or a key or value is not accepted; one line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no study file {path}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (
        yaml.YAMLError,
        UnicodeDecodeError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: a date such as 2020-13-40
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a study file: it has no keys")
    _rename(settings, str(path), refuse_both=True)
    for override_text in overrides:
        override(settings, override_text)
        _rename(settings, override_text, refuse_both=False)
    settings = _without_nothing(settings)
    check(settings, path)
    return settings


def override(settings: dict, override_text: str) -> None:
    """Set a key of a study; below `shared_options` and `options` the rest is one key, such as SOLVER.MAX_ITER.

    Raises:
        ValueError: the text is not KEY=VALUE, or the key lies below a value that holds no keys.
    """
    dotted, equals, value = override_text.partition("=")
    if not equals or not dotted:
        raise ValueError(f"{override_text} is not KEY=VALUE, e.g. seeds=[0,1] or data.dicom_dir=images")
    key, _, rest = dotted.partition(".")
    target, walked = settings, []
    while rest:
        walked.append(key)
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            raise ValueError(f"{override_text}: {'.'.join(walked)} is {quoted(target)}, which has no keys")
        key, _, rest = (rest, "", "") if key in _FLAT else rest.partition(".")
    try:
        target[key] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{override_text}: the value is no YAML; put it in quotes") from error


def check(settings: dict, path: Path) -> None:
    """Check every key and value of a study, and that its parts fit together.

    Raises:
        ValueError: one line that names the file, the key, the value and what is accepted.
    """
    check_shape(settings, STUDY, str(path))
    for part in (_check_data, _check_weights, _check_arms, _check_tuning, _check_scores):
        try:
            part(settings)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def check_inputs(settings: dict) -> None:
    """Check that the images and tables that a study prepares exist, before anything is timed or written.

    Raises:
        FileNotFoundError: one is missing.
    """
    for key in ("dicom_dir", "annotations", "patients"):
        path = settings["data"].get(key)
        if path and not Path(path).exists():
            raise FileNotFoundError(f"data.{key}: there is no {path}; give yours on the command line: data.{key}=PATH")
    for name, entry in settings.get("weights", {}).items():
        if "://" not in entry["file"] and not Path(entry["file"]).is_file():
            raise FileNotFoundError(
                f"weights.{name}: there is no {entry['file']}; give yours on the command line: weights.{name}.file=PATH"
            )
    table = settings.get("subgroups", "").rpartition(":")[0]
    if table and not Path(table).is_file():
        raise FileNotFoundError(
            f"subgroups: there is no table {table}; give yours on the command line: subgroups=CSV:COLUMN, or subgroups="
        )


def _rename(settings: dict, where: str, refuse_both: bool) -> None:
    """Bring old spellings to today's, in place. Of a key under both spellings, the old one was set by an override."""
    for place, names in RENAMED.items():
        for holder in _holders(settings, place):
            for old, new in names.items():
                if old not in holder:
                    continue
                if new in holder and refuse_both:
                    raise ValueError(f"{where}: {old} is the old name of {new}, and both are there; drop {old}")
                value = holder.pop(old)
                both = isinstance(value, dict) and isinstance(holder.get(new), dict)
                holder[new] = {**holder[new], **value} if both else value


def _holders(settings: dict, place: tuple[str, ...]) -> list[dict]:
    """Return the mappings at a place of a study, such as ("arms", "*")."""
    found = [settings]
    for key in place:
        below = [value for one in found for name, value in one.items() if key in ("*", name)]
        found = [value for value in below if isinstance(value, dict)]
    return found


def _without_nothing(value: object) -> object:
    """Leave out keys whose value is empty in the YAML: `evaluation:` is as if it were not there."""
    if not isinstance(value, dict):
        return value
    return {key: _without_nothing(item) for key, item in value.items() if item is not None}


def _check_data(settings: dict) -> None:
    data, labels = settings["data"], settings["labels"]
    if "phantoms" in data and "dicom_dir" in data:
        raise ValueError("data: phantoms and dicom_dir are two sources of images; drop one")
    if data.get("split_seeds") and not ("phantoms" in data or "dicom_dir" in data):
        raise ValueError("data: split_seeds needs images that the study prepares itself; give dicom_dir, or drop it")
    try:
        Preprocess(**{key: value for key, value in data.get("prepare", {}).items() if key in _RULES})
    except ValueError as error:
        raise ValueError(f"data: prepare: {error}") from error
    complements = [name for name, plan in settings.get("pretraining", {}).items() if plan.get("pool") == "complement"]
    for name, arm in settings["arms"].items():
        fractions = arm.get("label_fractions", labels["label_fractions"])
        teacher = arm.get("teacher", {}).get("pool") == "complement"
        if 100 in fractions and (source(arm) in complements or teacher):
            raise ValueError(
                f"arms: {name}: pool: complement leaves no image at 100 % of the labels; give the arm label_fractions "
                "without 100, or pool: all"
            )


def _check_weights(settings: dict) -> None:
    weights, pretraining = settings.get("weights", {}), settings.get("pretraining", {})
    for name in weights:
        if name in pretraining:
            raise ValueError(f"{name} is both in weights and in pretraining; rename one")
    for name, plan in pretraining.items():
        if "init_from" in plan and plan["init_from"] not in weights:
            raise ValueError(f"pretraining: {name}: init_from: {plan['init_from']} is not under weights")
        if plan.get("method") == "supervised" and "phantoms" not in settings["data"]:
            raise ValueError(f"pretraining: {name}: method supervised needs data: phantoms, whose truth is known")


def _check_arms(settings: dict) -> None:
    pretraining, arms = settings.get("pretraining", {}), settings["arms"]
    known = [*pretraining, *settings.get("weights", {})]
    if not arms:
        raise ValueError("arms is empty; give at least one arm, NAME: {config: FILE}")
    for name, arm in arms.items():
        where, needed, matched = f"arms: {name}", source(arm), arm.get("compute_matched")
        for option in arm.get("options", {}):
            if option not in ARM_OPTIONS:
                raise ValueError(f"{where} sets {option}: arms differ only in {', '.join(ARM_OPTIONS)}")
        if needed is not None and needed not in known and not Path(needed).suffix:
            raise ValueError(f"{where} needs {needed}, which is not under pretraining or weights, and no file")
        if matched and matched not in pretraining and "teacher" not in arms.get(matched, {}):
            raise ValueError(
                f"{where}: compute_matched: {matched} is no pretraining and no arm with a teacher; "
                f"{suggestion(matched, [*pretraining, *(key for key in arms if 'teacher' in arms[key])])}"
            )
        rounds = arm.get("label_fractions", settings["labels"]["label_fractions"])
        if "acquire" in arm and (rounds != sorted(rounds) or rounds[-1] == 100):
            raise ValueError(
                f"{where}: acquire buys in rounds: label fractions must rise and stay below 100, not {rounds}"
            )
        if "iterations" in arm and not matched:
            raise ValueError(f"{where} states iterations, which only an arm with compute_matched may; drop the key")
        for fraction in arm.get("label_fractions", []):
            if fraction not in settings["labels"]["label_fractions"]:
                raise ValueError(f"{where}: label_fractions: {fraction} is not among labels: label_fractions")


def _check_tuning(settings: dict) -> None:
    tuning = settings.get("tuning")
    if not tuning:
        return
    if tuning["label_fraction"] not in settings["labels"]["label_fractions"]:
        raise ValueError(f"tuning: label_fraction: {tuning['label_fraction']} is not among labels: label_fractions")
    if tuning.get("seed", settings["seeds"][0]) not in settings["seeds"]:
        raise ValueError(f"tuning: seed: {tuning['seed']} is not among seeds")
    for name, arm in settings["arms"].items():
        if tuning["option"] in arm.get("options", {}):
            raise ValueError(f"arms: {name} sets {tuning['option']}, which tuning chooses; drop one of them")


def _check_scores(settings: dict) -> None:
    """Check that scores are requested of arms and classes that exist, and validations where they are needed."""
    endpoint, arms = settings.get("primary_endpoint", {}), settings["arms"]
    for arm in [*endpoint.get("controls", []), *([endpoint["reference"]] if "reference" in endpoint else [])]:
        if arm not in arms:
            raise ValueError(f"primary_endpoint: {arm} is not an arm; {suggestion(arm, list(arms))}")
    known = BUILTIN.get(settings["data"]["name"])
    if known and "classes" not in settings["data"].get("prepare", {}):
        for section in ("primary_endpoint", "criterion"):
            for name in settings.get(section, {}).get("classes", []):
                if name not in known:
                    raise ValueError(f"{section}: classes: {name} is not a class of the set; {suggestion(name, known)}")
    period = settings["shared_options"].get("TEST.EVAL_PERIOD", 0)
    if settings.get("evaluation", {}).get("val_selected") and not (type(period) is int and period > 0):
        raise ValueError(
            "evaluation: val_selected needs validations: set shared_options: TEST.EVAL_PERIOD to the iterations "
            "between them"
        )
