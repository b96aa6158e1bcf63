"""How many labels an initialization saves: one arm's curve against another's full-label score, with intervals.

Every run has its score and the same score under R bootstrap weights of its test images. One hierarchical resample draws
seeds with replacement and uses the same image weights for all runs of a seed: runs of one seed share subset and images,
so arms are compared pair by pair. Arrays in, plain values out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curves:
    """Scores of a study; A arms, P label fractions (ascending), S seeds, R resamples. NaN is a missing run."""

    arms: tuple[str, ...]
    label_fractions: tuple[int, ...]
    seeds: tuple[int, ...]
    points: np.ndarray  # (A, P, S)
    replicates: np.ndarray  # (A, P, S, R)

    def mean(self, arm: str) -> np.ndarray:
        """Mean over seeds (P,), NaN where a label fraction has no run."""
        return _mean(self.points[self.arms.index(arm)], axis=1)


def resample(curves: Curves, seed: int = 0) -> np.ndarray:
    """Draw seeds and images; return the resampled mean curves (A, P, R)."""
    num_seeds, num_resamples = len(curves.seeds), curves.replicates.shape[-1]
    drawn = np.random.default_rng(seed).integers(num_seeds, size=(num_resamples, num_seeds))
    rows = np.arange(num_resamples)[:, None]
    by_resample = np.moveaxis(curves.replicates, -1, 0)  # (R, A, P, S)
    return np.moveaxis(_mean(np.moveaxis(by_resample, -1, 1)[rows, drawn], axis=1), 0, -1)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of values (R,); infinities count as "beyond", None when nothing is known."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    tail = (1 - level) / 2
    ordered = np.sort(values)  # np.quantile would interpolate between a number and infinity
    low = ordered[math.floor(tail * (len(ordered) - 1))]
    return float(low), float(ordered[math.ceil((1 - tail) * (len(ordered) - 1))])


def rising(curve: np.ndarray) -> np.ndarray:
    """Return curves (P, ...) after isotonic regression along the first axis: the nearest that never fall with more
    labels.

    By the max-min formula (Barlow et al. 1972): at i, the largest over starts j <= i of the least mean over ends
    k >= i.
    """
    total = np.concatenate([np.zeros_like(curve[:1]), np.cumsum(curve, axis=0)])
    result = np.empty_like(curve)
    for i in range(len(curve)):
        best = [
            np.min([(total[k + 1] - total[j]) / (k + 1 - j) for k in range(i, len(curve))], axis=0)
            for j in range(i + 1)
        ]
        result[i] = np.max(best, axis=0)
    return result


def share_reaching(label_fractions: np.ndarray, curve: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the smallest label fraction (percent, (R,)) at which the rising curve (P, R) reaches the target (R,).

    Linear over the log label fraction; infinity if it is not reached; the smallest fraction that was run if it is
    reached there already; NaN if a run is missing.
    """
    log_share, curve = np.log(np.asarray(label_fractions, dtype=float)), rising(np.atleast_2d(curve))
    share = np.full(curve.shape[1], np.inf)
    for i in reversed(range(len(curve))):
        reached = curve[i] >= target
        before = curve[i - 1] if i else np.full_like(target, np.nan)
        rise = curve[i] - before
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.where(rise > 0, (target - before) / rise, 1.0)
        start = log_share[i - 1] if i else log_share[0]
        at = np.exp(start + np.clip(np.nan_to_num(part, nan=1.0), 0, 1) * (log_share[i] - start))
        share = np.where(reached, at, share)
    return np.where(np.isnan(curve).any(axis=0) | np.isnan(target), np.nan, share)


def label_savings(curves: Curves, arm: str, reference: str, seed: int = 0, at: int | None = None) -> dict:
    """Return the label fraction with which `arm` reaches the score of `reference` at a label fraction.

    Args:
        at: label fraction of `reference`, percent; default: the largest.

    Returns:
        at; reference_score; share (percent, None if not reached or not known); interval [low, high], where None means
        "not reached"; reached: fraction of the resamples in which it is reached; seeds.
    """
    drawn = resample(curves, seed)
    own = np.isfinite(curves.mean(arm))  # an arm may have been run at some label fractions only
    place = len(curves.label_fractions) - 1 if at is None else curves.label_fractions.index(at)
    label_fractions, target = np.array(curves.label_fractions)[own], curves.mean(reference)[place, None]
    share, known, shares = np.nan, None, np.empty(0)
    if own.any():
        share = share_reaching(label_fractions, curves.mean(arm)[own, None], target)[0]
        full = drawn[curves.arms.index(reference), place]
        shares = share_reaching(label_fractions, drawn[curves.arms.index(arm)][own], full)
        known = interval(shares)
    return {
        "arm": arm,
        "reference": reference,
        "at": curves.label_fractions[place],
        "reference_score": _plain(target[0]),
        "share": _plain(share),
        "interval": [_plain(edge) for edge in known] if known else None,
        "reached": _plain(np.mean(np.isfinite(shares[~np.isnan(shares)]))) if known else None,
        "known": bool(known) and not math.isnan(share),
        "seeds": _common_seeds(curves, arm, reference),
    }


