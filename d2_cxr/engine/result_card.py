"""A run's result to share: what was trained and tested how, with what metrics; no image, no name of one, no path.

`result.json` and a page go as a pull request into `results/`, where a test runs `problems` on every file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.counted import counted
from d2_cxr.engine.publish import metric_table
from d2_cxr.evaluation.evaluate import read_evaluation

FORMAT_VERSION = 1
_SHA = r"[0-9a-f]{64}"
_NAME = r"[\w .,:+()%-]{1,120}"  # no slash: a path would name a machine or a person
_PLAIN = "number, yes or no, or a short text"
_ENTRY = {"value": float, "interval": list, "n": int, "unit": r"boxes|images"}
SCHEMA: dict = {  # key -> type, pattern of a text, or dict; the key "*" stands for any name
    "format_version": int,
    "title": _NAME,
    "data": {
        "train": _NAME,
        "test": _NAME,
        "images_fingerprint": _SHA,
        "annotations_fingerprint": _SHA,
        "preprocess": {"*": _PLAIN},
        "fusion": {"*": _PLAIN},
    },
    "protocol": {
        "architecture": _NAME,
        "initialized_from": _NAME,
        "num_train_images": int,
        "iterations": int,
        "batch": int,
        "seed": int,
        "precision": _NAME,
    },
    "test": {
        "num_findings_images": int,
        "num_negative_images": int,
        "num_boxes": int,
        "resamples": int,
        "resampled_by": r"patient|image",
    },
    "metrics": {"*": _ENTRY},
    "per_class": {"*": {"AP50": _ENTRY}},
    "project": {"version": _NAME, "commit": r"[0-9a-f]{7,40}|unknown"},
}


def result_card(run: str | Path, title: str | None = None, dataset: str | None = None) -> dict:
    """Return a run's result as plain values.

    Args:
        run: a finished run's folder.
        title: one line; default: architecture, training set and number of images.
        dataset: of the run's test sets; default: the first.

    Raises:
        FileNotFoundError: the folder has no run.json or no evaluation.
        ValueError: the run is not finished, or something in it may not be shared; says what.
    """
    folder = Path(run)
    record = artifacts.read_json(folder / "run.json")
    if record.get("status") != "finished":
        raise ValueError(f"{folder} holds no finished run; its run.json says {record.get('status')}")
    test = dataset or record["test"][0]
    found = read_evaluation(folder / "inference" / test / "evaluation.json")
    card = read_card(folder / record.get("tested", "model_final.pth"))
    about = record["datasets"].get(test, {})
    values = {
        "format_version": FORMAT_VERSION,
        "title": title or f"{card.architecture if card else 'detector'}, {record['num_train_images']} labeled images",
        "data": {"train": ", ".join(record["train"]), "test": test, **{key: about.get(key, "") for key in _PRINTS}}
        | {key: about.get(key) or {} for key in ("preprocess", "fusion")},
        "protocol": {
            "architecture": (card.architecture if card else None) or "unknown",
            "initialized_from": Path(record["weights"] or "random").name,
            "batch": record["schedule"]["batch"],
            "precision": record["precision"][0],
            **{key: record[key] for key in ("num_train_images", "iterations", "seed")},
        },
        "test": {key: found[key] for key in SCHEMA["test"]},
        "metrics": {name: _entry(entry) for name, entry in found["metrics"].items() if entry["value"] is not None},
        "per_class": {name: {"AP50": _entry(entry["AP50"])} for name, entry in found["per_class"].items()},
        "project": {"version": record["project_version"], "commit": record["commit"] or "unknown"},
    }
    wrong = problems(values)
    if wrong:
        raise ValueError(f"{folder} cannot be shared: {'; '.join(wrong)}")
    return values


_PRINTS = ("images_fingerprint", "annotations_fingerprint")


def write_result(run: str | Path, output: str | Path, title: str | None = None, dataset: str | None = None) -> Path:
    """Write result.json and README.md into a folder and return the JSON's path; raises as `result_card`."""
    values = result_card(run, title, dataset)
    artifacts.write_json(Path(output) / "result.json", values)
    artifacts.write_text(Path(output) / "README.md", page(values))
    return Path(output) / "result.json"


