"""What each kind of stage does: one function a kind, from the stage's settings to files below the study's folder.

Imports of torch and Detectron2 stay inside the functions: the process that holds the plan does without them. Every
function returns what it put out, {name: fingerprint or plain value}; that is part of the inputs of what follows.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from pathlib import Path

import yaml
from d2_cxr.projects.label_efficiency import examination
from d2_cxr.projects.label_efficiency.names import REPOSITORY

from d2_cxr import artifacts

logger = logging.getLogger(__name__)


def run_stage(stage: dict, study_dir: str) -> dict:
    """Run one stage (Stage.to_dict()) of the study in `study_dir`; return its outputs."""
    return _KINDS[stage["kind"]](stage, Path(study_dir))


def progress(study_dir: Path, stage: dict) -> tuple[int, int] | None:
    """Iterations of a running training and how many it will have, by the files it writes; None before the first."""
    if stage["kind"] not in ("train", "tune"):
        return None
    run = study_dir / stage["output"]
    try:
        config = run / "config.yaml"
        last = json.loads((run / "metrics.json").read_text(encoding="utf-8").splitlines()[-1])
        return last["iteration"] + 1, _max_iter(config, config.stat().st_mtime_ns)
    except (OSError, IndexError, KeyError, TypeError, ValueError, yaml.YAMLError):  # not begun, or half written
        return None


@functools.lru_cache(maxsize=64)
def _max_iter(config: Path, _modified: int) -> int:
    """As the run itself set it, from its epochs or another arm's compute."""
    return yaml.safe_load(config.read_text(encoding="utf-8"))["SOLVER"]["MAX_ITER"]


def _phantoms(stage: dict, study_dir: Path) -> dict:
    from d2_cxr.projects.phantom_cxr.make import make_phantoms

    output = study_dir / stage["output"]
    make_phantoms(output, jobs=os.cpu_count(), **stage["settings"])
    return {name: artifacts.sha256_file(output / name) for name in ("train.csv", "patients.csv", "truth.json")}


def _prepare(stage: dict, study_dir: Path) -> dict:
    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.prepare.options import PrepareOptions
    from d2_cxr.prepare.prepare import prepare

    settings = dict(stage["settings"])
    source = study_dir / "phantoms"
    dicom_dir = settings.pop("dicom_dir", source / "dicom")
    annotations = settings.pop("annotations", source / "train.csv")
    patients = settings.pop("patients", None if "dicom_dir" in stage["settings"] else source / "patients.csv")
    rules = {key: settings.pop(key) for key in ("size", "resize", "equalize", "window") if key in settings}
    output = study_dir / stage["output"]
    tables = {"annotations": annotations, "patients": patients}
    prepare(PrepareOptions(dicom_dir, output, **tables, preprocess=Preprocess(**rules), **settings))
    return _fingerprints(output)


def _fingerprints(prepared: Path) -> dict:
    card = artifacts.read_json(prepared / "dataset.json")
    return {key: card[key] for key in ("images_fingerprint", "annotations_fingerprint")}


def _statistics(stage: dict, study_dir: Path) -> dict:
    root = _register(stage["settings"]["dataset"], study_dir)
    output = study_dir / stage["output"]
    artifacts.write_json(output / "statistics.json", examination.examine(root, stage["settings"], output))
    return {}


def _pretrain(stage: dict, study_dir: Path) -> dict:
    """SimCLR on the pool, or the positive control: the same images with the renderer's truth."""
    from d2_cxr.projects.label_efficiency.supervised import train_supervised

    from d2_cxr.pretraining.settings import read_settings
    from d2_cxr.pretraining.train import pretrain

    settings = stage["settings"]
    root = _register(settings["dataset"], study_dir)
    config = read_settings(
        REPOSITORY / settings["config"], [f"{key}={value}" for key, value in settings["options"].items()]
    )
    config |= {"datasets": settings["pool"], "seed": settings["seed"]}
    if settings.get("init_from"):
        config["init_from"] = _weights(settings["init_from"], study_dir)
    config["sets"] = [[settings["dataset"]["name"], str(root)]]
    train = pretrain
    if settings["method"] == "supervised":
        config["truth"] = str(study_dir / settings["truth"])
        train = train_supervised
    return {"last.ckpt": artifacts.sha256_file(train(config, study_dir / stage["output"]))}


