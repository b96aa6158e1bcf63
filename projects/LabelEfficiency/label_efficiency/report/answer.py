"""The report's answer in words: how many labels an initialization saves, and how far to trust it."""

from __future__ import annotations

from d2_cxr.projects.label_efficiency.report import tables
from d2_cxr.projects.label_efficiency.report.label_savings import compare, label_savings
from d2_cxr.projects.label_efficiency.report.report_figures import primary_metric, primary_name
from d2_cxr.projects.label_efficiency.report.scores import Scores, curves
from d2_cxr.projects.label_efficiency.report.study_results import StudyResults


def baseline(results: StudyResults) -> str:
    """Return the arm that others are compared with: named by the study's primary endpoint, else the first."""
    return results.endpoint.get("reference") or results.arms[0]


def main_arms(results: StudyResults) -> list[str]:
    """Return the arms that the study compares with its baseline, without the controls."""
    controls = results.endpoint.get("controls", [])
    return [arm for arm in results.arms if arm != baseline(results) and arm not in controls]


def comparisons(
    results: StudyResults, scores: Scores, arms: list[str], measure: tuple[str, list[str] | None] | None = None
) -> list[dict]:
    """Compare arms with the baseline: labels needed, and difference with interval, p and detectable difference.

    Args:
        measure: metric and classes (None: all); default: those of the primary endpoint.

    Returns:
        One row per arm that has runs: arm, pair, labels (text), saving (of `label_savings`; None at one label
        fraction), worth (at one label fraction: the labels with which the baseline matches the arm), cell {value, low,
        high}, p, detectable, label_fractions (text), seeds.
    """
    if not any(run.done for run in results.runs):
        return []
    table, reference, rows = curves(results, scores, *(measure or primary_metric(results))), baseline(results), []
    for arm in [arm for arm in arms if arm in results.arms]:
        found = compare(table, arm, reference)
        if found["difference"] is None:
            continue
        own, others = (_planned_fractions(results, name) for name in (arm, reference))
        saving = label_savings(table, arm, reference) if len(own) > 1 else None
        worth = label_savings(table, reference, arm, at=min(own)) if len(own) == 1 and len(others) > 1 else None
        low, high = found["interval"] or (None, None)
        row = {"arm": arm, "pair": f"{arm} − {reference}", "saving": saving, "worth": worth}
        row |= {
            "labels": _worth_cell(worth) if worth else labels_needed(saving),
            "cell": {"value": found["difference"], "low": low, "high": high},
        }
        row |= {key: found[key] for key in ("p", "detectable", "seeds")}
        rows.append(row | {"label_fractions": ", ".join(map(str, found["label_fractions"]))})
    return rows


def _planned_fractions(results: StudyResults, arm: str) -> set[int]:
    return {run.label_fraction for run in results.runs if run.arm == arm}


def _worth_cell(worth: dict) -> str:
    return f"at {worth['at']} %, {worth['arm']} needs {labels_needed(worth)}"


def labels_needed(saving: dict | None) -> str | None:
    """Return a label saving for a table cell, e.g. "46 % (30 to 90 %)"; None if none was requested."""
    if saving is None:
        return None
    if not saving["known"]:
        return "not known"
    found, edges = _labels(saving["share"]), _edges(saving["interval"])
    return found if found == edges else f"{found} ({edges})"


def answer(results: StudyResults, rows: list[dict]) -> dict | None:
    """Return the study's answer; None as long as no arm can be compared with the baseline.

    Args:
        rows: of `comparisons`, for the main arms.

    Returns:
        sentence; number and interval (texts) of the arm that needs the fewest labels, else of the highest score. A
        saving whose interval holds "not reached" comes after a shown gain at one label fraction.
    """
    if not rows:
        return None
    reached = [row for row in rows if row["saving"] and row["saving"]["known"] and row["saving"]["share"] is not None]
    certain = [row for row in reached if row["saving"]["interval"][1] is not None]
    gains = [row for row in rows if row["worth"] and row["worth"]["known"] and _is_gain(row)]
    if gains and not certain:
        return _worth_answer(results, max(gains, key=lambda row: row["cell"]["value"]))
    if reached:
        row = min(certain or reached, key=lambda row: (row["saving"]["share"], -row["cell"]["value"]))
        return _saving_answer(results, row)
    return _no_saving_answer(results, max(rows, key=lambda row: row["cell"]["value"]))


