"""What stands on the report's page apart from the tables and figures of the paper: answers, cards, provenance."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import yaml
from d2_cxr.projects.label_efficiency.report import paper_results, tables
from d2_cxr.projects.label_efficiency.report.label_savings import compare, label_savings, next_labels, resample
from d2_cxr.projects.label_efficiency.report.report_figures import primary_metric, primary_name
from d2_cxr.projects.label_efficiency.report.scores import Scores, curves
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults
from d2_cxr.projects.label_efficiency.report.subgroups import COLUMNS as GROUPS_COLUMNS
from d2_cxr.projects.label_efficiency.report.subgroups import within_groups

from d2_cxr.evaluation import metrics

ENDPOINT_COLUMNS = [
    ("pair", "arms", "text"),
    ("cell", "mean difference [95 %]", "interval"),
    ("p", "p", "p"),
    ("shares", "shares of labels, %", "text"),
    ("seeds", "seeds", "whole"),
]
STAGE_COLUMNS = [
    ("id", "stage", "text"),
    ("state", "state", "text"),
    ("seconds", "seconds", "whole"),
    ("commit", "commit", "text"),
]
_SECTIONS = (
    ("savings", "Label savings"),
    ("learned", "Did it learn?"),
    ("table1", "Table I"),
    ("table2", "Table II"),
    ("figures", "Figures 1–4"),
    ("classes", "Classes"),
    ("froc", "FROC"),
    ("controls", "Controls"),
    ("groups", "Groups of images"),
    ("split", "Published split"),
    ("runs", "Runs"),
    ("made", "How this was made"),
)


def baseline(results: StudyResults) -> str:
    """The arm that others are compared with: named by the study's endpoint, else the first."""
    return (results.settings.get("endpoint") or {}).get("reference") or results.arms[0]


def context(results: StudyResults, scores: Scores, output: Path) -> dict:
    """Everything that the template shows, but for Tables I and II and the figures."""
    reached = tables.criterion(results, scores)
    classes = tables.class_table(results, scores, baseline(results))
    controls = _comparisons(results, scores, (results.settings.get("endpoint") or {}).get("controls", []))
    within = within_groups(results, scores)
    parts = (("learned", reached), ("controls", controls), ("groups", within))
    absent = {key for key, there in parts if not there}
    metric, names = primary_metric(results)
    definition = f"{metric}: {metrics.OVERALL[metric].definition}" + (f" ({', '.join(names)})" if names else "")
    return {
        "title": results.settings.get("title") or f"Study {results.settings['study']}",
        "study": results.settings["study"],
        "notes": (results.settings.get("notes") or [])
        + _from_controls(results, controls)
        + _tuned(results)
        + _alarms(results),
        "facts": _facts(results),
        "gaps": [run.name for run in results.runs if not run.done],
        "num_runs": len(results.runs),
        "sections": [section for section in _SECTIONS if section[0] not in absent],
        "primary": {"name": primary_name(results), "definition": definition},
        "seeds": results.seeds,
        "resamples": scores.resamples,
        "savings": _savings(results, scores),
        "endpoint": _comparisons(results, scores, _main_arms(results)),
        "endpoint_columns": ENDPOINT_COLUMNS,
        "next_labels": _next_labels(results, scores),
        "criterion": reached,
        "criterion_line": criterion_line(reached) if reached else "",
        "classes": [_with_sentences(row) for row in classes],
        "class_columns": _class_columns(classes),
        "controls": controls,
        "controls_note": _CONTROLS_NOTE,
        "groups": within,
        "groups_columns": GROUPS_COLUMNS,
        "groups_name": (results.settings.get("groups") or "").rpartition(":")[2],
        "paper": paper_results.PAPER,
        "density": {name: f"{value:.2f}" for name, value in paper_results.PUBLISHED_DENSITY.items()},
        "density_command": paper_results.PUBLISHED_DENSITY_COMMAND,
        "own_density": (results.statistics or {}).get("density"),
        "runs": [_run(run, output) for run in (*results.runs, *results.prior_box) if run.done],
        "val_selected": bool((results.settings.get("evaluation") or {}).get("val_selected")),
        "stages": [_stage(results, stage) for stage in results.plan],
        "stage_columns": STAGE_COLUMNS,
        "commands": sorted(
            {shlex.join(["python", *r["command"]]) for r in results.records.values() if r.get("command")}
        ),
        "study_yaml": yaml.safe_dump(results.settings, sort_keys=False, allow_unicode=True, width=110),
    }


_CONTROLS_NOTE = (
    "Negative control: the pretrained weights permuted within each tensor, which keeps their scale and destroys their "
    "features; it should gain nothing. Positive control: a backbone trained on the renderer's own truth; where it does "
    "not help, the study is insensitive and a missing gain of another arm says nothing. Longer random training gets "
    "the compute that pretraining took."
)


