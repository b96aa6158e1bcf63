"""The page of label statistics: one HTML file with its charts inside, for a wide screen and a narrow one."""

from __future__ import annotations

import os

from d2_cxr.audit import label_charts, label_text, pages
from d2_cxr.counted import counted
from d2_cxr.labels.problems import PROBLEMS


def write_page(path: str | os.PathLike, found: dict, audits: dict, source: str, command: str) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        found: `statistics.label_statistics`.
        audits: `label_audits.label_audits`.
        source: what the table is called in the title.
        command: that made the page.
    """
    sections = [{**_EMPTY, **section} for section in [*_counts(found), *_audits(found, audits)]]
    pages.write_page(
        path,
        "labels.html.j2",
        found=found,
        split=label_text.split_name(found),
        source=source,
        command=command,
        sections=sections,
    )


_EMPTY: dict = {"lines": [], "audit": None, "chart": None, "tables": [], "folded": [], "kind": "numbers"}


def _counts(found: dict) -> list[dict]:
    problems = label_text.problems(found, PROBLEMS)
    bad = {"tables": [problems], "kind": ""} if problems[1] else {"lines": ["Every row was usable."]}
    return [
        {"title": "Images and boxes", "tables": [label_text.overview(found)]},
        {"title": "Rows that could not be used as they are", **bad},
        {
            "title": "Class balance before and after resampling",
            "lines": [
                "A class on a fraction f of the training images has the repeat factor max(1, √(0.4 / f)), an image the "
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
        "No: the order of the images predicts"
        if audit["p"] < 0.05
        else "There is no evidence against it: the order hardly predicts"
    )
    return {
        "title": "Is the split random?",
        "lines": [
            f"{verdict} how many boxes an image has ({found['split']['rule']} split, training minus test images "
            f"{audit['train_minus_test']:+.2f} fused boxes per image, permutation p = {audit['p']:.4f}). In order of "
            "first appearance in shuffled rows, images with more rows come earlier: such a split has a slope by itself."
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
            "two IoU columns follow two definitions; do not mix them.",
        ],
        "audit": "agreement",
        "tables": [_most_in_common(shown)],
        "folded": [
            (f"{counted(len(table[1]), 'pair')}, {subset} images with findings", table) for subset, table in shown
        ],
    }


def _most_in_common(shown: list[tuple[str, label_text.Table]]) -> label_text.Table:
    """Return the three pairs with most images in common, each subset's one below the other's."""
    headers = shown[0][1][0]
    rows = [[f"{row[0]}, {subset} images", *row[1:]] for subset, table in shown for row in table[1][:3]]
    return headers, rows


def _box_f1(audit: dict) -> dict:
    return {
        "title": "Agreement of readers: box F1",
        "lines": ["Boxes of two readers are matched one to one, best IoU first, and pooled over all pairs of readers."],
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
            "read by the training images' readers measures how well the model imitates them."
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
            f"The score is the fraction of positive images among those that the same readers read in the other "
            f"{audit['folds'] - 1} of {audit['folds']} folds. {', '.join(top['readers'])} read "
            f"{counted(top['images'], 'image')}, {top['with_finding']:,} of them with a finding; the others include "
            f"{top['with_finding_elsewhere']:,} with a finding. The readers of an image must never be an input."
        ],
        "audit": "audits.readers_predict_findings",
        "chart": label_charts.readers_predict(audit),
        "tables": [label_text.readers_predict(audit)],
    }
