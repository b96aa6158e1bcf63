"""Which images to label next: what `tools/label_next.py` does, from a detector and unlabeled images to a work list."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from d2_cxr import artifacts
from d2_cxr.boxes import xywh_to_xyxy
from d2_cxr.datasets import leakage, loading
from d2_cxr.datasets.named_sets import NamedSet, UnknownDatasetError, named_set
from d2_cxr.engine.start_weights import preprocessing_contradictions
from d2_cxr.image_name import image_name
from d2_cxr.labels.formats.write import write
from d2_cxr.prediction import findings, label_next_page
from d2_cxr.prediction.predictor import Predictor
from d2_cxr.prediction.prepared_predictions import Predictions, predict_prepared
from d2_cxr.prediction.work_list import Candidate, WorkList, candidates, duplicate_pairs
from d2_cxr.preparation.export_boxes import export_of_findings
from d2_cxr.selection import DEFAULT, strategies
from d2_cxr.selection.picks import pick

logger = logging.getLogger(__name__)
COLUMNS = ("rank", "image_name", "file", "dataset", "patient", "uncertainty", "image_score", "boxes")


def label_next(
    predictor: Predictor,
    datasets: Sequence[str],
    output: str | Path,
    number: int = 50,
    strategy: str = DEFAULT,
    seed: int = 0,
    formats: Sequence[str] = ("label_studio",),
    image_url: str = "/data/local-files/?d=images/",
) -> WorkList:
    """Pick images to label, and write label_next.csv, label_next.html, findings.json and a folder per format.

    `predictions.npz` in the folder keeps what the detector found, so that a call that was stopped, and the next one
    with the same weights, look at each image once.

    Args:
        predictor: the detector.
        datasets: data-set names of images without labels, e.g. ("clinic_unlabeled",).
        output: folder.
        number: of images to pick.
        strategy: one of `selection.STRATEGIES`.
        seed: of what is left to chance.
        formats: of `labels.formats.write`, with the reported boxes as pre-annotations.
        image_url: what Label Studio puts before a file's name.

    Raises:
        ValueError: a name holds labeled images, there is no image, or they were prepared in another way.
        FileNotFoundError: a set or an image is missing.
    """
    named = [_unlabeled(name, predictor) for name in datasets]
    found, labeled_duplicates = _without_labeled_duplicates([image for one in named for image in candidates(one)])
    if not found:
        raise ValueError(f"{', '.join(datasets)}: no image is left to label")
    path = Path(output) / "predictions.npz"
    order = _order(predictor, found, strategy, number, seed, path)
    picks = pick(order, number, [image.patient for image in found], duplicate_pairs(found))
    picked = [found[index] for index in picks.images]
    seen = predict_prepared(predictor, [image.to_dict() for image in picked], path)
    images = [
        predictor.findings_of(seen.of(index), image.file, (image.width, image.height), image.attributes)
        for index, image in enumerate(picked)
    ]
    work = WorkList(images, len(found), labeled_duplicates, len(picks.duplicates), len(picks.divided))
    _write(predictor, picked, seen, work, strategy, Path(output), formats, image_url)
    return work


def score_images(predictor: Predictor, seen: Predictions, path: Path) -> np.ndarray:
    """Return the uncertainty of each predicted image, its classes weighted by their difficulty for this detector.

    Difficulty comes from the validation images of the set that the detector was trained on; where these are not at
    hand, all classes weigh the same.
    """
    difficulty = _difficulty(predictor, path)
    weights = strategies.class_weights(np.zeros(len(predictor.class_names)) if difficulty is None else difficulty)
    return strategies.image_uncertainty(len(seen.images), seen.box_image, seen.classes, seen.scores, weights)


def _unlabeled(name: str, predictor: Predictor) -> NamedSet:
    named = named_set(name)
    if not named.exists:
        raise FileNotFoundError(named.missing_message())
    if named.kind != "unlabeled":
        raise ValueError(
            f"the images of {name} are labeled already; name unlabeled ones, e.g. {named.set_name}_unlabeled"
        )
    found = preprocessing_contradictions(predictor.card.preprocess or {}, named.preprocess)
    if found:
        raise ValueError(f"{predictor.weights} does not fit {name}: {'; '.join(found)}")
    return named


def _without_labeled_duplicates(found: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """Return the candidates without near duplicates of labeled images, and the number of those."""
    labeled: set[tuple[Path, str]] = set()
    for folder in {image.folder for image in found}:
        readers = folder / "annotations" / "readers.json"
        listed = artifacts.read_json(readers)["images"] if readers.is_file() else []
        own = {image_name(image["file_name"]) for image in listed}
        own -= {image.name for image in found if image.folder == folder}  # NAME_train_unlabeled_60 hides their labels
        for pair in leakage.read_near_duplicates(folder):
            both = {pair["image_name"], pair["other_image_name"]}
            labeled |= {(folder, name) for name in both - own} if both & own else set()
    kept = [image for image in found if (image.folder, image.name) not in labeled]
    return kept, len(found) - len(kept)


def _order(
    predictor: Predictor, found: Sequence[Candidate], strategy: str, number: int, seed: int, path: Path
) -> np.ndarray:
    """Return the candidates' order; at random no image needs to be looked at."""
    if strategy == "random":
        return strategies.order_images(strategy, np.zeros(len(found)), np.empty((len(found), 0)), number, seed)
    seen = predict_prepared(predictor, [image.to_dict() for image in found], path)
    return strategies.order_images(strategy, score_images(predictor, seen, path), seen.features, number, seed)