def _from_controls(results: StudyResults, controls: list[dict]) -> list[str]:
    """Say what the controls let the study say: nothing where runs are too short, or where the truth brings no gain."""
    plan = results.settings.get("arms") or {}
    truth = [name for name, made in (results.settings.get("pretraining") or {}).items() if _is_truth(made)]
    said = []
    for row in controls:
        arm, cell = plan.get(row["arm"]) or {}, row["cell"]
        if cell["low"] is None:  # too few resamples hold a score
            continue
        gains, found = cell["low"] > 0, _GAIN.format(pair=row["pair"], **cell)
        if arm.get("longer") and gains:
            said.append(_TOO_SHORT.format(found=found))
        elif arm.get("weights") in truth:
            said.append((_SENSITIVE if gains else _INSENSITIVE).format(found=found))
        elif str(arm.get("weights", "")).startswith("permuted(") and gains:
            said.append(_PERMUTED.format(found=found))
    return said


def _is_truth(pretraining: dict) -> bool:
    return (pretraining or {}).get("method") == "supervised"


_GAIN = "{pair} is {value:+.3f} [{low:+.3f}, {high:+.3f}]"
_TOO_SHORT = (
    "The runs are too short to tell initializations or shares of labels apart: {found} by more steps alone. Raise "
    "SOLVER.MAX_ITER before you read anything else here."
)
_INSENSITIVE = (
    "This study is insensitive: even a backbone that was trained on the truth brings no gain beyond its interval "
    "({found}), so that a missing gain of another arm says nothing."
)
_SENSITIVE = "This study sees a gain where there is one: {found} from a backbone that was trained on the truth."
_PERMUTED = (
    "The negative control gains, too ({found}): what pretrained weights bring beyond random ones is then not, or not "
    "only, what they learned to see."
)


def _alarms(results: StudyResults) -> list[str]:
    """What pretrainings said of themselves: a backbone that learned nothing explains a missing gain."""
    found = [(name, alarm) for name, record in results.pretraining.items() for alarm in record.get("alarms", [])]
    return [f"Pretraining {name}: {alarm}." for name, alarm in found]


def _tuned(results: StudyResults) -> list[str]:
    """Say which value was tuned for each arm, and how, where a study tunes one."""
    if not results.tuned:
        return []
    one = next(iter(results.tuned.values()))
    chosen = []
    for arm, tuned in results.tuned.items():
        scores = ", ".join(f"{trial['value']:g}: {_score(trial['score'])}" for trial in tuned["trials"])
        chosen.append(f"{arm} {tuned['value']:g} ({scores})")
    how = f"{one['option']} was tuned for each arm on {one['test']} by {one['metric']}, with equal trials"
    if "default" in one:
        how += f"; {one['default']:g} unless another is better beyond its interval"
    return [f"{how}: {'; '.join(chosen)}."]


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def criterion_line(found: dict) -> str:
    """One sentence: best run, prior-box baseline, difference with interval, and whether the margin was met."""
    model, box, difference = found["model"], found["constant"], found["difference"]
    over = f" over {', '.join(found['classes'])}" if found["classes"] else ""
    return (
        f"Mean {found['metric']}{over}: best run {found['best']} {model['value']:.3f}, "
        f"prior-box baseline {box['value']:.3f}; "
        f"difference {difference['value']:+.3f} [95 %: {difference['low']:+.3f}, {difference['high']:+.3f}]. "
        f"{'Met' if found['met'] else 'NOT met'}: at least {found['margin']} with the lower bound above 0."
    )


def savings_sentence(found: dict, label_fraction: int = 100) -> str:
    """E.g. "simclr reaches random's score at 100 % of the labels (0.41) with 46 % of the labels (95 %: 30 to 90 %)"."""
    arm, reference = found["arm"], found["reference"]
    if not found["known"]:
        return f"{arm} against {reference}: not known yet, runs are missing"
    goal = f"{reference}'s score at {label_fraction} % of the labels ({found['reference_score']:.3f})"
    edges = _edges(found["interval"])
    if found["share"] is None and not found["reached"]:
        return f"{arm} does not reach {goal} with any share that was run, nor in any of the resamples"
    if found["share"] is None:
        return f"{arm} does not reach {goal}; in {found['reached']:.1%} of the resamples it does (95 %: {edges})"
    return f"{arm} reaches {goal} with {_share(found['share'])} of the labels (95 %: {edges})"


def _edges(interval: list) -> str:
    low, high = map(_share, interval)
    return low if low == high else f"{low} to {high}"


def _share(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f} %"


def _main_arms(results: StudyResults) -> list[str]:
    controls = (results.settings.get("endpoint") or {}).get("controls", [])
    return [arm for arm in results.arms if arm != baseline(results) and arm not in controls]