def area_between(label_fractions: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Return the mean difference of two curves (P, ...) over the log label fraction: trapezoids divided by the range.

    With a single label fraction it is the difference there.
    """
    if len(difference) == 1:
        return difference[0]
    log_share = np.log(np.asarray(label_fractions, dtype=float))
    width = np.diff(log_share).reshape(-1, *[1] * (difference.ndim - 1))
    return ((difference[1:] + difference[:-1]) / 2 * width).sum(axis=0) / (log_share[-1] - log_share[0])


def _common_seeds(curves: Curves, arm: str, reference: str) -> int:
    """Count the seeds for which both arms have a run; in an unfinished study not all do."""
    first, second = (np.isfinite(curves.points[curves.arms.index(name)]) for name in (arm, reference))
    return int((first & second).any(axis=0).sum())


def compare(curves: Curves, arm: str, reference: str, seed: int = 0) -> dict:
    """Return the primary endpoint: area between two arms' curves where both have runs, with interval and p."""
    first, second = curves.arms.index(arm), curves.arms.index(reference)
    both = np.isfinite(curves.mean(arm)) & np.isfinite(curves.mean(reference))
    label_fractions = np.array(curves.label_fractions)[both]
    if not len(label_fractions):
        return {
            "arm": arm,
            "reference": reference,
            "difference": None,
            "interval": None,
            "p": None,
            "label_fractions": [],
        }
    drawn = resample(curves, seed)
    point = area_between(label_fractions, (curves.mean(arm) - curves.mean(reference))[both])
    areas = area_between(label_fractions, (drawn[first] - drawn[second])[both])
    return {
        "arm": arm,
        "reference": reference,
        "difference": _plain(point),
        "interval": list(interval(areas) or ()) or None,
        "p": two_sided_p(areas),
        "detectable": detectable_difference(areas),
        "label_fractions": [int(p) for p in label_fractions],
        "seeds": _common_seeds(curves, arm, reference),
    }


def detectable_difference(differences: np.ndarray) -> float | None:
    """Return the smallest true difference that a study like this one finds in 4 of 5 repetitions; None if unknown.

    A two-sided test at 5 % with 80 % power needs z(.975) + z(.80) = 2.80 standard errors (Cohen 1988, ch. 2); the
    standard error is the standard deviation of the resampled differences, over this study's own seeds and images.
    """
    known = differences[np.isfinite(differences)]
    return float(_POWER_80 * np.std(known, ddof=1)) if len(known) > 1 else None


_POWER_80 = 1.959964 + 0.841621  # standard normal quantiles


def two_sided_p(differences: np.ndarray) -> float | None:
    """Return twice the smaller part of resampled differences on one side of 0, at least 2 / (R + 1)."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return None
    below, above = np.sum(known <= 0), np.sum(known >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(known) + 1)))


def next_labels(num_labels: np.ndarray, curve: np.ndarray, replicates: np.ndarray, more: int) -> dict | None:
    """Return what `more` labels gain beyond the largest label fraction, by a fitted power law; None below five
    fractions.

    score(n) = ceiling - loss * n ** -rate, fitted by least squares over a grid of rates.

    Args:
        num_labels: labeled images (P,), ascending.
        curve, replicates: mean scores (P,) and their resamples (P, R).
    """
    if len(num_labels) < 5 or np.isnan(curve).any():
        return None
    gains = _power_law_gain(num_labels, np.column_stack([curve, replicates]), more)
    return {"more": more, "gain": _plain(gains[0]), "interval": [_plain(edge) for edge in interval(gains[1:])]}


def _power_law_gain(num_labels: np.ndarray, curves: np.ndarray, more: int) -> np.ndarray:
    """Predicted gain (C,) of `more` labels for curves (P, C)."""
    best_error, gain = np.full(curves.shape[1], np.inf), np.zeros(curves.shape[1])
    last = num_labels[-1]
    for rate in np.geomspace(0.05, 2, 40):
        features = np.column_stack([np.ones(len(num_labels)), (num_labels / last) ** -rate])
        solution = np.linalg.lstsq(features, curves, rcond=None)[0]
        error = ((features @ solution - curves) ** 2).sum(axis=0)
        here = solution[1] * (((last + more) / last) ** -rate - 1)
        gain, best_error = np.where(error < best_error, here, gain), np.minimum(error, best_error)
    return gain


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean without missing runs; NaN, without a warning, where there is none."""
    count = np.isfinite(values).sum(axis=axis)
    total = np.nansum(values, axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
