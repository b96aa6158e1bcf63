"""Results on disk to an evaluation on disk; what `tools/evaluate.py` does."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets.builtin import register_below
from d2_cxr.evaluation import thresholds as operating
from d2_cxr.evaluation.coco_arrays import read_results
from d2_cxr.evaluation.evaluate import Evaluation, checked_matches, compare, evaluate
from d2_cxr.evaluation.ground_truth import GroundTruth, load_ground_truth
from d2_cxr.evaluation.matching import Matches
from d2_cxr.evaluation.subgroups import read_grouping

logger = logging.getLogger(__name__)

NEGATIVE_RESULTS = "negative_instances_results.json"
_SHOWN = ("mAP", "AP50", "AP_small", "AR_agnostic", "AP40_vinbigdata", "mean_best_iou", "froc_sens_at_1", "image_auroc")


def evaluate_files(
    dataset: str,
    results: Path,
    output: Path,
    negative_results: Path | None = None,
    root: str | os.PathLike | None = None,
    other: Path | None = None,
    thresholds: Path | None = None,
    false_positives: float = operating.DEFAULT_RATE,
    resamples: int = 1000,
    seed: int = 0,
    subgroups: str | None = None,
) -> Evaluation:
    """Evaluate a results file on a named set and write evaluation.json, matches.npz, thresholds.json and figures.

    Args:
        negative_results: on the negative images of the split; default: NEGATIVE_RESULTS next to `results`, if
            it exists. Negative images are counted only if there are results on them.
        root: folder of prepared sets; default: the registered ones.
        other: results or matches.npz of another run; writes comparison.json.
        thresholds: thresholds.json from other images.
        false_positives: per image and class, for the thresholds.json that is written.
        subgroups: CSV:COLUMN, a table with image_id and that column; adds metrics within subgroups of images.

    Returns:
        What was written; `document["problems"]` says what is odd about the results.

    Raises:
        FileNotFoundError, ValueError: in one line, before anything is written.
    """
    named, rows = read_truth_and_results(dataset, results, negative_results, root)
    chosen = artifacts.read_json(thresholds) if thresholds else None
    grouping = read_grouping(subgroups) if subgroups else None
    evaluation = evaluate(
        named.truth,
        rows,
        named.negative,
        resamples=resamples,
        seed=seed,
        train_truth=named.train,
        dataset=dataset,
        chosen_thresholds=chosen,
        readers=named.readers,
        fusion=named.fusion,
        iou_threshold=named.iou_threshold,
        grouping=grouping,
    )
    comparison = None
    if other is not None:
        comparison = compare(evaluation.matches, _other_matches(other, named), resamples, seed)
    _write(evaluation, comparison, output, false_positives)
    return evaluation


def read_truth_and_results(
    dataset: str, results: Path, negative_results: Path | None = None, root: str | os.PathLike | None = None
) -> tuple[GroundTruth, list[dict]]:
    """Return the truth of a named set, `negative` only where there are results on it, and all results.

    Args:
        negative_results: default: NEGATIVE_RESULTS next to `results`, if it exists.
        root: folder of prepared sets; default: the registered ones.

    Raises:
        FileNotFoundError, ValueError: unknown set, missing file, or results that are none.
    """
    if root is not None:
        register_below(dataset, root)
    named, rows = load_ground_truth(dataset), read_results(results)
    negatives = _negative_rows(results, negative_results)
    return (named, rows + negatives) if negatives is not None else (replace(named, negative=None), rows)


def _negative_rows(results: Path, negative_results: Path | None = None) -> list[dict] | None:
    """Read the results on negative images: that file, or NEGATIVE_RESULTS next to `results`; None without either."""
    beside = results.parent / NEGATIVE_RESULTS
    if negative_results is None and not beside.is_file():
        return None
    return read_results(negative_results or beside)


def _other_matches(other: Path, named: GroundTruth) -> Matches:
    if other.suffix == ".npz":
        return Matches.load(other)
    rows, negatives = read_results(other), _negative_rows(other) if named.negative is not None else []
    if negatives is None:
        raise ValueError(
            f"{other} has no {NEGATIVE_RESULTS} next to it, but the evaluated run has; compare runs on the same images"
        )
    return checked_matches(named.truth, rows + negatives, named.negative)[0]


def _write(evaluation: Evaluation, comparison: dict | None, output: Path, false_positives: float) -> None:
    from d2_cxr.evaluation import plots  # matplotlib takes a second

    matches, dataset = evaluation.matches, evaluation.document["dataset"]
    plots.save(plots.froc_figure(evaluation), output / "froc.png")
    plots.save(plots.class_figure(evaluation), output / "ap50_by_class.png")
    artifacts.write_json(output / "thresholds.json", operating.choose(matches, dataset, false_positives))
    if comparison is not None:
        artifacts.write_json(output / "comparison.json", comparison)
    else:
        (output / "comparison.json").unlink(missing_ok=True)  # of earlier results
    path = evaluation.write(output)
    _log(evaluation.document, comparison)
    logger.info("The evaluation is in %s", path)


def _log(document: Mapping, comparison: Mapping | None) -> None:
    for name in _SHOWN:
        entry = document["metrics"].get(name)
        if entry and entry["value"] is not None:
            line = f"{name:16s} {entry['value']:.3f} {_interval(entry['interval'])}  n = {entry['n']} {entry['unit']}"
            difference = comparison["metrics"][name] if comparison else None
            if difference and difference["difference"] is not None:
                line += f"; minus the other {difference['difference']:+.3f} {_interval(difference['interval'])}"
                line += f", p = {difference['p']:.3f}"
            logger.info(line)
    within = document.get("subgroups", {"subgroups": {}})
    for value, group in within["subgroups"].items():
        images = counted(group["num_images"], "image")
        logger.info("%s = %s, %s:%s", within["column"], value, images, _subgroup_line(group))


def _subgroup_line(group: Mapping) -> str:
    shown = [(name, group["metrics"][name]) for name in _SHOWN if name in group["metrics"]]
    return ";".join(
        f" {name} {e['value']:.3f} {_interval(e['interval'])}" for name, e in shown if e["value"] is not None
    )


def _interval(limits: list[float] | None) -> str:
    return f"[{limits[0]:.3f}, {limits[1]:.3f}]" if limits else "[no interval]"
