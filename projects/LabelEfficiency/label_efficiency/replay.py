"""Replay of label buying: labels of a prepared set are held back and bought in rounds, by a strategy or at random.

An arm with `acquire: STRATEGY` is one buyer. Its label fractions are its rounds: the first labels are bought at random,
the same for every buyer of a seed, and later ones as the detector of the previous round suggests
(d2_cxr/selection/strategies.py). The pool is the training images with and without findings: a buyer does not know which
are which, so a label fraction here is a percentage of both. The bought labels are a separate prepared set, with the
name of the whole one, whose training lists are cut to the bought images.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from d2_cxr.projects.label_efficiency.names import run_folder

from d2_cxr import artifacts
from d2_cxr.image_name import image_name
from d2_cxr.selection.picks import pick
from d2_cxr.selection.strategies import order_images

if TYPE_CHECKING:
    import numpy as np
    from d2_cxr.projects.label_efficiency.plan import Stage

    from d2_cxr.prediction.work_list import Candidate

_CUT = ("train.json", "negative_train.json")  # lists that are cut to what was bought
_SHARED = ("images", "images.npy", "images.csv")  # files of the whole set that every purchase links to
_WEIGHTS = "model_final.pth"


def replay_stages(trained: Stage, settings: dict, arm_name: str, label_fraction: int, seed: int) -> list[Stage]:
    """Return the stages of one round of a buyer: buy, train; or the first buyer's first round, where that is the same.

    Args:
        trained: the training stage that the arm would have on the whole set.
        settings: of the study.
        arm_name: the buyer.
        label_fraction: percentage of the pool that is bought when the round is over.
        seed: of the round.
    """
    rounds, first = _rounds(settings, arm_name), _first_buyer(settings, arm_name)
    earlier = [fraction for fraction in rounds if fraction < label_fraction]
    if not earlier and arm_name != first:
        original = run_folder(first, label_fraction, seed)
        needs = (f"train/{first}/{label_fraction}/seed{seed}",)
        return [
            replace(trained, kind="same_run", settings={"run": original, "test": trained.settings["test"]}, needs=needs)
        ]
    before = None
    if earlier:
        buyer = arm_name if len(earlier) > 1 else first
        before = {"bought": bought_folder(buyer, earlier[-1], seed), "run": run_folder(buyer, earlier[-1], seed)}
    strategy = settings["arms"][arm_name]["acquire"] if before else "random"
    plan = {"dataset": trained.settings["dataset"], "train": trained.settings["test"].removesuffix("test") + "train"}
    plan |= {"label_fraction": label_fraction, "seed": seed, "strategy": strategy, "before": before}
    folder = bought_folder(arm_name, label_fraction, seed)
    needs = (*trained.needs, *((f"train/{buyer}/{earlier[-1]}/seed{seed}",) if before else ()))
    buy = replace(
        trained,
        id=f"buy/{arm_name}/{label_fraction}/seed{seed}",
        kind="buy",
        settings=plan,
        output=folder,
        results=(f"{folder}/dataset.json",),
        needs=needs,
        files=(),
    )
    dataset = trained.settings["dataset"] | {"root": folder, "inside": True}
    own = trained.settings | {"dataset": dataset, "train": plan["train"]}
    return [buy, replace(trained, settings=own, needs=(*trained.needs, buy.id))]


def bought_folder(arm: str, label_fraction: int, seed: int) -> str:
    """Return the folder of a purchase below the study's."""
    return f"bought/{arm}/{label_fraction}/seed{seed}"


