"""Is it better to label more images or to collect unlabeled ones? Gains of larger pools beside those of more labels.

Arms that differ in their pool alone are one family. The study's baseline, which learns from no unlabeled image, is its
pool of size 0. All gains are paired by seed and test image, with the resamples of label_savings.py.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from d2_cxr.projects.label_efficiency.arms import POOL_KEYS
from d2_cxr.projects.label_efficiency.pools import pool_words
from d2_cxr.projects.label_efficiency.report.answer import baseline
from d2_cxr.projects.label_efficiency.report.figures import learning_curves
from d2_cxr.projects.label_efficiency.report.label_savings import compare, interval, resample, share_reaching
from d2_cxr.projects.label_efficiency.report.report_figures import band, primary_metric, primary_name
from d2_cxr.projects.label_efficiency.report.scores import Scores, curves
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults
from d2_cxr.projects.label_efficiency.report.tables import cell, training_images
from markupsafe import Markup

COLUMNS = [
    ("arm", "initialization", "text"),
    ("pool", "pool", "text"),
    ("images", "unlabeled images", "whole"),
    ("labels", "labels, %", "whole"),
    ("labeled", "labeled images", "whole"),
    ("score", "score", "interval"),
    ("gain", "gain over no pool", "interval"),
    ("worth", "worth in labeled images (95 %)", "text"),
    ("runs", "runs", "whole"),
]
Cell = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Pool:
    """An arm's pool: its name in words, and its images at each label fraction (percent), where a run states them."""

    arm: str
    words: str
    images: Mapping[int, int]

    def at(self, label_fraction: int) -> str:
        """Return the pool at a label fraction in words, e.g. "412 unlabeled images"."""
        known = self.images.get(label_fraction)
        return f"the pool {self.words}" if known is None else f"{known:,} unlabeled images"

    def legend(self) -> str:
        """Return the pool for a legend; a teacher's shrinks with its labels."""
        ends = sorted({min(self.images.values()), max(self.images.values())}) if self.images else []
        return f"{'–'.join(f'{end:,}' for end in ends) or self.words} unlabeled images ({self.arm})"