def _saving_answer(results: StudyResults, row: dict) -> dict:
    saving, images, largest = row["saving"], full_images(results), results.label_fractions[-1]
    count = f", about {round(images * saving['share'] / largest):,} of {images:,} images," if images else ""
    reference, most = baseline(results), "all labels" if largest == 100 else f"{largest} % of them"
    sentence = f"{row['arm']} needs {saving['share']:.0f} % of the labels{count} to match {reference} with {most}."
    if saving["share"] >= 0.995 * largest:
        sentence = f"{row['arm']} saves no labels: to match {reference} it needs as many."
    number, edges = f"{saving['share']:.0f} % of the labels", f"95 % interval: {_edges(saving['interval'])}"
    if saving["interval"][1] is None:
        sentence = (
            f"No label saving is shown. By its mean score {sentence[:-1]}, but the interval includes that it never"
        )
        return {"sentence": f"{sentence} does.", "number": "no saving shown", "interval": f"{number}; {edges}"}
    return {"sentence": sentence, "number": number, "interval": edges}


def _worth_answer(results: StudyResults, row: dict) -> dict:
    worth, images = row["worth"], full_images(results)
    needed, most = worth["share"], results.label_fractions[-1]
    count = f" ({round(images * worth['at'] / most):,} images)" if images else ""
    more = f" ({round(images * needed / most):,})" if images and needed else ""
    labels = f"{needed:.0f} %" if needed else f"more than {most} %"
    sentence = (
        f"With {worth['at']} % of the labels{count}, {row['arm']} scores what {baseline(results)} scores with "
        f"{labels}{more}."
    )
    number = f"{worth['at']} % of the labels instead of {labels}"
    return {"sentence": sentence, "number": number, "interval": f"95 % interval: {_edges(worth['interval'])}"}


def _no_saving_answer(results: StudyResults, row: dict) -> dict:
    cell, name, images = row["cell"], primary_name(results), full_images(results)
    count = f"{images:,} labeled images" if images else "labels"
    saving = row["saving"]
    sentence = f"No label saving was found for {row['arm']}"
    if row["worth"]:
        sentence += f" at {row['worth']['at']} % of the labels"
    elif saving is None:
        sentence = "With one label fraction, a label saving cannot be measured"
    elif saving["known"]:
        most = "all " if results.label_fractions[-1] == 100 else ""
        sentence += f": at no label fraction that was run did it match {baseline(results)} trained on {most}{count}"
    whose = f"{row['arm']}'s" if saving is None else "its"
    sentence += f". With the same labels {whose} {name} is {_direction(cell)} than that of {baseline(results)}."
    if saving and saving["known"] and saving["interval"][0] is not None:
        sentence += (
            f" At the favorable end of the interval it matches with {_labels(saving['interval'][0])} of the labels."
        )
    number = f"{cell['value']:+.3f} in {name}".replace("-", "−")
    return {"sentence": sentence, "number": number, "interval": _interval_text(cell)}


def _direction(cell: dict) -> str:
    if cell["low"] is None or cell["low"] <= 0 <= cell["high"]:
        return "neither clearly higher nor clearly lower"
    return "higher" if cell["value"] > 0 else "lower"


def _interval_text(cell: dict) -> str:
    if cell["low"] is None:
        return ""
    return f"95 % interval: {cell['low']:+.3f} to {cell['high']:+.3f}".replace("-", "−")


def full_images(results: StudyResults) -> int | None:
    """Return the labeled training images at the largest label fraction, as the baseline's runs say."""
    runs = results.select(baseline(results), results.label_fractions[-1]) if results.label_fractions else []
    return tables.training_images(runs)


def _labels(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f} %"


def _edges(interval: list) -> str:
    low, high = map(_labels, interval)
    return low if low == high else f"{low} to {high}"


def trust(results: StudyResults, rows: list[dict], controls: list[dict]) -> list[str]:
    """Return what limits the answer, one sentence each, the gravest first.

    Args:
        rows, controls: of `comparisons`.
    """
    found = [*_too_short(results, controls), *_other_controls(results, controls), *_seeds(results)]
    return [*found, *_power(results, rows), *_pretrained(results), *_alarms(results), *_tuned(results)]


def _too_short(results: StudyResults, controls: list[dict]) -> list[str]:
    plan = results.settings.get("arms", {})
    return [
        f"The runs are too short to tell initializations apart: more iterations alone gain {_gain(row)}. Raise "
        "SOLVER.MAX_ITER before you read anything else here."
        for row in controls
        if "compute_matched" in plan.get(row["arm"], {}) and _is_gain(row)
    ]