def page(values: Mapping) -> str:
    """Return a result as Markdown."""
    data, protocol, test = values["data"], values["protocol"], values["test"]
    lines = [f"# {values['title']}", "", "| | |", "| --- | --- |"]
    lines += [f"| {key.replace('_', ' ')} | {protocol[key]} |" for key in SCHEMA["protocol"]]
    lines += [f"| trained on | {data['train']} |", f"| tested on | {data['test']} |"]
    lines += [f"| images' fingerprint | {data['images_fingerprint']} |"]
    lines += [f"| d2_cxr | {values['project']['version']}, commit {values['project']['commit']} |", ""]
    lines += [
        f"{counted(test['num_findings_images'], 'test image')} with findings, {test['num_negative_images']:,} without, "
    ]
    lines[-1] += (
        f"{counted(test['num_boxes'], 'box')}. Scores are fractions of 1; "
        f"intervals from {test['resamples']:,} resamples."
    )
    lines += ["", *metric_table(values["metrics"], tuple(sorted(values["metrics"])))]
    by_class = {name: entry["AP50"] for name, entry in values["per_class"].items()}
    return "\n".join([*lines, "", "AP50 by class:", "", *metric_table(by_class, tuple(sorted(by_class)))]) + "\n"


def problems(values: object) -> list[str]:
    """Return what keeps a result card from being accepted, a sentence each; [] for a sound one.

    Only the keys of SCHEMA may occur, so that no image, image name or path can; scores lie in [0, 1], and intervals
    (which are corrected for bias) in [-1, 1] with the lower edge first.
    """
    found = _differences(values, SCHEMA, "result")
    if not found and isinstance(values, Mapping) and values["format_version"] != FORMAT_VERSION:
        found.append(f"result.format_version is {values['format_version']}, not {FORMAT_VERSION}")
    return found


def _differences(value: object, rule: object, where: str) -> list[str]:
    if isinstance(rule, dict):
        if not isinstance(value, Mapping):
            return [f"{where} is not an object"]
        keys = dict.fromkeys(value, rule["*"]) if "*" in rule else rule
        found = [f"{where}.{key} is missing" for key in keys.keys() - value.keys()]
        found += [f"{where}.{key} may not be there" for key in value.keys() - keys.keys()]
        found += [
            f"{where} has a key that is no plain name" for key in value if not re.fullmatch(r"[\w /.&-]{1,60}", key)
        ]
        found += [
            text for key in keys if key in value for text in _differences(value[key], keys[key], f"{where}.{key}")
        ]
        return sorted(found) or (_entry_problems(value, where) if rule is _ENTRY else [])
    return [] if _fits(value, rule) else [f"{where} is {str(value)[:60]!r}, which is not of the form {rule}"]


def _fits(value: object, rule: object) -> bool:
    """Whether a value that is no object has a rule's type, or a text its pattern."""
    if rule == _PLAIN:
        return isinstance(value, bool | int | float) or (isinstance(value, str) and bool(re.fullmatch(_NAME, value)))
    if isinstance(rule, str):
        return isinstance(value, str) and bool(re.fullmatch(rule, value))
    if rule is list:
        return value is None or isinstance(value, list)
    if rule is int:
        return type(value) is int and value >= 0
    return isinstance(value, int | float) and not isinstance(value, bool)


def _entry_problems(entry: Mapping, where: str) -> list[str]:
    value, interval = entry["value"], entry["interval"]
    if not 0 <= value <= 1:
        return [f"{where}.value is {value}, not in [0, 1]"]
    if interval is None:
        return []
    sound = len(interval) == 2 and all(isinstance(edge, int | float) for edge in interval)
    return [] if sound and -1 <= interval[0] <= interval[1] <= 1 else [f"{where}.interval is {interval}"]


def _entry(entry: Mapping) -> dict:
    return {key: entry[key] for key in _ENTRY}