def _difficulty(predictor: Predictor, path: Path) -> np.ndarray | None:
    """Return each class's difficulty on the detector's own validation images; None where they are not at hand."""
    try:
        val = named_set((predictor.card.data_names or [""])[0]).sibling("val")
        usable = val.exists and val.class_names == predictor.class_names and bool(val.images())
    except (UnknownDatasetError, OSError):
        usable = False
    if not usable:
        logger.warning("the detector's validation images are missing: all classes have the same weight")
        return None
    seen = predict_prepared(predictor, loading.prepared_images([val]), path)
    coco = val.coco()
    place = {image["id"]: index for index, image in enumerate(coco["images"])}
    ids = sorted(category["id"] for category in coco["categories"])
    boxes = coco["annotations"]
    truth = (
        np.array([place[box["image_id"]] for box in boxes], dtype=int),
        np.array([ids.index(box["category_id"]) for box in boxes], dtype=int),
        xywh_to_xyxy([box["bbox"] for box in boxes]),
    )
    return strategies.class_difficulty(len(ids), truth, (seen.box_image, seen.classes, seen.boxes), seen.scores)


def _write(
    predictor: Predictor,
    picked: Sequence[Candidate],
    seen: Predictions,
    work: WorkList,
    strategy: str,
    output: Path,
    formats: Sequence[str],
    image_url: str,
) -> None:
    uncertainty = score_images(predictor, seen, output / "predictions.npz")
    rows = [
        {
            "rank": index + 1,
            "image_name": image.name,
            "file": image.file,
            "dataset": image.dataset,
            "patient": "" if image.patient is None else image.patient[1],
            "uncertainty": round(float(uncertainty[index]), 4),
            "image_score": round(work.images[index].image_score, 4),
            "boxes": len(work.images[index].reported),
        }
        for index, image in enumerate(picked)
    ]
    pre_annotated = [
        replace(image.reported, image_name=one.name) for image, one in zip(work.images, picked, strict=True)
    ]
    findings.write_json(output / "findings.json", pre_annotated)
    detector = {"card": predictor.card.to_dict(), "thresholds": predictor.thresholds}
    artifacts.write_json(output / "detector.json", detector)
    queue = {image.name: (index + 1) / len(picked) for index, image in enumerate(picked)}
    export = export_of_findings(output / "findings.json")
    export = replace(export, model_version=predictor.weights.parent.name, image_url=image_url, queue=queue)
    for name in formats:
        write(export, name, output / name)
    label_next_page.write(output / "label_next.html", rows, picked, seen, predictor, work, strategy)
    artifacts.write_csv(output / "label_next.csv", rows, COLUMNS, for_people=True)
