"""One plain row for each run of a study: what is kept of it where its run folders are not (docs/formats.md)."""

from __future__ import annotations

from d2_cxr.projects.label_efficiency.report.pool_sizes import pool_images
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults

from d2_cxr import artifacts


def run_rows(results: StudyResults) -> list[dict]:
    """Return a row for each finished run, the prior-box baseline's included, in the order of the plan.

    A row has arm, label_fraction (percent), seed, pool_images (of arms with a pool), training and test images, every
    metric with the ends of its interval (`_low`, `_high`; rounded to four places), commit, iterations and the sha256 of
    matches.npz.
    """
    runs = [run for run in (*results.runs, *results.prior_box) if run.evaluation]
    return [_row(run, pool_images(results.settings, run)) for run in runs]


def _row(run: Run, pool: int | None) -> dict:
    evaluation, card = run.evaluation or {}, run.card or {}
    row: dict = {"arm": run.arm, "label_fraction": run.label_fraction, "seed": run.seed}
    row |= {} if pool is None else {"pool_images": pool}
    row |= {"training_images": card.get("num_train_images"), "test_images": evaluation["num_images"]}
    for name, metric in evaluation["metrics"].items():
        low, high = metric["interval"] or (None, None)
        row |= {name: _rounded(metric["value"]), f"{name}_low": _rounded(low), f"{name}_high": _rounded(high)}
    row |= {"commit": (card.get("commit") or "")[:12], "iterations": card.get("iterations")}
    matches = run.folder / "inference" / run.test / "matches.npz"
    return row | {"matches_sha256": artifacts.sha256_file(matches) if matches.is_file() else None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
