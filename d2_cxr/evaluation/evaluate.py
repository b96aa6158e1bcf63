"""Truth and results to `evaluation.json`: every metric with its value, interval, n and definition."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2_cxr import artifacts
from d2_cxr.evaluation import errors, estimates, metrics, stratified_sensitivity, subgroups, thresholds
from d2_cxr.evaluation.coco_arrays import to_arrays
from d2_cxr.evaluation.matching import Matches, match, match_arrays
from d2_cxr.evaluation.plausibility import find_problems
from d2_cxr.evaluation.prior_box import prior_box_results
from d2_cxr.evaluation.readers import compare_with_readers, read_twice

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
NUM_WORST = 50
_WORST_COLUMNS = ("image", "missed", "false_positives", "hits")
COMPARED = ("mAP", "AP50", "mAP_support_weighted", "AR_agnostic", "AP40_vinbigdata", "mean_best_iou", "froc_sens_at_1")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: the content of `evaluation.json` (plain types, no NaN), and what it rests on."""

    document: dict
    matches: Matches
    prior_box: Matches | None = None

    def value(self, metric: str, class_name: str | None = None) -> float | None:
        """Return a point value, overall or of one class."""
        table = self.document["metrics"] if class_name is None else self.document["per_class"][class_name]
        return table[metric]["value"]

    def write(self, folder: str | os.PathLike) -> Path:
        """Write evaluation.json, worst_images.csv, matches.npz and prior_box_matches.npz (with that row).

        Returns:
            The path of evaluation.json, which is written last.
        """
        folder = Path(folder)
        artifacts.write_csv(folder / "worst_images.csv", errors.worst_images(self.matches, NUM_WORST), _WORST_COLUMNS)
        self.matches.save(folder / "matches.npz")
        if self.prior_box is not None:
            self.prior_box.save(folder / "prior_box_matches.npz")
        artifacts.write_json(folder / "evaluation.json", self.document)
        return folder / "evaluation.json"

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Evaluation:
        """Read what `write` wrote.

        Raises:
            FileNotFoundError, ValueError: a file is missing or of another version.
        """
        folder = Path(folder)
        document = read_evaluation(folder / "evaluation.json")
        prior = Matches.load(folder / "prior_box_matches.npz") if "prior_box" in document["rows"] else None
        return cls(document, Matches.load(folder / "matches.npz"), prior)


def evaluate(
    truth: Mapping,
    results: Sequence[Mapping],
    negative_truth: Mapping | None = None,
    resamples: int = 1000,
    seed: int = 0,
    train_truth: Mapping | None = None,
    dataset: str = "",
    chosen_thresholds: Mapping | None = None,
    readers: Mapping | None = None,
    fusion: str = "mean",
    iou_threshold: float = 0.2,
    grouping: subgroups.Grouping | None = None,
    check: bool = True,
) -> Evaluation:
    """Evaluate COCO results against COCO truth.

    Args:
        truth: COCO dict of images with findings; `patient` of an image says whose it is.
        results: COCO results (boxes XYWH in pixels of the prepared image), those on negative images included.
        negative_truth: COCO dict of images without findings.
        resamples: of images (patients, where known) for every interval; 0 leaves intervals out.
        train_truth: COCO dict of the training images; adds the prior-box row.
        chosen_thresholds: content of a `thresholds.json` from other images; adds `at_thresholds`.
        readers: COCO of single readers' boxes; adds `readers`, model and readers under one rule, where two have read.
        fusion, iou_threshold: how the readers' boxes were fused (`dataset.json`).
        grouping: adds `subgroups`, metrics within subgroups of images.
        check: compare the results with images and truth first (plausibility.find_problems); False for results that
            were not read from a file.

    Raises:
        ValueError: results and truth do not belong together, or the grouping lacks images; says where.
    """
    problems: list[str] = []
    if check:
        matches, problems = checked_matches(truth, results, negative_truth)
    else:
        matches = match(truth, results, negative_truth)
    if grouping is not None:
        subgroups.members(matches, grouping)  # a mistake shows before the resamples are computed
    images, compared, baseline = _all_images(truth, negative_truth), None, None
    # What holds many boxes is matched before the resamples, which are as large again.
    if readers is not None and read_twice(images, readers):
        compared = compare_with_readers(images, results, readers, fusion, iou_threshold, "iou", resamples, seed)
    if train_truth is not None:
        baseline = match(truth, prior_box_results(train_truth, images), negative_truth)
    weights = estimates.with_original(estimates.image_weights(matches, resamples, seed))
    computation = estimates.computation(matches, weights)
    document = {**_header(matches, dataset, resamples, seed), **_tables(computation), "problems": problems, "rows": {}}
    document["stratified_sensitivity"] = stratified_sensitivity.by_truth_box(matches, weights)
    document["errors"] = errors.breakdown(matches)
    if grouping is not None:
        document["subgroups"] = subgroups.by_subgroup(matches, weights, grouping)
    if chosen_thresholds is not None:
        document["at_thresholds"] = thresholds.report(matches, chosen_thresholds, dataset, weights)
    if compared is not None:
        document["readers"] = compared
    if baseline is not None:
        document["rows"]["prior_box"] = _row(computation, estimates.computation(baseline, weights))
    return Evaluation(document, matches, baseline)


