"""One function per kind of stage: from the stage's settings to files below the study's folder.

torch and Detectron2 are imported inside the functions, because the main process does not need them. Every function
takes a stage (Stage.to_dict()) and the study's folder, and returns its outputs {name: fingerprint or plain value},
which are part of the inputs of later stages.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from d2_cxr.projects.label_efficiency import dataset_summary
from d2_cxr.projects.label_efficiency.arms import ARM_KINDS
from d2_cxr.projects.label_efficiency.names import REPOSITORY, in_repository

from d2_cxr import artifacts

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


def phantoms(stage: dict, study_dir: Path) -> dict:
    """Render the phantoms."""
    from d2_cxr.projects.phantom_cxr.make import make_phantoms

    output = study_dir / stage["output"]
    make_phantoms(output, jobs=os.cpu_count(), **stage["settings"])
    return {name: artifacts.sha256_file(output / name) for name in ("train.csv", "patients.csv", "truth.json")}


def prepare(stage: dict, study_dir: Path) -> dict:
    """Prepare the images of a set."""
    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.preparation.options import PrepareOptions
    from d2_cxr.preparation.prepare import prepare

    settings = dict(stage["settings"])
    source = study_dir / "phantoms"
    dicom_dir = settings.pop("dicom_dir", source / "dicom")
    annotations = settings.pop("annotations", source / "train.csv")
    patients = settings.pop("patients", None if "dicom_dir" in stage["settings"] else source / "patients.csv")
    rules = {key: settings.pop(key) for key in ("size", "resize", "equalize", "window") if key in settings}
    output = study_dir / stage["output"]
    tables = {"annotations": annotations, "patients": patients}
    options = PrepareOptions(dicom_dir, output, **tables, preprocess=Preprocess(**rules), **settings)
    prepare(options)
    return _fingerprints(output)


def _fingerprints(prepared: Path) -> dict:
    card = artifacts.read_json(prepared / "dataset.json")
    return {key: card[key] for key in ("images_fingerprint", "annotations_fingerprint")}


def statistics(stage: dict, study_dir: Path) -> dict:
    """Summarize the data for the report."""
    root = register(stage["settings"]["dataset"], study_dir)
    output = study_dir / stage["output"]
    artifacts.write_json(output / "statistics.json", dataset_summary.summarize(root, stage["settings"], output))
    return {}


def pretrain(stage: dict, study_dir: Path) -> dict:
    """Pretrain on the pool with SimCLR, or train the positive control on the renderer's truth."""
    from d2_cxr.projects.label_efficiency.supervised import train_supervised

    from d2_cxr.pretraining import train as pretraining
    from d2_cxr.pretraining.settings import read_settings

    settings = stage["settings"]
    root = register(settings["dataset"], study_dir)
    config = read_settings(
        in_repository(settings["config"]), [f"{key}={value}" for key, value in settings["options"].items()]
    )
    config |= {"datasets": settings["pool"], "seed": settings["seed"]}
    if settings.get("init_from"):
        config["init_from"] = _weights(settings["init_from"], study_dir)
    config["sets"] = [[settings["dataset"]["name"], str(root)]]
    run = pretraining.pretrain
    if settings["method"] == "supervised":
        config["truth"] = str(study_dir / settings["truth"])
        run = train_supervised
    return {"last.ckpt": artifacts.sha256_file(run(config, study_dir / stage["output"]))}


def convert(stage: dict, study_dir: Path) -> dict:
    """Convert a pretraining's checkpoint into weights of a detector."""
    from d2_cxr.checkpoint.convert import convert_file

    target = study_dir / stage["output"]
    settings = stage["settings"]
    card = convert_file(study_dir / settings["checkpoint"], target, detector=settings.get("detector"))
    return {"weights": artifacts.sha256_file(target), "parity": card.parity}


def made_elsewhere(stage: dict, study_dir: Path) -> dict:
    """Fetch, check and convert weights from elsewhere."""
    from d2_cxr.projects.label_efficiency.made_elsewhere import make_weights

    return make_weights(stage["settings"], study_dir / stage["output"], study_dir)


def permute(stage: dict, study_dir: Path) -> dict:
    """Permute converted weights."""
    from d2_cxr.projects.label_efficiency.permuted_weights import permute_weights

    target = study_dir / stage["output"]
    permute_weights(_weights(stage["settings"]["weights"], study_dir), target, seed=stage["settings"]["seed"])
    return {"weights": artifacts.sha256_file(target)}


def prior_box(stage: dict, study_dir: Path) -> dict:
    """Evaluate the prior-box baseline as a run, with run.json and matches."""
    from d2_cxr.evaluation.evaluate import evaluate
    from d2_cxr.evaluation.prior_box import prior_box_results

    settings = stage["settings"]
    root = register(settings["dataset"], study_dir)
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
    card = {"method": "prior-box baseline: each class's median training box on every image, scored by prevalence"}
    card |= {
        "command": sys.argv,
        "train": settings["train"],
        "test": settings["test"],
        "num_train_images": len(train["images"]),
    }
    artifacts.write_json(output / "run.json", card | _fingerprints(root))
    return {}


