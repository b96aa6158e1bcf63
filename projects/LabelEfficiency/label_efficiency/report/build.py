"""A study's folder to its report: `report.html`, self-contained, and the tables as CSV beside it.

Everything is recomputed from the run folders (docs/formats.md, section 3); a run that is missing is a gap.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from d2_cxr.projects.label_efficiency.report import paper_results, report_context, report_figures, tables
from d2_cxr.projects.label_efficiency.report.scores import RESAMPLES, Scores
from d2_cxr.projects.label_efficiency.report.study_results import read_results
from markupsafe import Markup

from d2_cxr import artifacts

logger = logging.getLogger(__name__)
_TEMPLATES = Path(__file__).parent / "templates"

# key of a row, head, kind of cell (templates/cells.html.j2)
_SCORES = [(name, name, "interval") for name in tables.TABLE_1_METRICS]
_VAL_SELECTED = [(name, name, "interval") for name in tables.VAL_SELECTED_METRICS]
TABLE_1_COLUMNS = [
    ("arm", "initialization", "text"),
    ("labels", "labels, %", "whole"),
    ("training images", "training images", "whole"),
    *_SCORES,
    ("share of the baseline", "share of the baseline", "label_fraction"),
    *[(name, name, "interval") for name in tables.MORE_METRICS],
    ("runs", "runs", "whole"),
    ("links", "run folders", "links"),
]
TABLE_1_PUBLISHED_COLUMNS = [
    ("arm", "row", "text"),
    ("labels", "labels, %", "whole"),
    ("training images", "training images", "whole"),
    *[(name, name, "score") for name in tables.TABLE_1_METRICS],
    ("share of the baseline", "share of the baseline", "label_fraction"),
]
TABLE_2_COLUMNS = [
    ("who", "who", "text"),
    ("definition", "definition", "text"),
    ("mean", "mean IoU", "score"),
    ("std", "σ", "score"),
    ("n", "boxes or pairs", "whole"),
    ("images", "images both drew on", "whole"),
]
MIN_COMMON_IMAGES = 30  # readers who drew on fewer images together stand in the CSV alone
TABLE_2_PUBLISHED_COLUMNS = [*TABLE_2_COLUMNS[:-1], ("row", "row", "text")]


def build_report(study_dir: str | Path, output: str | Path | None = None, resamples: int = RESAMPLES) -> Path:
    """Write `report.html` and `report/*.csv` below `output` (default: the study's folder); return the page's path.

    Args:
        study_dir: folder with `study.json`.
        resamples: bootstrap resamples of every interval.

    Raises:
        FileNotFoundError, ValueError: the folder holds no study.
    """
    results = read_results(study_dir)
    output = Path(output or study_dir)
    scores = Scores(output / "report" / "scores", resamples)
    baseline = report_context.baseline(results)
    context = report_context.context(results, scores, output)
    rows = tables.table_1(results, scores, baseline)
    columns = _table_1_columns(context["val_selected"])
    context |= {"table_1": [_linked(row, output) for row in rows], "table_1_columns": _filled(columns, rows)}
    context |= {"table_1_published": tables.table_1_published(), "table_1_published_columns": TABLE_1_PUBLISHED_COLUMNS}
    second = tables.table_2(results, scores)
    shown = [row for row in second if row["images"] is None or row["images"] >= MIN_COMMON_IMAGES]
    context |= {"table_2": shown, "table_2_columns": TABLE_2_COLUMNS, "min_common_images": MIN_COMMON_IMAGES}
    context["pairs_left_out"] = len({row["who"] for row in second} - {row["who"] for row in shown})
    context |= {"table_2_published": _published_2(), "table_2_published_columns": TABLE_2_PUBLISHED_COLUMNS}
    context["figures"] = report_figures.figures(results, scores)
    _write_csv(output / "report" / "table_1.csv", columns[:-1], rows)
    _write_csv(output / "report" / "table_2.csv", TABLE_2_COLUMNS, second)
    _write_csv(output / "report" / "classes.csv", context["class_columns"], context["classes"])
    if context["groups"]:
        _write_csv(output / "report" / "groups.csv", context["groups_columns"], context["groups"])
    found = context["criterion"]
    if found:
        plain = {key: value for key, value in found.items() if key != "folder"}
        artifacts.write_json(criterion_path(output), plain | {"line": context["criterion_line"]})
    path = output / "report.html"
    artifacts.write_text(path, _render(context))
    logger.info("wrote %s", path)
    return path


def criterion_path(output: str | Path) -> Path:
    """Where the verdict on the study's criterion stands: {met, line, best, difference, ...}."""
    return Path(output) / "report" / "criterion.json"


def _render(context: Mapping) -> str:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    raw = {name: Markup((_TEMPLATES / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    return environment.get_template("report.html.j2").render(style=raw["css"], script=raw["js"], **context)


def _table_1_columns(val_selected: bool) -> list[tuple]:
    """Table I's columns; those of val-selected weights stand behind the same scores of the last ones."""
    place = next(index for index, column in enumerate(TABLE_1_COLUMNS) if column[0] == "mAP50") + 1
    return [*TABLE_1_COLUMNS[:place], *(_VAL_SELECTED if val_selected else []), *TABLE_1_COLUMNS[place:]]


def _linked(row: dict, output: Path) -> dict:
    """Add links from the page to the row's run folders."""
    links = [{"href": os.path.relpath(folder, output) + "/", "text": folder.name} for folder in row["folders"]]
    return row | {"links": links, "quiet": row["arm"] == "prior-box baseline"}


def _filled(columns: Sequence[tuple], rows: Sequence[Mapping]) -> list[tuple]:
    """Leave out columns in which no row has anything."""
    return [column for column in columns if column[0] == "links" or any(row.get(column[0]) is not None for row in rows)]


def _published_2() -> list[dict]:
    keys = ("who", "mean", "std", "n", "definition", "row")
    return [dict(zip(keys, row, strict=True)) for row in paper_results.TABLE_2]


def _write_csv(path: Path, columns: Sequence[tuple], rows: Sequence[Mapping]) -> None:
    """Write rows with an interval as three columns, e.g. mAP, mAP low, mAP high."""
    names, flat = [], [{} for _ in rows]
    for key, head, kind in columns:
        parts = {head: "value", f"{head} low": "low", f"{head} high": "high"} if kind == "interval" else {head: None}
        names += parts
        for row, target in zip(rows, flat, strict=True):
            cell = row.get(key)
            target |= {name: (cell or {}).get(part) if part else cell for name, part in parts.items()}
    artifacts.write_csv(path, flat, names)