def _convert(stage: dict, study_dir: Path) -> dict:
    from d2_cxr.checkpoint.convert import convert_file

    target = study_dir / stage["output"]
    settings = stage["settings"]
    card = convert_file(study_dir / settings["checkpoint"], target, detector=settings.get("detector"))
    return {"weights": artifacts.sha256_file(target), "parity": card.parity}


def _made_elsewhere(stage: dict, study_dir: Path) -> dict:
    from d2_cxr.projects.label_efficiency.made_elsewhere import make_weights

    return make_weights(stage["settings"], study_dir / stage["output"], study_dir)


def _permute(stage: dict, study_dir: Path) -> dict:
    from d2_cxr.projects.label_efficiency.permuted_weights import permute_weights

    target = study_dir / stage["output"]
    permute_weights(_weights(stage["settings"]["weights"], study_dir), target, seed=stage["settings"]["seed"])
    return {"weights": artifacts.sha256_file(target)}


def _constant_box(stage: dict, study_dir: Path) -> dict:
    """The constant box as a run like any other, with its card and its matches."""
    from d2_cxr.evaluation.evaluate import evaluate
    from d2_cxr.evaluation.prior_box import prior_box_results

    settings = stage["settings"]
    root = _register(settings["dataset"], study_dir)
    train, test = (_truth(root, settings[part]) for part in ("train", "test"))
    negative = _truth(root, settings["test"].removesuffix("test") + "negative_test")
    every_image = {**test, "images": test["images"] + negative["images"]}
    found = evaluate(
        test,
        prior_box_results(train, every_image),
        negative if negative["images"] else None,
        resamples=settings["evaluation"].get("resamples", 1000),
        dataset=settings["test"],
        check=False,  # the same boxes on every image
    )
    output = study_dir / stage["output"]
    found.write(output / "inference" / settings["test"])
    card = {"method": "constant box: each class's median training box on every image, scored by prevalence"}
    card |= {
        "command": sys.argv,
        "train": settings["train"],
        "test": settings["test"],
        "num_train_images": len(train["images"]),
    }
    artifacts.write_json(output / "run.json", card | _fingerprints(root))
    return {}


def _train(stage: dict, study_dir: Path) -> dict:
    from d2_cxr.engine import trainer

    settings = stage["settings"]
    output = study_dir / stage["output"]
    cfg = trainer.setup(str(REPOSITORY / settings["config"]), detector_options(settings, study_dir), str(output))
    trainer.train(cfg, resume=True)
    if settings["evaluation"].get("val_selected"):
        _test_val_selected(cfg, output)
    _tidy(output)
    return {}


def _choose(stage: dict, study_dir: Path) -> dict:
    """Write which of an arm's trials counts: the default, or the best of those that beat it beyond their intervals.

    Validation images are few. The best of near-equal trials is a draw of lots, and an arm that drew another value than
    the arm beside it would carry its difference into every run.
    """
    from d2_cxr.evaluation import estimates
    from d2_cxr.evaluation.matching import Matches

    settings = stage["settings"]
    default, metric, classes = settings["default"], settings["metric"] or "mAP", settings["classes"]
    found = {
        value: Matches.load(study_dir / folder / "inference" / settings["test"] / "matches.npz")
        for folder, value in settings["trials"].items()
    }
    trials = []
    for value, matches in found.items():
        against = estimates.paired_difference(matches, found[default], metric, classes)
        trial = {"value": value, "score": against["value_a"], "difference": against["difference"]}
        trials.append(trial | {"interval": against["interval"]})
    better = [trial for trial in trials if trial["interval"] and trial["interval"][0] > 0]
    chosen = max(better, key=lambda trial: trial["score"])["value"] if better else default
    written = {"option": settings["option"], "value": chosen, "default": default, "metric": metric, "classes": classes}
    artifacts.write_json(study_dir / stage["output"], written | {"test": settings["test"], "trials": trials})
    return {"chosen": chosen}


