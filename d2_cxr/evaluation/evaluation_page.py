"""The page of one evaluation: the answer in a sentence, curves that show their values, tables, definitions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.audit import pages
from d2_cxr.evaluation.evaluate import Evaluation

_FIRST = ("AP50", "mAP", "froc_sens_at_1", "image_auroc", "image_auroc_mean", "AP40_vinbigdata", "mean_best_iou")
_OF_A_CLASS = ("AP50", "AP", "froc_sens_at_1", "image_auroc")
_HEAD = ("metric", "value", "95 % interval", "n")


def write_evaluation_page(folder: str | os.PathLike, mistakes: str | os.PathLike | None = None) -> Path:
    """Write `evaluation.html` from the other files of an evaluation; it needs no other file.

    Args:
        folder: with evaluation.json and matches.npz, and perhaps comparison.json.
        mistakes: page of mistakes to link.

    Raises:
        FileNotFoundError, ValueError: evaluation.json or matches.npz is missing or of another version.
    """
    from d2_cxr.evaluation import plots  # matplotlib takes a second

    folder = Path(folder)
    evaluation = Evaluation.read(folder)
    document = evaluation.document
    compared = folder / "comparison.json"
    context = {
        "document": document,
        "answer": _answer(document),
        "charts": [("froc", plots.froc_svg(evaluation)), ("classes", plots.class_svg(evaluation))],
        "head": _HEAD,
        "first": _rows(document["metrics"], _FIRST),
        "class_head": ["class", "boxes", "images", *(f"{name} (95 %)" for name in _OF_A_CLASS)],
        "per_class": [_class_row(name, table) for name, table in document["per_class"].items()],
        "errors": _errors(document["errors"]),
        "subgroups": _subgroups(document.get("subgroups")),
        "comparison": _differences(artifacts.read_json(compared)["metrics"]) if compared.is_file() else [],
        "definitions": _definitions(document["metrics"]),
        "mistakes": os.path.relpath(mistakes, folder) if mistakes else None,
    }
    pages.write_page(folder / "evaluation.html", "evaluation.html.j2", Path(__file__).parent / "templates", **context)
    return folder / "evaluation.html"


def _answer(document: Mapping) -> str:
    found, ap50 = document["metrics"]["froc_sens_at_1"], document["metrics"]["AP50"]
    if found["value"] is None:
        return "There is no truth box, so sensitivity is not defined."
    negative = document["num_negative_images"]
    images = f"{document['num_findings_images']} images with findings"
    images += f" and {negative} without" if negative else ""
    interval = "" if not found["interval"] else " (95 % interval {:.0%} to {:.0%})".format(*found["interval"])
    return (
        f"On {images}, the detector finds {found['value']:.0%} of {found['n']} truth boxes{interval} with one false "
        f"positive per image. AP50 is {_with_interval(ap50)}."
    )


def _rows(metrics: Mapping, names: Iterable[str]) -> list[tuple]:
    known = [(name, metrics[name]) for name in names if name in metrics]
    return [(name, _value(entry), _interval(entry), f"{entry['n']} {entry['unit']}") for name, entry in known]


def _class_row(name: str, table: Mapping) -> list:
    cells = [_with_interval(table.get(metric, {"value": None})) for metric in _OF_A_CLASS]
    return [name, table["num_boxes"], table["num_images"], *cells]


def _errors(errors: Mapping) -> list[tuple]:
    kinds = {"Miss": errors["Miss"], **errors["false_positives"]}
    return [(name, kind["n"], _shown(kind["ap50_gain"]), kind["definition"]) for name, kind in kinds.items()]


def _subgroups(within: Mapping | None) -> list[tuple]:
    groups = within["subgroups"].items() if within else ()
    return [(value, group["num_images"], *row) for value, group in groups for row in _rows(group["metrics"], _FIRST)]


def _differences(metrics: Mapping) -> list[tuple]:
    known = [(name, entry) for name, entry in metrics.items() if entry["difference"] is not None]
    return [(name, f"{entry['difference']:+.3f}", _interval(entry), _shown(entry["p"])) for name, entry in known]


def _definitions(metrics: Mapping) -> list[tuple]:
    return [(*row, metrics[row[0]]["definition"]) for row in _rows(metrics, metrics)]


def _value(entry: Mapping) -> str:
    return _shown(entry["value"])


def _interval(entry: Mapping) -> str:
    return "{:.3f} to {:.3f}".format(*entry["interval"]) if entry.get("interval") else ""


def _with_interval(entry: Mapping) -> str:
    return _value(entry) + (f" ({_interval(entry)})" if entry.get("interval") else "")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
