"""How well header fields alone predict whether an image has a finding.

A detector can learn the scanner instead of the finding where the two go together: a ward with its own machine, a
hospital with its own format. This audit asks a logistic regression that sees nothing but the manifest's fields. An
AUROC well above 0.5 says that image-level results on this set may rest on such a shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

CATEGORIES = (
    *("transfer_syntax", "photometric", "bits_stored", "signed", "rescale", "spacing_tag", "pixel_spacing"),
    *("view_position", "body_part"),
)
NUMBERS = ("rows", "columns")
_FOLDS = 5
_FEWEST = 20  # images of either kind: below that an AUROC says nothing
_RESAMPLES = 1000


def header_shortcut_audit(
    rows: Sequence[Mapping[str, str]], has_finding: Sequence[bool], groups: Sequence | None = None
) -> dict | None:
    """Return how well the header predicts the label, cross-validated.

    Args:
        rows: of the manifest, one per image.
        has_finding: the label of each.
        groups: patient of each image, whose images stay in one fold; None: every image alone.

    Returns:
        auroc, low and high (95 % bootstrap interval over images), images, with_finding; None where there are fewer than
        20 images of either kind, or all headers are alike.
    """
    labels = np.asarray(has_finding, dtype=bool)
    if min(labels.sum(), (~labels).sum()) < _FEWEST:
        return None
    features = header_features(rows)
    if features.shape[1] == 0:
        return None
    scores = _cross_validated(features, labels, groups)
    low, high = _interval(labels, scores)
    return {
        "auroc": _auroc(labels, scores),
        "low": low,
        "high": high,
        "images": len(labels),
        "with_finding": int(labels.sum()),
    }


def header_features(rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Return (N, F) float64: each kind of field as 0 or 1, sizes, and the window's center and width, standardized."""
    columns = []
    for name in CATEGORIES:
        values = np.array([row[name] for row in rows], dtype=object)
        columns += [values == value for value in sorted(set(values))]
    for name in NUMBERS:
        columns.append(np.array([float(row[name]) for row in rows]))
    windows = [row["window"].split("/") if "/" in row["window"] else ("nan", "nan") for row in rows]
    columns.append(np.array([bool(row["window"]) for row in rows]))
    for index in (0, 1):
        values = np.array([float(window[index]) for window in windows])
        known = np.isfinite(values)
        columns.append(np.where(known, values, values[known].mean() if known.any() else 0.0))
    table = np.array(columns, dtype=np.float64).T
    spread = table.std(axis=0)
    return (table[:, spread > 0] - table[:, spread > 0].mean(axis=0)) / spread[spread > 0]


def _cross_validated(features, labels, groups) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression  # scikit-learn takes a second to import
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    scores = np.zeros(len(labels))
    for train, test in StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(features, labels, groups):
        model = LogisticRegression(max_iter=1000).fit(features[train], labels[train])
        scores[test] = model.decision_function(features[test])
    return scores


def _auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the probability that a positive scores above a negative, ties counting half (Mann and Whitney)."""
    order = np.sort(scores[~labels])
    above = np.searchsorted(order, scores[labels], "left") + np.searchsorted(order, scores[labels], "right")
    return float(above.mean() / 2 / len(order))


def _interval(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    values = []
    for _ in range(_RESAMPLES):  # stratified, so that both kinds are in every resample
        drawn = np.concatenate([rng.choice(positive, len(positive)), rng.choice(negative, len(negative))])
        values.append(_auroc(labels[drawn], scores[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