def _test_val_selected(cfg, run: Path) -> None:
    """Evaluate the weights that were best on validation images, too, into `val_selected/` of the run's folder."""
    from d2_cxr.projects.label_efficiency.report.reading import VAL_SELECTED

    from d2_cxr.engine import trainer

    best = run / "model_best.pth"
    folder = run / VAL_SELECTED
    if not best.is_file():
        logger.warning("%s is not there: no validation found a box; the report shows a gap", best)
        return
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(folder), str(best)
    trainer.evaluate_only(cfg)


def detector_options(settings: dict, study_dir: Path) -> list:
    """The opts of a run, Detectron2's KEY VALUE list: data, weights, seed, and what is the same for every arm."""
    root = _register(settings["dataset"], study_dir)
    options = dict(settings["options"])
    options |= {
        "DATASETS.TRAIN": (settings["train"],),
        "DATASETS.TEST": (settings["test"],),
        "SEED": settings["seed"] + 1,
    }
    if settings.get("tuned"):
        chosen = artifacts.read_json(study_dir / settings["tuned"])
        options[chosen["option"]] = chosen["value"]
    if settings["weights"]:  # else the config's own, which may be the zoo's or none
        options["MODEL.WEIGHTS"] = _weights(settings["weights"], study_dir)
    if settings.get("longer"):
        options["SOLVER.MAX_ITER"] = longer_iterations(settings, study_dir)
    options["CXR.RESAMPLES"] = settings["evaluation"].get("resamples", 1000)
    options["CXR.DATASETS"] = [[settings["dataset"]["name"], str(root)]]
    return [part for key, value in options.items() for part in (key, value)]


def longer_iterations(settings: dict, study_dir: Path) -> int:
    """Iterations of an arm that spends on training what another spent on pretraining as well.

    Views times the time of one, over the time of a detector step, both measured when the study began (timing.json).
    """
    from d2_cxr.projects.label_efficiency.cost import num_views

    longer, base = settings["longer"], settings["options"]["SOLVER.MAX_ITER"]
    if longer["iterations"]:
        return longer["iterations"]
    from d2_cxr.datasets import loading

    timing = artifacts.read_json(study_dir / "timing.json")
    views = num_views(longer, len(loading.prepared_images(longer["pool"])))
    return base + round(views * timing["pretrain_view"] / timing["detector_step"])


def _weights(weights: str, study_dir: Path) -> str:
    """Path or URL of an arm's first weights: below the study's folder, as a `.json` there says, or the user's."""
    if weights.endswith(".json"):
        weights = artifacts.read_json(study_dir / weights)["weights"]
    if "://" in weights:
        return weights
    inside = study_dir / weights
    return str(inside if inside.is_file() else REPOSITORY / weights)


def _tidy(run: Path) -> None:
    """Drop what only resuming needs: intermediate checkpoints, and the optimizer's state in the last one."""
    import torch

    from d2_cxr.checkpoint.loading import load_weights_file

    final = run / "model_final.pth"
    content = load_weights_file(final)
    if content.pop("trainer", None) is not None:
        artifacts.write_with(final, lambda temporary: torch.save(content, temporary))
    for path in run.glob("model_[0-9]*.pth"):
        path.unlink()
    (run / "last_checkpoint").unlink(missing_ok=True)


def _register(dataset: dict, study_dir: Path) -> Path:
    """Make the names of a set known in this process; return its folder."""
    from d2_cxr.datasets import builtin, named_sets

    if dataset["root"] is None:
        return named_sets.set_folder(dataset["name"])
    root = study_dir / dataset["root"] if dataset["inside"] else Path(dataset["root"])
    builtin.register_prepared(dataset["name"], root)
    return root


def _truth(root: Path, name: str) -> dict:
    """COCO of a whole split by its name; no Detectron2 needed."""
    from d2_cxr.datasets.named_sets import named_set

    return artifacts.read_json(named_set(name).json)


_KINDS = {
    "phantoms": _phantoms,
    "prepare": _prepare,
    "statistics": _statistics,
    "pretrain": _pretrain,
    "convert": _convert,
    "weights": _made_elsewhere,
    "permute": _permute,
    "constant_box": _constant_box,
    "train": _train,
    "tune": _train,
    "choose": _choose,
}
