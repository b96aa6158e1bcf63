"""Scores of a study's runs with their resamples, from `matches.npz` alone, kept in a cache with the report.

A run's score is a vector: the score, then the score under each resample of the test images (average precision corrected
for small-sample bias, evaluation/estimates.py). Runs on the same test images share the resamples, so that any two of
them are compared image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from d2_cxr.projects.label_efficiency.report.label_savings import Curves
from d2_cxr.projects.label_efficiency.report.study_results import Run, StudyResults

from d2_cxr import artifacts
from d2_cxr.evaluation import metrics
from d2_cxr.evaluation.estimates import corrected, image_weights, with_original

RESAMPLES = 1000
Classes = Sequence[str] | str | None  # names, "each", or all
Compute = Callable[[np.ndarray], np.ndarray]  # image weights (F, 1 + R) -> scores
Images = np.ndarray | None  # (F,) bool, the images that count


class Scores:
    """Computes and remembers score vectors (1 + R,) of runs."""

    def __init__(self, cache: Path, resamples: int = RESAMPLES, seed: int = 0):
        self.resamples, self.seed = resamples, seed
        self._folder = cache
        self._weights: dict[str, np.ndarray] = {}
        self._known: dict[tuple, np.ndarray] = {}

    def of(
        self, run: Run, metric: str, classes: Sequence[str] | None = None, images: np.ndarray | None = None
    ) -> np.ndarray:
        """Score and resamples (1 + R,) of a run for a name of `evaluation.metrics.OVERALL`, over these classes.

        `images`, (F,) bool, selects the test images that count; None: all.
        """
        compute = lambda weights: metrics.value(run.matches, metric, weights, classes)  # noqa: E731
        return _bias_corrected(self._get(run, metric, classes, compute, images), metrics.is_interpolated(metric))

    def by_class(self, run: Run, metric: str) -> dict[str, np.ndarray]:
        """The same for every class: {class: (1 + R,)}, for a name of `evaluation.metrics.CLASS_METRICS`."""
        names = run.matches.class_names
        values = metrics.CLASS_METRICS[metric].values
        table = self._get(run, metric, "each", lambda weights: values(run.matches, weights, range(len(names))))
        return dict(zip(names, _bias_corrected(table, metrics.CLASS_METRICS[metric].interpolated), strict=True))

    def _get(self, run: Run, metric: str, classes: Classes, compute: Compute, images: Images = None) -> np.ndarray:
        some = None if images is None else images.tobytes()
        key = (str(run.folder), metric, tuple(classes) if classes else None, some)
        if key not in self._known:
            self._known[key] = self._from_cache(run, metric, classes, compute, images)
        return self._known[key]

    def _from_cache(self, run: Run, metric: str, classes: Classes, compute: Compute, images: Images) -> np.ndarray:
        matches = artifacts.sha256_file(run.folder / "inference" / run.test / "matches.npz")
        about = [matches, metric, list(classes) if classes else None, self.resamples, self.seed]
        if images is not None:
            about.append(artifacts.sha256_bytes(images.tobytes()))
        path = self._folder / f"{artifacts.sha256_json(about)[:24]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        weights = self._image_weights(run)
        values = compute(weights if images is None else weights * images[:, None]).astype(np.float64)
        artifacts.write_with(path, lambda temporary: np.save(temporary, values))
        return values

    def _image_weights(self, run: Run) -> np.ndarray:
        if run.test not in self._weights:
            self._weights[run.test] = with_original(image_weights(run.matches, self.resamples, self.seed))
        return self._weights[run.test]


def _bias_corrected(values: np.ndarray, interpolated: bool) -> np.ndarray:
    return np.concatenate([values[..., :1], corrected(values, interpolated)], axis=-1)


def curves(
    results: StudyResults,
    scores: Scores,
    metric: str,
    classes: Sequence[str] | None = None,
    one_class: str | None = None,
) -> Curves:
    """Return the scores of every arm, label fraction and seed; NaN where a run is missing. `one_class` takes a class
    metric instead.
    """
    arms, label_fractions, seeds = results.arms, results.label_fractions, results.seeds
    table = np.full((len(arms), len(label_fractions), len(seeds), 1 + scores.resamples), np.nan)
    for run in results.runs:
        if run.done:
            place = arms.index(run.arm), label_fractions.index(run.label_fraction), seeds.index(run.seed)
            table[place] = scores.by_class(run, metric)[one_class] if one_class else scores.of(run, metric, classes)
    return Curves(arms, label_fractions, seeds, table[..., 0], table[..., 1:])