class PoolSizes:
    """What a report says about pools; `families` is empty where no arms differ in their pool alone."""

    def __init__(self, results: StudyResults, scores: Scores):
        self._results, self.reference, self.families = results, "", families(results)
        if self.families:
            self.reference = baseline(results)
            self._table = curves(results, scores, *primary_metric(results))
            self._drawn = resample(self._table)
            labeled = [training_images(results.select(self.reference, p)) for p in self._table.label_fractions]
            self._labeled = np.array([np.nan if count is None else count for count in labeled])

    def rows(self) -> list[dict]:
        """Return a row for each pool, none included, and label fraction that has runs."""
        none = Pool(self.reference, "none", dict.fromkeys(self._results.label_fractions, 0))
        shown = [none, *(pool for family in self.families for pool in family)] if self.families else []
        return [
            self._row(pool, label_fraction)
            for pool in shown
            for label_fraction in self._table.label_fractions
            if self._results.select(pool.arm, label_fraction)
        ]

    def _row(self, pool: Pool, label_fraction: int) -> dict:
        runs, place = self._results.select(pool.arm, label_fraction), self._table.label_fractions.index(label_fraction)
        row = {"arm": pool.arm, "pool": pool.words, "images": pool.images.get(label_fraction), "labels": label_fraction}
        row |= {"labeled": training_images(runs), "score": cell(self._table, pool.arm, label_fraction)}
        row |= {"runs": len(runs), "gain": None, "worth": None}
        if pool.arm != self.reference:
            row |= {"gain": _known(_cell(*self._gain(pool.arm, place))), "worth": self._worth(pool.arm, place)}
        return row

    def lines(self) -> list[str]:
        """Return the answer in sentences: for each family and label fraction, and what a larger pool alone gains."""
        return [line for family in self.families for line in (*self._answers(family), *self._growth(family))]

    def figures(self) -> list[dict]:
        """Return a chart for each family: a line for each pool over the labeled images."""
        name, found = primary_name(self._results), []
        images = {
            p: training_images([run for run in self._results.runs if run.done and run.label_fraction == p])
            for p in self._results.label_fractions
        }
        for family in self.families:
            lines = {f"no unlabeled images ({self.reference})": band(self._table, self._drawn, self.reference)}
            lines |= {pool.legend(): band(self._table, self._drawn, pool.arm) for pool in family}
            caption = f"{', '.join(pool.arm for pool in family)}: {name} (fraction of 1) against the labeled images, a "
            caption += f"line for each pool, mean over {len(self._results.seeds)} seeds with 95 % bands"
            found.append({"chart": Markup(learning_curves(lines, name, images)), "caption": caption + "."})
        return found

    def _gain(self, arm: str, place: int) -> tuple[float, np.ndarray]:
        """Return an arm's score minus the baseline's at a label fraction: the mean, and its resamples (R,)."""
        ours, theirs = (self._table.arms.index(name) for name in (arm, self.reference))
        point = self._table.mean(arm)[place] - self._table.mean(self.reference)[place]
        return float(point), self._drawn[ours, place] - self._drawn[theirs, place]

    def _own(self) -> list[int]:
        """Return the places of the label fractions at which the baseline was run."""
        return np.flatnonzero(np.isfinite(self._table.mean(self.reference))).tolist()

    def _worth(self, arm: str, place: int) -> str | None:
        """Return how many more labels bring the baseline to an arm's score, with interval; None where unknown."""
        rest = [index for index in self._own() if index >= place]
        if len(rest) < 2 or rest[0] != place or np.isnan(self._labeled[rest]).any():
            return None
        shares, index = np.array(self._table.label_fractions)[rest], self._table.arms.index(self.reference)
        target = self._table.mean(arm)[[place]]
        found = share_reaching(shares, self._table.mean(self.reference)[rest][:, None], target)
        drawn = share_reaching(shares, self._drawn[index][rest], self._drawn[self._table.arms.index(arm), place])
        edges = interval(drawn)
        if np.isnan(found[0]) or edges is None:
            return None

        def more(share: float) -> str:
            images = self._labeled[rest]
            if np.isinf(share):
                return f"more than {images[-1] - images[0]:,.0f}"
            return f"{np.interp(share, shares, images) - images[0]:,.0f}"

        return f"{more(found[0])} ({more(edges[0])} to {more(edges[1])})"

    def _answers(self, family: list[Pool]) -> list[str]:
        own = self._own()
        if len(own) < 2:
            return ["One label fraction was run without unlabeled images, so what more labels gain is not known."]
        steps = [(place, after) for place, after in itertools.pairwise(own)]
        return [line for place, after in steps if (line := self._answer(family, place, after))]

    def _answer(self, family: list[Pool], place: int, after: int) -> str | None:
        """Say whether any pool gains as much as the labels up to the next label fraction; None without a run."""
        fraction, reference = self._table.label_fractions[place], self._table.arms.index(self.reference)
        pools = [pool for pool in family if self._results.select(pool.arm, fraction)]
        if not pools or np.isnan(self._labeled[[place, after]]).any():
            return None
        mean, drawn = self._table.mean(self.reference), self._drawn[reference]
        labels = float(mean[after] - mean[place]), drawn[after] - drawn[place]
        number = f"{self._labeled[after] - self._labeled[place]:,.0f} more labeled images"
        gains = {pool: self._gain(pool.arm, place) for pool in pools}
        against = {pool: _cell(gain[0] - labels[0], gain[1] - labels[1]) for pool, gain in gains.items()}
        parts = [
            f"{pool.at(fraction)} ({pool.arm}) {_text(_cell(*gains[pool]))}, a difference of {_text(against[pool])}"
            for pool in pools
        ]
        return (
            f"With {self._labeled[place]:,.0f} labeled images {_verdict(against, number, fraction)}. The labels gain "
            f"{_text(_cell(*labels))} in {primary_name(self._results)}; {'; '.join(parts)}."
        )

    def _growth(self, family: list[Pool]) -> list[str]:
        small, large = family[0], family[-1]
        found = compare(self._table, large.arm, small.arm)
        if found["difference"] is None:
            return []
        low, high = found["interval"] or (None, None)
        gained = {"value": found["difference"], "low": low, "high": high}
        verdict = {1: "a gain", -1: "a loss", 0: "neither a gain nor a loss is shown"}[_sign(gained)]
        limit = found["detectable"] and f"; a true difference below {found['detectable']:.3f} would often be missed"
        return [
            f"The larger pool by itself, {large.legend()} instead of {small.legend()}, over the label fractions "
            f"{', '.join(map(str, found['label_fractions']))} %: {_text(gained)}, {verdict}{limit or ''}."
        ]


