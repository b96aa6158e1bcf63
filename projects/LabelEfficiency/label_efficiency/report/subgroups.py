"""A study's scores within subgroups of images, e.g. within AP and within PA views.

A detector's image-level score may reflect how an image was taken and not what it shows (evaluation/subgroups.py);
within one projection that does not help. The study file names the table: `subgroups: CSV:COLUMN`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from d2_cxr.projects.label_efficiency.report.label_savings import Curves
from d2_cxr.projects.label_efficiency.report.report_figures import primary_metric
from d2_cxr.projects.label_efficiency.report.scores import Scores
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults
from d2_cxr.projects.label_efficiency.report.tables import cell

from d2_cxr.evaluation import subgroups

ALL = "all images"
COLUMNS = [
    ("group", "subgroup", "text"),
    ("arm", "initialization", "text"),
    ("labels", "labels, %", "whole"),
    ("findings", "with findings", "whole"),
    ("negative", "without", "whole"),
    ("auroc", "image AUROC", "interval"),
    ("score", "score", "interval"),
    ("runs", "runs", "whole"),
]


def subgroup_rows(results: StudyResults, scores: Scores) -> list[dict]:
    """Return one row per subgroup, arm and label fraction: means over seeds with 95 % intervals, mean image counts.

    [] if the study names no subgroups, or their table does not exist.

    Raises:
        ValueError: the table lacks the column or test images.
    """
    argument = results.settings.get("subgroups")
    done = [run for run in results.runs if run.done]
    if not argument or not done or not Path(argument.rpartition(":")[0]).is_file():
        return []
    grouping = subgroups.read_grouping(argument)
    masks = {run.test: subgroups.members(run.matches, grouping) for run in {run.test: run for run in done}.values()}
    values = sorted({value for members in masks.values() for value in members})
    return [row for value in (ALL, *values) for row in _rows(results, scores, done, masks, value)]


def _rows(results: StudyResults, scores: Scores, done: list[Run], masks: dict, value: str) -> list[dict]:
    metric, classes = primary_metric(results)
    images = {run.test: _images(run, masks, value) for run in done}
    negative = {run.test: run.matches.image_negative for run in done}
    counts = {
        "findings": round(float(np.mean([(mask & ~negative[test]).sum() for test, mask in images.items()]))),
        "negative": round(float(np.mean([(mask & negative[test]).sum() for test, mask in images.items()]))),
    }
    tables = {
        "auroc": _curves(results, scores, done, images, "image_auroc", None),
        "score": _curves(results, scores, done, images, metric, classes),
    }
    return [
        {
            "group": value,
            "arm": arm,
            "labels": label_fraction,
            **counts,
            "runs": len(results.select(arm, label_fraction)),
        }
        | {name: cell(table, arm, label_fraction) for name, table in tables.items()}
        for label_fraction in reversed(results.label_fractions)
        for arm in results.arms
        if results.select(arm, label_fraction)
    ]


def _images(run: Run, masks: dict, value: str) -> np.ndarray:
    """Return (F,) bool: which of a run's test images are of a group; none where its split has no such image."""
    everyone = np.ones(len(run.matches.image_names), dtype=bool)
    return everyone if value == ALL else masks[run.test].get(value, ~everyone)


def _curves(
    results: StudyResults, scores: Scores, done: list[Run], images: dict, metric: str, classes: list[str] | None
) -> Curves:
    arms, label_fractions, seeds = results.arms, results.label_fractions, results.seeds
    table = np.full((len(arms), len(label_fractions), len(seeds), 1 + scores.resamples), np.nan)
    for run in done:
        if images[run.test].any() and (run.matches.has_negatives or metric != "image_auroc"):
            place = arms.index(run.arm), label_fractions.index(run.label_fraction), seeds.index(run.seed)
            table[place] = scores.of(run, metric, classes, images[run.test])
    return Curves(arms, label_fractions, seeds, table[..., 0], table[..., 1:])
