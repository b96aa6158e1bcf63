"""A study's folder to its report: `report.html`, self-contained, and the tables as CSV.

Everything is computed from the run folders (docs/formats.md, section 3); a missing run is a gap.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from d2_cxr.projects.label_efficiency.report import paper_results, report_context, report_figures, tables
from d2_cxr.projects.label_efficiency.report.answer import baseline as baseline_arm
from d2_cxr.projects.label_efficiency.report.run_rows import run_rows
from d2_cxr.projects.label_efficiency.report.scores import RESAMPLES, Scores
from d2_cxr.projects.label_efficiency.report.study_results import MISTAKES, read_results
from markupsafe import Markup

from d2_cxr import artifacts
from d2_cxr.audit.pages import write_page

logger = logging.getLogger(__name__)
_TEMPLATES = Path(__file__).parent / "templates"

# key of a row, head, kind of cell (templates/cells.html.j2)
_ROW = [("arm", "initialization", "text"), ("labels", "labels, %", "whole")]
_SCORES = [(name, name, "interval") for name in tables.TABLE_1_METRICS]
_VAL_SELECTED = [(name, name, "interval") for name in tables.VAL_SELECTED_METRICS]
_SHARE = ("share of the baseline", "mAP / baseline's", "score")
TABLE_1_COLUMNS = [*_ROW, ("training images", "training images", "whole"), *_SCORES, _SHARE]
MORE_COLUMNS = [
    *_ROW,
    *[(name, name, "interval") for name in tables.MORE_METRICS],
    ("runs", "runs", "whole"),
    ("links", "run folders", "links"),
]
TABLE_1_PUBLISHED_COLUMNS = [
    ("arm", "row", "text"),
    ("labels", "labels, %", "whole"),
    ("training images", "training images", "whole"),
    *[(name, name, "score") for name in tables.TABLE_1_METRICS],
    _SHARE,
]
TABLE_2_COLUMNS = [
    ("who", "who", "text"),
    ("definition", "definition", "text"),
    ("mean", "mean IoU", "score"),
    ("std", "σ", "score"),
    ("n", "boxes or pairs", "whole"),
    ("images", "images both drew on", "whole"),
]
MIN_COMMON_IMAGES = 30  # pairs of readers with fewer common images are in the CSV alone
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
    baseline = baseline_arm(results)
    context = report_context.context(results, scores, output)
    rows = tables.table_1(results, scores, baseline)
    more = [*_ROW, *(_VAL_SELECTED if context["val_selected"] else []), *MORE_COLUMNS[len(_ROW) :]]
    context |= {"table_1": [_linked(row, output) for row in rows], "table_1_columns": _filled(TABLE_1_COLUMNS, rows)}
    context |= {"more_columns": _filled(more, rows)}
    context |= {"table_1_published": tables.table_1_published(), "table_1_published_columns": TABLE_1_PUBLISHED_COLUMNS}
    second = tables.table_2(results, scores)
    shown = [row for row in second if row["images"] is None or row["images"] >= MIN_COMMON_IMAGES]
    context |= {"table_2": shown, "table_2_columns": TABLE_2_COLUMNS, "min_common_images": MIN_COMMON_IMAGES}
    context["pairs_left_out"] = len({row["who"] for row in second} - {row["who"] for row in shown})
    context |= {"table_2_published": _published_2(), "table_2_published_columns": TABLE_2_PUBLISHED_COLUMNS}
    context["figures"] = report_figures.figures(results, scores)
    _write_csv(output / "report" / "table_1.csv", [*TABLE_1_COLUMNS, *more[len(_ROW) : -1]], rows)
    _write_csv(output / "report" / "table_2.csv", TABLE_2_COLUMNS, second)
    _write_csv(output / "report" / "classes.csv", context["class_columns"], context["classes"])
    compared = context["comparisons"] + context["controls"]
    _write_csv(output / "report" / "comparisons.csv", context["comparison_columns"], compared)
    if kept := run_rows(results):
        columns = list(dict.fromkeys(key for row in kept for key in row))
        artifacts.write_csv(output / "report" / "runs.csv", kept, columns)
    if context["pool_rows"]:
        _write_csv(output / "report" / "pool_sizes.csv", context["pool_columns"], context["pool_rows"])
    if context["subgroups"]:
        _write_csv(output / "report" / "subgroups.csv", context["subgroup_columns"], context["subgroups"])
    found = context["criterion"]
    if found:
        plain = {key: value for key, value in found.items() if key != "folder"}
        artifacts.write_json(criterion_path(output), plain | {"line": context["criterion_line"]})
    path = output / "report.html"
    script = Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8"))
    write_page(path, "report.html.j2", folder=_TEMPLATES, script=script, **context)
    logger.info("wrote %s", path)
    return path


def criterion_path(output: str | Path) -> Path:
    """Return the path of the verdict on the study's criterion: {met, line, best, difference, ...}."""
    return Path(output) / "report" / "criterion.json"


def _linked(row: dict, output: Path) -> dict:
    """Add links from the page to the row's run folders."""
    links = []
    for folder in row["folders"]:
        links.append({"href": os.path.relpath(folder, output) + "/", "text": folder.name})
        if (folder / MISTAKES).is_file():
            links.append({"href": os.path.relpath(folder / MISTAKES, output), "text": "its mistakes"})
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