def _savings(results: StudyResults, scores: Scores) -> list[dict]:
    if not any(run.done for run in results.runs):
        return []
    table = curves(results, scores, *primary_metric(results))
    shares = {
        arm: {run.label_fraction for run in results.runs if run.arm == arm} for arm in results.arms
    }  # planned ones, too
    others = [arm for arm in results.arms if arm != baseline(results) and results.select(arm) and len(shares[arm]) > 1]
    found = [label_savings(table, arm, baseline(results)) for arm in others]
    return [row | {"sentence": savings_sentence(row, results.label_fractions[-1])} for row in found]


def _comparisons(results: StudyResults, scores: Scores, arms: list[str]) -> list[dict]:
    table = curves(results, scores, *primary_metric(results)) if arms else None
    rows = []
    for arm in arms:
        found = compare(table, arm, baseline(results)) if arm in results.arms else None
        if found and found["difference"] is not None:
            low, high = found["interval"]
            row = {
                "arm": arm,
                "pair": f"{arm} − {baseline(results)}",
                "cell": {"value": found["difference"], "low": low, "high": high},
            }
            rows.append(
                row
                | {"p": found["p"], "seeds": found["seeds"], "shares": ", ".join(map(str, found["label_fractions"]))}
            )
    return rows


_NEXT = (
    "{arm}: {more} more labeled images would add {gain:+.3f} (95 %: {low:+.3f} to {high:+.3f}), if the fitted power law "
    "holds."
)


def _next_labels(results: StudyResults, scores: Scores) -> list[str]:
    if len(results.label_fractions) < 5:
        return [f"{len(results.label_fractions)} shares of labels were run; extrapolating a curve takes at least 5."]
    table, lines = curves(results, scores, *primary_metric(results)), []
    drawn = resample(table)
    for arm in results.arms:
        images = [
            tables.training_images(results.select(arm, label_fraction)) for label_fraction in table.label_fractions
        ]
        if all(images):
            more = images[-1] // 2
            found = next_labels(np.asarray(images, dtype=float), table.mean(arm), drawn[table.arms.index(arm)], more)
            if found:
                low, high = found["interval"]
                lines.append(_NEXT.format(arm=arm, more=more, gain=found["gain"], low=low, high=high))
    return lines


def _with_sentences(row: dict) -> dict:
    return {key: _short(value) if isinstance(value, dict) and "arm" in value else value for key, value in row.items()}


def _short(found: dict) -> str:
    if not found["known"]:
        return "not known"
    if found["reference_score"] < _NOTHING:
        return "nothing to reach"
    return f"{_share(found['share'])} ({_edges(found['interval'])})"


_NOTHING = 0.02  # a score that is as good as none


def _class_columns(rows: list[dict]) -> list[tuple]:
    kinds = {"class": "text", "test images": "whole"}
    keys = rows[0] if rows else {}
    return [(key, key, kinds.get(key, "text" if key.endswith(": labels") else "interval")) for key in keys]


def _facts(results: StudyResults) -> list[str]:
    done = [run for run in results.runs if run.done]
    facts = [f"{len(done)} runs", f"{len(results.seeds)} seed" + "s" * (len(results.seeds) > 1)]
    facts.append(f"labels: {', '.join(map(str, results.label_fractions))} %")
    if done:
        tests = {run.test: run.matches for run in done}.values()  # a split of its own for each seed has other images
        findings = _range([matches.num_findings_images for matches in tests])
        negative = _range([int(matches.image_negative.sum()) for matches in tests])
        facts.append(f"{findings} test images with findings, {negative} without" + " a split" * (len(tests) > 1))
    commits = sorted({run.record.get("commit") for run in done if run.record.get("commit")})
    return [*facts, *(f"commit {commit}" for commit in commits)]


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def _run(run: Run, output: Path) -> dict:
    groups, columns = weights_rows(run.weights)
    return {
        "name": run.name if run.arm != "prior_box" else f"prior-box baseline, {run.test}",
        "link": os.path.relpath(run.folder, output) + "/",
        "card": sorted((key, _text(value)) for key, value in (run.card or {}).items()),
        "weights": groups,
        "weights_columns": columns,
    }


def weights_rows(weights: dict | None) -> tuple[list[dict], list[tuple]]:
    """The groups of weights.json as rows, and their columns."""
    groups = (weights or {}).get("groups", [])
    if isinstance(groups, dict):
        groups = [{"group": name, **values} for name, values in groups.items()]
    rows = [{key: _text(value) for key, value in group.items()} for group in groups]
    return rows, [(key, key.replace("_", " "), "text") for key in (rows[0] if rows else {})]


def _text(value) -> str:
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
