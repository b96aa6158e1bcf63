"""The page of label statistics: one HTML file with its charts inside, for a wide screen and a narrow one."""

from __future__ import annotations

import os

from d2_cxr import artifacts
from d2_cxr.audit import label_charts, label_text
from d2_cxr.labels.annotations import PROBLEMS

_TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Label statistics: {{ source }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-top: 1px solid #ddd; padding-top: 1rem; }
.wide { overflow-x: auto; margin: .8rem 0; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; } .words td:last-child { text-align: left; white-space: normal; }
th { background: #f6f6f6; } code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; } p.note { color: #555; }
summary { cursor: pointer; padding: .3rem 0; }
@media (max-width: 40rem) { th, td { padding: .2rem .35rem; } th, td:first-child { white-space: normal; } }
</style></head><body>
<h1>Label statistics: {{ source }}</h1>
<p>Layout <b>{{ found.source.flavor }}</b>, {{ split }}.
From labels alone; no image was opened.</p>
<p><code>{{ command }}</code></p>
{% macro grid(table, kind="") %}<div class="wide {{ kind }}"><table>
{% if table[0] | select | list %}<tr>{% for head in table[0] %}<th>{{ head }}</th>{% endfor %}</tr>{% endif %}
{% for row in table[1] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endmacro %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% for line in section.lines %}<p>{{ line }}</p>{% endfor %}
{% if section.audit %}<p class="note"><code>{{ command }}</code>,
key <code>{{ section.audit }}</code> of its JSON</p>{% endif %}
{% if section.chart %}{{ section.chart | safe }}{% endif %}
{% for table in section.tables %}{{ grid(table, section.kind) }}{% endfor %}
{% for title, table in section.folded %}<details><summary>{{ title }}</summary>{{ grid(table) }}</details>{% endfor %}
{% endfor %}
</body></html>
"""


def write_page(path: str | os.PathLike, found: dict, audits: dict, source: str, command: str) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        found: `statistics.label_statistics`.
        audits: `audits.label_audits`.
        source: what the table is called in the title.
        command: that made the page.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    sections = [{**_EMPTY, **section} for section in [*_counts(found), *_audits(found, audits)]]
    page = environment.from_string(_TEMPLATE).render(
        found=found, split=label_text.split_name(found), source=source, command=command, sections=sections
    )
    artifacts.write_text(path, page)


_EMPTY = {"lines": [], "audit": None, "chart": None, "tables": [], "folded": [], "kind": ""}


def _counts(found: dict) -> list[dict]:
    problems = label_text.problems(found, PROBLEMS)
    bad = {"tables": [problems], "kind": "words"} if problems[1] else {"lines": ["Every row was usable."]}
    return [
        {"title": "Images and boxes", "tables": [label_text.overview(found)]},
        {"title": "Rows that could not be used as they stand", **bad},
        {
            "title": "Class balance before and after resampling",
            "lines": [
                "A class on a share f of the training images has the repeat factor max(1, √(0.4 / f)), an image the "
                "largest of its classes'. Exposures: how many images of an epoch show the class; the ceiling is what "
                "rounding every image's factor up gives."
            ],
            "chart": label_charts.class_balance(found),
            "tables": [label_text.classes(found)],
        },
        {
            "title": "Label fractions",
            "chart": label_charts.partition(found),
            "tables": [label_text.fractions(found)],
        },
    ]


def _audits(found: dict, audits: dict) -> list[dict]:
    sections = [_position(found, audits["density_by_position"])] if "p" in audits["density_by_position"] else []
    if found["agreement"]:
        sections.append(_agreement(found))
    if "box_f1" in audits:
        sections += [_box_f1(audits["box_f1"]), _shift(audits["reader_shift"])]
        sections.append(_predict(audits["readers_predict_findings"]))
    return sections


def _position(found: dict, audit: dict) -> dict:
    verdict = (
        "No: the order of the images tells"
        if audit["p"] < 0.05
        else "Nothing speaks against it: the order hardly tells"
    )
    return {
        "title": "Is the split random?",
        "lines": [
            f"{verdict} how many boxes an image has ({found['split']['rule']} split, training minus test images "
            f"{audit['train_minus_test']:+.2f} fused boxes an image, permutation p = {audit['p']:.4f}). Images in order "
            "of first appearance in shuffled rows come sooner the more rows they have: such a split slopes by itself."
        ],
        "audit": "audits.density_by_position",
        "chart": label_charts.density(audit),
        "tables": [label_text.density(found), label_text.position(audit)],
    }


def _agreement(found: dict) -> dict:
    subsets = [subset for subset in ("test", "all") if label_text.agreement(found, subset)[1]]
    shown = [(subset, label_text.agreement(found, subset)) for subset in subsets]
    return {
        "title": "Agreement of readers: IoU of their boxes",
        "lines": [
            "Every pair of same-class boxes of two readers on one image; mean ± standard deviation. “Both left” counts "
            "images on which both readers remain when (image, class) groups with fewer than two boxes are dropped. The "
            "two IoU columns are two definitions and are not to be mixed.",
        ],
        "audit": "agreement",
        "tables": [_most_in_common(shown)],
        "folded": [(f"{len(table[1])} pairs, {subset} images with findings", table) for subset, table in shown],
    }


def _most_in_common(shown: list[tuple[str, label_text.Table]], count: int = 3) -> label_text.Table:
    """Return the pairs with most images in common, each subset's one below the other's."""
    headers = shown[0][1][0]
    rows = [[f"{row[0]}, {subset} images", *row[1:]] for subset, table in shown for row in table[1][:count]]
    return headers, rows


def _box_f1(audit: dict) -> dict:
    return {
        "title": "Agreement of readers: box F1",
        "lines": [
            "Boxes of two readers matched one to one, best IoU first; pooled over every pair on the images both read."
        ],
        "audit": "audits.box_f1",
        "chart": label_charts.box_f1(audit),
        "tables": [label_text.box_f1(audit)],
    }


def _shift(audit: dict) -> dict:
    top = audit["commonest"]
    names = f"{', '.join(top['readers'])}{' together' * (len(top['readers']) > 1)}"
    shares = ", ".join(f"{100 * share:.0f} % of {part}" for part, share in top["share"].items() if share is not None)
    alone = ", ".join(f"{count} in {part}" for part, count in top["images_without_any_of_them"].items())
    return {
        "title": "Who read which part",
        "lines": [
            f"{names} read {shares}. Images that none of them read: {alone}. A test image "
            "read by the training images' readers says how well their hand is imitated."
        ],
        "audit": "audits.reader_shift",
        "chart": label_charts.readers(audit),
        "tables": [label_text.readers(audit)],
    }


def _predict(audit: dict) -> dict:
    top = audit["commonest"]
    return {
        "title": "How far the readers' names alone predict findings",
        "lines": [
            f"Scored by the share of positive images that the same readers read in the other {audit['folds'] - 1} of "
            f"{audit['folds']} folds. {', '.join(top['readers'])} read {top['images']:,} images, {top['with_finding']:,} "
            f"of them with a finding; the other images with a finding are {top['with_finding_elsewhere']:,}. Who read a "
            "image must never be an input."
        ],
        "audit": "audits.readers_predict_findings",
        "chart": label_charts.readers_predict(audit),
        "tables": [label_text.readers_predict(audit)],
    }