def families(results: StudyResults) -> list[list[Pool]]:
    """Return the arms that differ in their pool alone, the smallest pool first; groups of two and more.

    Not the complement of the labels, whose size is tied to their number, and no pretraining on the renderer's truth.
    """
    found: dict[str, list[Pool]] = {}
    for name in results.arms:
        key = _but_for_its_pool(results.settings, results.settings.get("arms", {}).get(name, {}))
        if key is not None and name != baseline(results):
            found.setdefault(key, []).append(_pool(results, name))
    return [sorted(pools, key=_size) for pools in found.values() if len({pool.words for pool in pools}) > 1]


def _plans(settings: Mapping, arm: Mapping) -> tuple[Mapping | None, Mapping | None]:
    """Return an arm's pretraining and its teacher, None where it has none."""
    return settings.get("pretraining", {}).get(arm.get("weights")), arm.get("teacher")


def _but_for_its_pool(settings: Mapping, arm: Mapping) -> str | None:
    plans = _plans(settings, arm)
    known = [plan for plan in plans if plan is not None]
    if not known or any(plan.get("pool") == "complement" or plan.get("method") == "supervised" for plan in known):
        return None
    left_out = {"teacher", "label_fractions", *(["weights"] if plans[0] else [])}
    rest = [{key: value for key, value in arm.items() if key not in left_out}]
    rest += [{key: value for key, value in (plan or {}).items() if key not in POOL_KEYS} for plan in plans]
    return json.dumps([*rest, plans[0] is not None, plans[1] is not None], sort_keys=True)


def _pool(results: StudyResults, arm: str) -> Pool:
    words = dict.fromkeys(pool_words(plan) for plan in _plans(results.settings, results.settings["arms"][arm]) if plan)
    images = {}
    for label_fraction in results.label_fractions:
        counts = [count for run in results.select(arm, label_fraction) if (count := pool_images(results.settings, run))]
        if counts:
            images[label_fraction] = round(sum(counts) / len(counts))
    return Pool(arm, " and ".join(words), images)


def pool_images(settings: Mapping, run: Run) -> int | None:
    """Return the number of images that a run's pretraining saw, else its teacher; None without either."""
    pretrained, teacher = _plans(settings, settings.get("arms", {}).get(run.arm, {}))
    card = run.card or {}
    if pretrained is not None:
        return (card.get("weights_card") or {}).get("num_images")
    return ((card.get("preview") or {}).get("teacher") or {}).get("pool_images") if teacher is not None else None


def _size(pool: Pool) -> float:
    return max(pool.images.values(), default=0)


def _verdict(against: Mapping[Pool, Cell], number: str, fraction: int) -> str:
    """Return the answer in a clause; an interval of the difference around 0 leaves it open."""
    signs = {pool: _sign(difference) for pool, difference in against.items()}
    larger = [pool for pool, sign in signs.items() if sign > 0]
    if larger:
        return f"{larger[0].at(fraction)} gain more than {number}"
    if all(sign < 0 for sign in signs.values()):
        return f"{number} gain more than every pool that was run, the largest of {list(signs)[-1].at(fraction)}"
    return f"it cannot be said whether unlabeled images gain as much as {number}"


def _sign(difference: Cell) -> int:
    """Return 1 or -1 where the whole interval is above or below 0, else 0."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def _cell(point: float, resamples: np.ndarray) -> Cell:
    low, high = interval(resamples) or (None, None)
    return {"value": point, "low": low, "high": high}


def _known(found: Cell) -> Cell | None:
    return found if found["value"] is not None and np.isfinite(found["value"]) else None


def _text(found: Cell) -> str:
    text = f"{found['value']:+.3f}"
    if found["low"] is not None:
        text += f" ({found['low']:+.3f} to {found['high']:+.3f})"
    return text.replace("-", "−")
