"""Paired trials of single changes to a recipe, on folds of a prepared set's train and val images.

Base and changes train on the same images with the same seed, and are tested on the same images: the difference is
paired by patient within each fold, and averaged over folds. Its interval holds the choice of images, not the chance of
a single training: the differences of the folds are listed with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from d2_cxr.projects.label_efficiency.folds import fold_set
from d2_cxr.projects.label_efficiency.names import config_files, file_fingerprint, in_repository
from d2_cxr.projects.label_efficiency.study_schema import suggestion

from d2_cxr import artifacts
from d2_cxr.evaluation import estimates, metrics
from d2_cxr.evaluation.matching import Matches

logger = logging.getLogger(__name__)

BASE = "base"
RESAMPLES = 1000
_KEYS = ("config", "folds", "seed", "options", "changes", "metrics")
_COLUMNS = ("change", "metric", "trials", "base", "changed", "difference", "low", "high", "p", "by_fold")


def read_trials(path: Path) -> dict:
    """Read a trials file.

    Returns:
        config (path in the repository), folds, seed, options and changes {NAME: {KEY: value}}, metrics.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is unknown or missing, or a name is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no trials file {path}")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in settings:
        if key not in _KEYS:
            raise ValueError(f"{path}: unknown key {key}{suggestion(key, _KEYS)}")
    missing = [key for key in _KEYS if key not in settings]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    if settings["folds"] < 2:
        raise ValueError(f"{path}: folds is {settings['folds']}; give 2 or more")
    for name in settings["metrics"]:
        if name not in metrics.OVERALL:
            raise ValueError(f"{path}: metrics: {name} is not a metric{suggestion(name, list(metrics.OVERALL))}")
    return settings


def run_trials(settings: Mapping, sets: Mapping[str, Path], output: Path, only: Sequence[str] = ()) -> list[dict]:
    """Train what is not trained yet, fold by fold, and compare after each run; what is finished is not done again.

    Args:
        settings: of `read_trials`.
        sets: "base" and the names that a change's `set` may have -> folders of prepared sets of the same images.
        output: folder of folds, runs and `trials.csv`.
        only: changes to try; () is all.

    Returns:
        the rows of `trials.csv`.

    Raises:
        ValueError: an option does not exist, or the folder holds trials of another base, of other folds or changes.
    """
    changes = {BASE: {}} | {name: settings["changes"][name] for name in only or settings["changes"]}
    _require_same(settings, changes, sets, output)
    for fold in range(settings["folds"]):
        for name, change in changes.items():
            _train(settings, change, sets, output, name, fold)
            rows = list(compare(settings, changes, output))
            artifacts.write_csv(output / "trials.csv", rows, list(_COLUMNS))
    return rows


def compare(settings: Mapping, changes: Mapping, output: Path) -> Iterator[dict]:
    """Yield the rows of `trials.csv`: every change and metric against the base, over the folds that both have."""
    found = {name: [_matches(output, name, fold) for fold in range(settings["folds"])] for name in changes}
    for name in changes:
        pairs = [pair for pair in zip(found[name], found[BASE], strict=True) if None not in pair]
        if name != BASE and pairs:
            for metric in settings["metrics"]:
                yield {"change": name, "metric": metric, "trials": len(pairs), **difference(pairs, metric)}


def difference(pairs: Sequence[tuple[Matches, Matches]], metric: str) -> dict:
    """Return the mean paired difference (first minus second) of a metric over folds, its interval, and each fold's."""
    values = []
    for number, (changed, base) in enumerate(pairs):
        estimates.require_same_truth(changed, base)
        weights = estimates.with_original(estimates.image_weights(base, RESAMPLES, seed=number))
        values.append([metrics.value(matches, metric, weights) for matches in (changed, base)])
    by_fold = np.array(values)  # (folds, 2, 1 + B)
    found = estimates.compared(*by_fold.mean(axis=0), metrics.is_interpolated(metric))
    low, high = found["interval"] or (None, None)
    each = " ".join(f"{value:+.3f}" for value in by_fold[:, 0, 0] - by_fold[:, 1, 0])
    named = {"base": found["value_b"], "changed": found["value_a"], "difference": found["difference"]}
    return {**named, "low": low, "high": high, "p": found["p"], "by_fold": each}


def _require_same(settings: Mapping, changes: Mapping, sets: Mapping[str, Path], output: Path) -> None:
    """Compare with what the folder's trials were begun with, and write it down: finished ones are not trained again."""
    about = {key: settings[key] for key in ("config", "folds", "seed", "options")}
    about["config_sha256"] = {path: file_fingerprint(path) for path in config_files(settings["config"])}
    for name, folder in sets.items():
        card = artifacts.read_json(folder / "dataset.json")
        about[f"set {name}"] = [card[key] for key in ("images_fingerprint", "annotations_fingerprint")]
    about |= {f"change {name}": change for name, change in changes.items()}
    path = output / "trials.json"
    known = artifacts.read_json(path) if path.is_file() else {}
    other = [key for key, value in about.items() if key in known and known[key] != value]
    if other:
        raise ValueError(f"{output} holds trials with another {other[0]}; choose another --output")
    artifacts.write_json(path, known | about)


def _train(settings: Mapping, change: Mapping, sets: Mapping[str, Path], output: Path, name: str, fold: int) -> None:
    from d2_cxr.projects.label_efficiency.stages import tidy

    from d2_cxr.engine import trainer

    if _matches(output, name, fold) is not None:
        return
    options = {**settings["options"], **change}
    source = sets[options.pop("set", BASE)]
    folder, data = _folder(output, name, fold), f"{source.name}_fold{fold}"
    fold_set(source, output / "folds" / data, data, fold, settings["folds"], settings["seed"])
    options |= {"DATASETS.TRAIN": (f"{data}_train",), "DATASETS.TEST": (f"{data}_test",), "SEED": fold + 1}
    options |= {"CXR.DATASETS": [[data, str(output / "folds" / data)]], "CXR.VAL_AT_END": False, "CXR.RESAMPLES": 0}
    logger.info("trial %s, fold %d of %d", name, fold + 1, settings["folds"])
    tested_only = change and all(key.startswith("TEST.") or key.endswith("_TEST") for key in change)
    if tested_only:  # the base's weights, tested in another way
        options["MODEL.WEIGHTS"] = str(_folder(output, BASE, fold) / "model_final.pth")
    cfg = trainer.setup(in_repository(settings["config"]), [part for pair in options.items() for part in pair], folder)
    if tested_only:
        trainer.evaluate_only(cfg)
    else:
        trainer.train(cfg, resume=True)
        tidy(folder)


def _matches(output: Path, name: str, fold: int) -> Matches | None:
    """Return the matches of a trial, None where it has not ended: they are the last that a run writes."""
    found = sorted(_folder(output, name, fold).glob("inference/*_test/matches.npz"))
    return Matches.load(found[0]) if found else None


def _folder(output: Path, name: str, fold: int) -> Path:
    return output / "runs" / name / f"fold{fold}"