def buy_labels(settings: dict, whole: Path, study_dir: Path, output: Path) -> list[str]:
    """Buy labels until a label fraction of the pool is reached; write the set that they make.

    Args:
        settings: of the stage.
        whole: folder of the set whose labels are held back, registered.
        study_dir: folder of the study.
        output: folder of the set to write.

    Returns:
        names of the images whose labels were bought in this round, the first picked at the front.
    """
    from d2_cxr.datasets.named_sets import named_set
    from d2_cxr.prediction.work_list import candidates, duplicate_pairs

    train = named_set(settings["train"])
    pool = [image for part in (train, train.sibling("negative_train")) for image in candidates(part)]
    before = settings["before"]
    owned = bought_images(study_dir / before["bought"]) if before else set()
    rest = [image for image in pool if image.name not in owned]
    number = len(pool) * settings["label_fraction"] // 100 - len(owned)
    order = _order(settings, rest, number, study_dir, output)
    picks = pick(order, number, [image.patient for image in rest], duplicate_pairs(rest))
    picked = [rest[index].name for index in picks.images]
    write_bought_set(whole, {*owned, *picked}, output)
    return picked


def bought_images(folder: Path) -> set[str]:
    """Return the names of the images whose labels a purchase holds."""
    files = [folder / "annotations" / "stratified" / name for name in _CUT]
    return {image_name(image["file_name"]) for path in files for image in artifacts.read_json(path)["images"]}


def write_bought_set(whole: Path, names: Collection[str], output: Path) -> None:
    """Write a prepared set with the val and test images of another and only these of its training images.

    Pictures are links to those of the whole set.
    """
    files = {}
    for path in sorted((whole / "annotations").rglob("*.json")):
        place = path.relative_to(whole / "annotations").as_posix()
        content = artifacts.read_json(path)
        files[place] = _cut(content, names) if path.name in _CUT else content
        artifacts.write_json(output / "annotations" / place, files[place], indent=None)
    for name in _SHARED:
        if (whole / name).exists() and not (output / name).is_symlink():
            (output / name).symlink_to(os.path.relpath(whole / name, output))
    for name in ("manifest.csv", "near_duplicates.csv"):
        if (whole / name).is_file():
            shutil.copyfile(whole / name, output / name)
    values = artifacts.read_json(whole / "dataset.json")
    values |= {"annotations_fingerprint": artifacts.sha256_json(files), "notes": [f"{len(names)} training images"]}
    artifacts.write_json(output / "dataset.json", values)


def _cut(content: dict, names: Collection[str]) -> dict:
    images = [image for image in content["images"] if image_name(image["file_name"]) in names]
    kept = {image["id"] for image in images}
    boxes = [box for box in content["annotations"] if box["image_id"] in kept]
    return content | {"images": images, "annotations": boxes}


def _order(settings: dict, rest: Sequence[Candidate], number: int, study_dir: Path, output: Path) -> np.ndarray:
    import numpy as np

    strategy, seed = settings["strategy"], settings["seed"]
    if strategy == "random":
        return order_images(strategy, np.zeros(len(rest)), np.empty((len(rest), 0)), number, seed)
    from d2_cxr.prediction.label_next import score_images
    from d2_cxr.prediction.predictor import Predictor
    from d2_cxr.prediction.prepared_predictions import predict_prepared

    predictor = Predictor(study_dir / settings["before"]["run"] / _WEIGHTS)
    path = output / "predictions.npz"
    seen = predict_prepared(predictor, [image.to_dict() for image in rest], path)
    return order_images(strategy, score_images(predictor, seen, path), seen.features, number, seed)


def _rounds(settings: dict, arm_name: str) -> list[int]:
    return sorted(settings["arms"][arm_name].get("label_fractions", settings["labels"]["label_fractions"]))


def _first_buyer(settings: dict, arm_name: str) -> str:
    """Return the first arm whose first round is this one's: alike but for the strategy, with the same rounds."""

    def alike(name: str) -> tuple:
        arm = settings["arms"][name]
        return {key: value for key, value in arm.items() if key != "acquire"}, _rounds(settings, name)

    buyers = [name for name, arm in settings["arms"].items() if "acquire" in arm]
    return next(name for name in buyers if alike(name) == alike(arm_name))
