"""What the report shows apart from the paper's tables and the figures: answer, comparisons, run cards, provenance."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import yaml
from d2_cxr.projects.label_efficiency.report import paper_results, tables
from d2_cxr.projects.label_efficiency.report.answer import (
    answer,
    baseline,
    comparisons,
    labels_needed,
    main_arms,
    over_all_classes,
    trust,
)
from d2_cxr.projects.label_efficiency.report.label_savings import next_labels, resample
from d2_cxr.projects.label_efficiency.report.pool_sizes import COLUMNS as POOL_COLUMNS
from d2_cxr.projects.label_efficiency.report.pool_sizes import PoolSizes
from d2_cxr.projects.label_efficiency.report.report_figures import primary_metric, primary_name
from d2_cxr.projects.label_efficiency.report.scores import Scores, curves
from d2_cxr.projects.label_efficiency.report.study_results import MISTAKES, Run, StudyResults
from d2_cxr.projects.label_efficiency.report.subgroups import COLUMNS as SUBGROUP_COLUMNS
from d2_cxr.projects.label_efficiency.report.subgroups import subgroup_rows

from d2_cxr.counted import counted
from d2_cxr.evaluation import metrics

# key of a row, head, kind of cell (templates/cells.html.j2)
COMPARISON_COLUMNS = [
    ("pair", "arms", "text"),
    ("labels", "labels needed to match (95 %)", "text"),
    ("cell", "mean difference", "interval"),
    ("p", "p", "score"),
    ("detectable", "detectable with 80 % power", "score"),
    ("label_fractions", "label fractions, %", "text"),
    ("seeds", "seeds", "whole"),
]
STAGE_COLUMNS = [
    ("id", "stage", "text"),
    ("state", "state", "text"),
    ("seconds", "seconds", "whole"),
    ("commit", "commit", "text"),
]
_SECTIONS = (
    ("answer", "Answer"),
    ("trust", "How far to trust it"),
    ("table1", "Table I"),
    ("table2", "Table II"),
    ("figures", "Figures 1–4"),
    ("classes", "Classes"),
    ("froc", "FROC"),
    ("pools", "Pool size against labels"),
    ("controls", "Controls"),
    ("subgroups", "Subgroups"),
    ("split", "Published split"),
    ("runs", "Runs"),
    ("made", "How this was made"),
)


def context(results: StudyResults, scores: Scores, output: Path) -> dict:
    """Return everything that the template shows, but for Tables I and II and the figures."""
    settings = results.settings
    reached = tables.criterion(results, scores)
    classes = tables.class_table(results, scores, baseline(results))
    rows = comparisons(results, scores, main_arms(results))
    controls = comparisons(results, scores, results.endpoint.get("controls", []))
    within = subgroup_rows(results, scores)
    pools = PoolSizes(results, scores)
    optional = (("controls", controls), ("subgroups", within), ("pools", pools.families))
    absent = {key for key, there in optional if not there}
    metric, names = primary_metric(results)
    definition = f"{metric}: {metrics.OVERALL[metric].definition}" + (f" ({', '.join(names)})" if names else "")
    return {
        "title": settings.get("title") or f"Study {settings['study']}",
        "notes": " ".join(settings.get("notes", [])),
        "facts": _facts(results),
        "gaps": [run.name for run in results.runs if not run.done],
        "num_runs": len(results.runs),
        "sections": [section for section in _SECTIONS if section[0] not in absent],
        "primary": {"name": primary_name(results), "definition": definition},
        "seeds": results.seeds,
        "resamples": scores.resamples,
        "answer": answer(results, rows),
        "trust": [*trust(results, rows, controls), *over_all_classes(results, scores, main_arms(results))],
        "comparisons": rows,
        "comparison_columns": COMPARISON_COLUMNS,
        "next_labels": _next_labels(results, scores),
        "criterion": reached,
        "criterion_line": criterion_line(reached) if reached else "",
        "classes": [_with_text(row) for row in classes],
        "class_columns": _class_columns(classes),
        "pool_rows": pools.rows(),
        "pool_columns": POOL_COLUMNS,
        "pool_lines": pools.lines(),
        "pool_figures": pools.figures(),
        "controls": controls,
        "controls_note": _CONTROLS_NOTE,
        "subgroups": within,
        "subgroup_columns": SUBGROUP_COLUMNS,
        "subgroups_name": settings.get("subgroups", "").rpartition(":")[2],
        "paper": paper_results.PAPER,
        "density": {name: f"{value:.2f}" for name, value in paper_results.PUBLISHED_DENSITY.items()},
        "density_command": paper_results.PUBLISHED_DENSITY_COMMAND,
        "own_density": (results.statistics or {}).get("density"),
        "runs": [_run(run, output) for run in (*results.runs, *results.prior_box) if run.done],
        "val_selected": bool(settings.get("evaluation", {}).get("val_selected")),
        "stages": [_stage(results, stage) for stage in results.plan],
        "stage_columns": STAGE_COLUMNS,
        "commands": sorted(
            {shlex.join(["python", *r["command"]]) for r in results.records.values() if r.get("command")}
        ),
        "study_yaml": yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=110),
    }


_CONTROLS_NOTE = (
    "Negative control: the pretrained weights permuted within each tensor, which keeps their scale and destroys their "
    "features; it should gain nothing. Positive control: a backbone trained on the renderer's own truth; if it "
    "does not gain, the study is insensitive. Compute-matched control: random initialization, trained longer by the "
    "compute that pretraining took. Of a teacher: its boxes given to other images, which should gain nothing, and its "
    "schedule on labeled images alone, whose gain is not that of unlabeled images."
)


def criterion_line(found: dict) -> str:
    """Return one sentence: best run, prior-box baseline, difference with interval, and whether the margin was met."""
    model, box, difference = found["model"], found["prior_box"], found["difference"]
    over = f" over {', '.join(found['classes'])}" if found["classes"] else ""
    return (
        f"Mean {found['metric']}{over}: best run {found['best']} {model['value']:.3f}, "
        f"prior-box baseline {box['value']:.3f}; "
        f"difference {difference['value']:+.3f} [95 %: {difference['low']:+.3f}, {difference['high']:+.3f}]. "
        f"{'Met' if found['met'] else 'NOT met'}: at least {found['margin']} with the lower bound above 0."
    )


_NEXT = (
    "{arm}: {more} more labeled images would add {gain:+.3f} (95 % interval {low:+.3f} to {high:+.3f}), if the fitted "
    "power law holds."
)


def _next_labels(results: StudyResults, scores: Scores) -> list[str]:
    if len(results.label_fractions) < 5:
        number = counted(len(results.label_fractions), "label fraction was", "label fractions were")
        return [f"{number} run. Extrapolating a curve takes at least 5; run_study.py --plan certificate has them."]
    table, lines = curves(results, scores, *primary_metric(results)), []
    drawn = resample(table)
    for arm in results.arms:
        images = [tables.training_images(results.select(arm, fraction)) for fraction in table.label_fractions]
        if all(images):
            more = images[-1] // 2
            found = next_labels(np.asarray(images, dtype=float), table.mean(arm), drawn[table.arms.index(arm)], more)
            if found:
                low, high = found["interval"]
                lines.append(_NEXT.format(arm=arm, more=more, gain=found["gain"], low=low, high=high))
    return lines


def _with_text(row: dict) -> dict:
    return {
        key: _saving_cell(value) if isinstance(value, dict) and "arm" in value else value for key, value in row.items()
    }


def _saving_cell(found: dict) -> str:
    if found["known"] and found["reference_score"] < _NOTHING:
        return "nothing to match"
    return labels_needed(found)


_NOTHING = 0.02  # a score that is as good as none


def _class_columns(rows: list[dict]) -> list[tuple]:
    kinds = {"class": "text", "test images": "whole"}
    keys = rows[0] if rows else {}
    return [(key, key, kinds.get(key, "text" if key.endswith(": labels") else "interval")) for key in keys]


def _facts(results: StudyResults) -> list[str]:
    done = [run for run in results.runs if run.done]
    facts = [counted(len(done), "run"), counted(len(results.seeds), "seed")]
    facts.append(f"label fractions {', '.join(map(str, results.label_fractions))} %")
    if done:
        tests = {run.test: run.matches for run in done}.values()  # a split of its own for each seed has other images
        findings = _range([matches.num_findings_images for matches in tests])
        negative = _range([int(matches.image_negative.sum()) for matches in tests])
        facts.append(f"{findings} test images with findings, {negative} without" + " per split" * (len(tests) > 1))
    commits = sorted({run.record.get("commit") for run in done if run.record.get("commit")})
    return [*facts, *(f"commit {commit}" for commit in commits)]


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


# Lines of a run's card: what a reader asks first. The whole card is run.json in the run's folder.
_CARD = {
    "num_train_images": "labeled training images",
    "train": "trained on",
    "test": "tested on",
    "weights": "weights at the start",
    "iterations": "iterations",
    "precision": "number format",
    "seed": "seed",
    "hardware": "hardware",
    "start": "started",
    "end": "ended",
    "commit": "commit",
    "method": "method",
}


def _run(run: Run, output: Path) -> dict:
    groups, columns = weights_rows(run.weights)
    card = run.card or {}
    return {
        "name": run.name if run.arm != "prior_box" else f"prior-box baseline, {run.test}",
        "link": os.path.relpath(run.folder, output) + "/",
        "mistakes": os.path.relpath(run.folder / MISTAKES, output) if (run.folder / MISTAKES).is_file() else None,
        "card": [(words, _text(card[key])) for key, words in _CARD.items() if card.get(key) not in (None, "", [])],
        "weights": groups,
        "weights_columns": columns,
    }


def weights_rows(weights: dict | None) -> tuple[list[dict], list[tuple]]:
    """Return the groups of weights.json as rows, and their columns."""
    groups = (weights or {}).get("groups", [])
    if isinstance(groups, dict):
        groups = [{"group": name, **values} for name, values in groups.items()]
    rows = [{key: _text(value) for key, value in group.items()} for group in groups]
    return rows, [(key, key.replace("_", " "), "text") for key in (rows[0] if rows else {})]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]  # a fingerprint; whole in the run folder
    return str(value)


def _stage(results: StudyResults, stage: dict) -> dict:
    record = results.records.get(stage["id"], {})
    about = {"id": stage["id"], "state": record.get("state", "not run"), "commit": record.get("commit")}
    return about | {"seconds": round(record["seconds"]) if record.get("seconds") is not None else None}