def read_evaluation(path: str | os.PathLike) -> dict:
    """Read an `evaluation.json`.

    Raises:
        ValueError: it has another format version; names the command that writes this one.
    """
    document = artifacts.read_json(path)
    version = document.get("format_version") if isinstance(document, Mapping) else None
    if version != FORMAT_VERSION:
        name = document.get("dataset") if isinstance(document, Mapping) else None
        raise ValueError(
            f"{path} has format {version}, this version of d2_cxr reads {FORMAT_VERSION}; evaluate again: "
            f"python tools/evaluate.py --dataset {name or 'NAME'} "
            f"--results {Path(path).parent / 'coco_instances_results.json'}"
        )
    return document


def checked_matches(
    truth: Mapping, results: Sequence[Mapping], negative_truth: Mapping | None = None
) -> tuple[Matches, list[str]]:
    """Match as `matching.match` does, and compare the results with images and truth; arguments as `evaluate`.

    Returns:
        Matches, and what is odd about the results in one line each, which is logged as well.

    Raises:
        ValueError: as `evaluate`.
    """
    arrays = to_arrays(truth, results, negative_truth)
    by_id = {image["id"]: image for image in _all_images(truth, negative_truth)["images"]}
    images = [by_id[image] for image in arrays.image_ids.tolist()]
    problems = find_problems(arrays, images, results, truth["categories"])
    for problem in problems:
        logger.warning(problem)
    return match_arrays(arrays), problems


def compare(ours: Matches, theirs: Matches, resamples: int = 1000, seed: int = 0) -> dict:
    """Return every overall metric of one run minus another's on the same images: difference, interval, p, n.

    Raises:
        ValueError: the runs were evaluated on different images or truth.
    """
    estimates.require_same_truth(ours, theirs)
    weights = estimates.with_original(estimates.image_weights(ours, resamples, seed))
    a, b = estimates.computation(ours, weights), estimates.computation(theirs, weights)
    differences = {
        name: estimates.compared(a.overall(name), b.overall(name), metrics.is_interpolated(name))
        for name in estimates.defined_overall(ours)
    }
    return {"n": ours.num_images, "resamples": resamples, "seed": seed, "metrics": differences}


def _all_images(truth: Mapping, negative_truth: Mapping | None) -> dict:
    return {**truth, "images": [*truth["images"], *(negative_truth or {"images": []})["images"]]}


def _header(matches: Matches, dataset: str, resamples: int, seed: int) -> dict:
    by_patient = len(np.unique(matches.image_group)) < matches.num_images
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset,
        "num_images": matches.num_images,
        "num_findings_images": matches.num_findings_images,
        "num_negative_images": int(matches.image_negative.sum()),
        "num_boxes": int((~matches.gt_crowd).sum()),
        "num_detections": len(matches.dt_image),
        "num_groups": len(np.unique(matches.image_group)),
        "resampled_by": "patient" if by_patient else "image",
        "resamples": resamples,
        "seed": seed,
        "interval": "95 % percentile bootstrap over images (patients where known), images with findings and negative "
        "images drawn separately; undefined_resamples hold no truth box; reduced_resamples lack some class, which is "
        "left out; where `bias` is given (average precision), the interval is corrected for small-sample bias",
    }


def _tables(computation: metrics.Computation) -> dict:
    """Return `metrics` and `per_class`."""
    matches = computation.matches
    overall = {name: estimates.overall_estimate(computation, name) for name in estimates.defined_overall(matches)}
    per_class: dict[str, dict] = {name: _class_counts(matches, i) for i, name in enumerate(matches.class_names)}
    for metric in metrics.CLASS_METRICS:
        if metric.endswith("_with_negatives") and not matches.has_negatives:
            continue
        for index, name in enumerate(matches.class_names):
            per_class[name][metric] = estimates.class_estimate(computation, metric, index)
    return {"metrics": overall, "per_class": per_class}


def _class_counts(matches: Matches, index: int) -> dict:
    boxes = (matches.gt_class == index) & ~matches.gt_crowd
    return {"num_boxes": int(boxes.sum()), "num_images": len(np.unique(matches.gt_image[boxes]))}


def _row(ours: metrics.Computation, theirs: metrics.Computation) -> dict:
    """Describe another predictor on the same images, and the model's difference to it under the same resamples."""
    other = theirs.matches
    names = estimates.defined_overall(other)
    return {
        "metrics": {name: estimates.overall_estimate(theirs, name) for name in names},
        "model_minus_row": {
            name: estimates.compared(ours.overall(name), theirs.overall(name), metrics.is_interpolated(name))
            for name in COMPARED
            if name in names
        },
        "per_class": {
            name: {"AP50": estimates.class_estimate(theirs, "AP50", index)}
            for index, name in enumerate(other.class_names)
        },
    }