def _other_controls(results: StudyResults, controls: list[dict]) -> list[str]:
    """Interpret the positive control (the renderer's truth) and the negative control (permuted weights)."""
    plan, sentences = results.settings.get("arms", {}), []
    truth = {
        name
        for name, made in results.settings.get("pretraining", {}).items()
        if (made or {}).get("method") == "supervised"
    }
    for row in controls:
        weights = str(plan.get(row["arm"], {}).get("weights", ""))
        if row["cell"]["low"] is None:  # too few resamples hold a score
            continue
        if weights in truth and _is_gain(row):
            sentences.append(f"The study can see a gain: its positive control gains {_gain(row)}.")
        elif weights in truth:
            sentences.append(
                "The study is insensitive: even its positive control, trained on the truth, shows no gain "
                f"({_gain(row)}), so no other arm's missing gain means anything."
            )
        elif weights.startswith("permuted(") and _is_gain(row):
            sentences.append(
                f"The negative control gains, too ({_gain(row)}): pretrained weights then help, at least partly, by "
                "their scale and not by learned features."
            )
        sentences += _teacher_control(row, (plan.get(row["arm"], {}).get("teacher") or {}).get("control"))
    return sentences


def _teacher_control(row: dict, control: str | None) -> list[str]:
    """Interpret a teacher whose boxes are shuffled among images, or that sees labeled images alone."""
    if control == "shuffled" and _is_gain(row):
        return [
            f"The teacher's boxes on other images gain, too ({_gain(row)}): it is not what the teacher sees that helps."
        ]
    if control == "shuffled":
        return [f"The teacher's boxes on other images show no gain ({_gain(row)}), as it should be."]
    if control == "labeled" and _is_gain(row):
        return [f"The teacher's schedule gains without unlabeled images, too ({_gain(row)}): only the rest is theirs."]
    return []


def over_all_classes(results: StudyResults, scores: Scores, arms: list[str]) -> list[str]:
    """Return the differences over all classes in words, where the primary endpoint names some of them."""
    metric, classes = primary_metric(results)
    if not classes:
        return []
    rows = comparisons(results, scores, arms, (metric, None))
    return [f"{metric} over all classes: {_gain(row)}." for row in rows if row["cell"]["low"] is not None]


def _is_gain(row: dict) -> bool:
    return row["cell"]["low"] is not None and row["cell"]["low"] > 0


def _gain(row: dict) -> str:
    return "{pair} = {value:+.3f} [{low:+.3f}, {high:+.3f}]".format(pair=row["pair"], **row["cell"])


def _seeds(results: StudyResults) -> list[str]:
    if len(results.seeds) > 1:
        return []
    return ["One seed: the intervals cover the choice of test images, not the spread between trainings."]


def _power(results: StudyResults, rows: list[dict]) -> list[str]:
    """Say which differences the study could have seen, so that "no gain" is not read as "no effect"."""
    return [
        f"A true difference {row['pair']} below {row['detectable']:.3f} in {primary_name(results)} would often be "
        "missed: that is what this study's seeds and images detect with 80 % power."
        for row in rows
        if row["detectable"]
    ]


def _pretrained(results: StudyResults) -> list[str]:
    """Say how well each pretraining learned its own task: one that learned little can save few labels."""
    reached: dict[str, list[dict]] = {}
    for name, record in results.pretraining.items():
        if (record.get("final") or {}).get("contrastive_top1") is not None:
            reached.setdefault(name.split("/")[0], []).append(record)
    return [
        f"Pretraining {name} picks the other view of an image out of its batch in "
        f"{', '.join(format(100 * record['final']['contrastive_top1'], '.0f') for record in records)} % of the cases"
        f"{', by seed' if len(records) > 1 else ''} (chance {100 * records[0]['chance_top1']:.1f} %), after "
        f"{records[0]['num_views']:,} views."
        for name, records in reached.items()
    ]


def _alarms(results: StudyResults) -> list[str]:
    """Repeat the alarms of pretrainings: a backbone that learned nothing explains a missing gain."""
    found = [(name, alarm) for name, record in results.pretraining.items() for alarm in record.get("alarms", [])]
    return [f"Pretraining {name}: {alarm}." for name, alarm in found]


def _tuned(results: StudyResults) -> list[str]:
    """Say which value was tuned for each arm, and how, where a study tunes one."""
    if not results.tuned:
        return []
    one = next(iter(results.tuned.values()))
    chosen = []
    for arm, tuned in results.tuned.items():
        trials = ", ".join(f"{trial['value']:g}: {_score(trial['score'])}" for trial in tuned["trials"])
        chosen.append(f"{arm} {tuned['value']:g} ({trials})")
    how = f"{one['option']} was tuned for each arm on {one['test']} by {one['metric']}, with equal trials"
    if "default" in one:
        how += f"; {one['default']:g} unless another is better beyond its interval"
    return [f"{how}: {'; '.join(chosen)}."]


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