def train(stage: dict, study_dir: Path) -> dict:
    """Train and test a detector."""
    from d2_cxr.engine import trainer

    settings = stage["settings"]
    output = study_dir / stage["output"]
    cfg = trainer.setup(str(in_repository(settings["config"])), detector_options(settings, study_dir), str(output))
    trainer.train(cfg, resume=True)
    if settings["evaluation"].get("val_selected"):
        _test_val_selected(cfg, output)
    if settings["seed"] == 0:
        _show_mistakes(settings["test"], output)
    tidy(output)
    return {}


def buy(stage: dict, study_dir: Path) -> dict:
    """Buy labels for the next round of a replay."""
    from d2_cxr.projects.label_efficiency.replay import buy_labels

    settings, output = stage["settings"], study_dir / stage["output"]
    root = register(settings["dataset"], study_dir)
    buy_labels(settings, root, study_dir, output)
    return _fingerprints(output)


def same_run(stage: dict, study_dir: Path) -> dict:
    """Use a run that another arm has already trained for this arm too."""
    output = study_dir / stage["output"]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    output.symlink_to(os.path.relpath(study_dir / stage["settings"]["run"], output.parent))
    return {}


def choose(stage: dict, study_dir: Path) -> dict:
    """Choose among an arm's trials: the default, or the best of those that beat it beyond their paired intervals.

    With few validation images, chance decides which of near-equal trials is best, and every run of the arm would
    contain its effect.
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


def _test_val_selected(cfg: CfgNode, run: Path) -> None:
    """Also evaluate the weights with the best validation mAP, into `val_selected/` of the run's folder."""
    from d2_cxr.projects.label_efficiency.report.study_results import VAL_SELECTED

    from d2_cxr.engine import trainer

    best = run / "model_best.pth"
    folder = run / VAL_SELECTED
    if not best.is_file():
        logger.warning("%s does not exist, because no validation found a box; the report shows a gap", best)
        return
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(folder), str(best)
    trainer.evaluate_only(cfg)


def detector_options(settings: dict, study_dir: Path) -> list:
    """Return a run's options as Detectron2's KEY VALUE list: data, weights, seed, shared options, and its arm's own."""
    root = register(settings["dataset"], study_dir)
    options = dict(settings["options"])
    options |= {
        "DATASETS.TRAIN": (settings["train"],),
        "DATASETS.TEST": (settings["test"],),
        "SEED": settings["seed"] + 1,
    }
    if settings.get("tuned"):
        chosen = artifacts.read_json(study_dir / settings["tuned"])
        options[chosen["option"]] = chosen["value"]
    if settings["weights"]:  # else those of the config: the zoo's, or none
        options["MODEL.WEIGHTS"] = _weights(settings["weights"], study_dir)
    for key, plan in settings.get("arm_kinds", {}).items():
        options |= ARM_KINDS[key].options(plan, settings)
    options["CXR.RESAMPLES"] = settings["evaluation"].get("resamples", 1000)
    options["CXR.DATASETS"] = [[settings["dataset"]["name"], str(root)]]
    return [part for key, value in options.items() for part in (key, value)]


def _weights(weights: str, study_dir: Path) -> str:
    """Return path or URL of an arm's starting weights; a `.json` in the study's folder contains it."""
    if weights.endswith(".json"):
        weights = artifacts.read_json(study_dir / weights)["weights"]
    if "://" in weights:
        return weights
    inside = study_dir / weights
    return str(inside if inside.is_file() else REPOSITORY / weights)


def _show_mistakes(test: str, run: Path) -> None:
    """Write the page of a run's mistakes; of the first seed alone, because a page takes about a megabyte."""
    from d2_cxr.evaluation.mistakes import write_mistakes

    try:
        write_mistakes(test, run / "inference" / test / "coco_instances_results.json", run)
    except (ValueError, OSError) as error:  # the run is finished whatever becomes of its page
        logger.warning("no page of mistakes: %s", error)


def tidy(run: Path) -> None:
    """Delete what only a resumed run needs: earlier checkpoints, and the optimizer's state in the last one."""
    import torch

    from d2_cxr.checkpoint.loading import load_weights_file

    final = run / "model_final.pth"
    content = load_weights_file(final)
    if content.pop("trainer", None) is not None:
        artifacts.write_with(final, lambda temporary: torch.save(content, temporary))
    for path in run.glob("model_[0-9]*.pth"):
        path.unlink()
    (run / "last_checkpoint").unlink(missing_ok=True)


def register(dataset: dict, study_dir: Path) -> Path:
    """Register the names of a set in this process; return its folder."""
    from d2_cxr.datasets import builtin, set_folders

    if dataset["root"] is None:
        return set_folders.set_folder(dataset["name"])
    root = study_dir / dataset["root"] if dataset["inside"] else Path(dataset["root"])
    builtin.register_prepared(dataset["name"], root)
    return root


def _truth(root: Path, name: str) -> dict:
    """Return the COCO JSON of a whole split, without Detectron2."""
    from d2_cxr.datasets.named_sets import named_set

    return artifacts.read_json(named_set(name).json)
