"""Film-level bootstrap: intervals, paired tests between two runs, and pooling over seeds.

Films (patients, where known) are drawn with replacement, those with findings and normal ones apart, so that each
resample has the design of the original. Percentile intervals (Efron 1979, https://doi.org/10.1214/aos/1176344552).
A resample is a column of film weights; nothing is matched again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2_cxr.evaluation import metrics
from d2_cxr.evaluation.matching import Matches

LEVEL = 0.95


def film_weights(matches: Matches, resamples: int, seed: int) -> np.ndarray:
    """Draw resamples of films.

    Returns:
        (F, resamples) float32: whole numbers, the copies of each film in each resample.
    """
    groups = matches.film_group
    normal_group = np.ones(groups.max(initial=-1) + 1, dtype=bool)
    normal_group[groups[~matches.film_normal]] = False  # a patient with findings on one film is drawn with those
    rng = np.random.default_rng(seed)
    copies = np.zeros((len(normal_group), resamples), dtype=np.float32)
    for stratum in (np.flatnonzero(~normal_group), np.flatnonzero(normal_group)):
        if len(stratum):
            copies[stratum] = _draw(len(stratum), resamples, rng)
    return copies[groups]


def interval(values: np.ndarray, level: float = LEVEL) -> list[float] | None:
    """Percentile interval of resampled values (B,), undefined ones (NaN) left out; None where none is defined."""
    defined = values[np.isfinite(values)]
    if len(defined) == 0:
        return None
    tail = 50 * (1 - level)
    return [float(value) for value in np.percentile(defined, [tail, 100 - tail])]


def p_value(differences: np.ndarray) -> float:
    """Two-sided bootstrap p that a difference is zero, from its resamples (B,); at least 2 / (B + 1)."""
    defined = differences[np.isfinite(differences)]
    below, above = (defined <= 0).sum(), (defined >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(defined))))


def paired_difference(
    matches_a: Matches,
    matches_b: Matches,
    metric: str,
    classes: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Compare two runs on the same films: metric of a minus metric of b.

    Args:
        metric: a name of `metrics.OVERALL`.
        classes: the metric over these classes only; default all.

    Returns:
        difference, interval (95 %), p, value_a, value_b, n (films), resamples, undefined_resamples.

    Raises:
        ValueError: the runs were evaluated on different films or truth.
    """
    require_same_truth(matches_a, matches_b)
    weights = with_original(film_weights(matches_a, resamples, seed))
    a = metrics.value(matches_a, metric, weights, classes)
    b = metrics.value(matches_b, metric, weights, classes)
    return {**compared(a, b), "n": matches_a.num_films, "resamples": resamples}


def hierarchical(
    runs_a: Sequence[Matches],
    runs_b: Sequence[Matches] | None,
    metric: str,
    classes: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Mean over seeds of a metric, or of its difference between two arms, with an interval over seeds *and* films.

    Each resample draws runs with replacement and films with replacement, the same films for every run. With
    `runs_b`, run i of both arms belongs to the same seed, and seeds are drawn as pairs.

    Returns:
        As `paired_difference`; with one arm: value, interval, per_run. Both add num_runs.

    Raises:
        ValueError: the arms have different numbers of runs, or films differ.
    """
    if runs_b is not None and len(runs_b) != len(runs_a):
        raise ValueError(f"{len(runs_a)} runs of one arm cannot be paired with {len(runs_b)} of the other")
    for run in [*runs_a[1:], *(runs_b or [])]:
        require_same_truth(runs_a[0], run)
    weights = with_original(film_weights(runs_a[0], resamples, seed))
    draws = _draw(len(runs_a), resamples, np.random.default_rng([seed, 1]))
    share = with_original(draws.astype(np.float64)) / len(runs_a)  # (runs, 1 + B)
    a = np.stack([metrics.value(run, metric, weights, classes) for run in runs_a])
    common = {"n": runs_a[0].num_films, "num_runs": len(runs_a), "resamples": resamples}
    if runs_b is None:
        mean = _weighted_mean(a, share)
        return {
            "value": _plain(mean[0]),
            "interval": interval(mean[1:]),
            "per_run": [_plain(v) for v in a[:, 0]],
            **common,
        }
    b = np.stack([metrics.value(run, metric, weights, classes) for run in runs_b])
    return {**compared(_weighted_mean(a, share), _weighted_mean(b, share)), **common}


def with_original(weights: np.ndarray) -> np.ndarray:
    """Put the original sample, every weight 1, before the resamples: (N, B) -> (N, 1 + B)."""
    return np.concatenate([np.ones((len(weights), 1), dtype=weights.dtype), weights], axis=1)


def require_same_truth(a: Matches, b: Matches) -> None:
    """Raise ValueError unless both were evaluated on the same films, classes and truth boxes."""
    if a.class_names != b.class_names:
        raise ValueError(f"the runs have different classes: {', '.join(a.class_names)} / {', '.join(b.class_names)}")
    for name in ("film_names", "film_normal", "gt_film", "gt_class", "gt_area"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise ValueError(
                f"the runs were evaluated on different truth ({name} differs); only equal films can be paired"
            )


def _draw(number: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of `number` things is drawn in each resample, (number, resamples)."""
    drawn = rng.integers(number, size=(resamples, number)) + number * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=number * resamples)
    return counts.reshape(resamples, number).T


def compared(a: np.ndarray, b: np.ndarray) -> dict:
    """Describe a - b of two metrics under the same resamples, both (1 + B,): the original sample first."""
    difference = a - b
    return {
        "difference": _plain(difference[0]),
        "interval": interval(difference[1:]),
        "p": p_value(difference[1:]),
        "value_a": _plain(a[0]),
        "value_b": _plain(b[0]),
        "undefined_resamples": int((~np.isfinite(difference[1:])).sum()),
    }


def _weighted_mean(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (np.where(share > 0, values, 0) * share).sum(axis=0)  # a run not drawn must not spread its NaN


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
