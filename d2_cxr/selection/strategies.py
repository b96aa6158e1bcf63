"""Orders in which images are worth labeling: pure functions of a detector's scores and features, and a seed.

The names and the two stages are those of PPAL (Yang, Huang and Crowley, *Plug and Play Active Learning for Object
Detection*, https://arxiv.org/abs/2211.11612). Two things differ. PPAL takes a class's difficulty from a moving average
during training; here it is computed from the boxes of labeled images, so that any finished detector can be asked. PPAL
compares images by the features of their boxes; here by the pooled features of the whole image, and its clusters are
seeded as in k-means++ (Arthur and Vassilvitskii, SODA 2007).
"""

from __future__ import annotations

import numpy as np

from d2_cxr.boxes import pairwise_iou
from d2_cxr.selection import STRATEGIES

_XI = 0.6  # PPAL, section 3.1: how much the score counts in a box's difficulty, the rest is its IoU
_ALPHA, _BETA = 0.3, 0.2  # PPAL, section 3.1: how fast a class's weight grows with its difficulty, and how far
_EXPANSION = 4  # PPAL's delta: how many times more candidates than picks the first stage keeps


def order_images(
    strategy: str, uncertainty: np.ndarray, features: np.ndarray, number: int, seed: int = 0
) -> np.ndarray:
    """Return all images, (N,) int, the one to label first at the front.

    Args:
        strategy: one of STRATEGIES.
        uncertainty: (N,) float, of each image (`image_uncertainty`).
        features: (N, D) float, of each image.
        number: how many will be picked; the order of the images after them matters less.
        seed: of what is left to chance.

    Raises:
        ValueError: unknown strategy.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r} is not one of {', '.join(STRATEGIES)}")
    random = np.random.default_rng(seed)
    if strategy == "random":
        return random.permutation(len(uncertainty))
    most_uncertain = np.argsort(-uncertainty, kind="stable")
    if strategy == "uncertainty":
        return most_uncertain
    if strategy == "diverse":
        return _spread(features, number, random)
    candidates, rest = np.split(most_uncertain, [min(_EXPANSION * number, len(most_uncertain))])
    return np.concatenate([candidates[_spread(features[candidates], number, random)], rest])


def image_uncertainty(
    num_images: int, box_image: np.ndarray, box_class: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return each image's uncertainty, (num_images,) float64 >= 0: the sum over its boxes of weight times entropy.

    Args:
        num_images: N.
        box_image: (B,) int, image of each detected box.
        box_class: (B,) int, its class.
        scores: (B,) float in [0, 1].
        weights: (C,) float, of each class (`class_weights`).
    """
    return np.bincount(box_image, weights[box_class] * binary_entropy(scores), minlength=num_images)


def binary_entropy(scores: np.ndarray) -> np.ndarray:
    """Return -p ln p - (1 - p) ln(1 - p): 0 at scores of 0 and 1, ln 2 = 0.693 at 0.5."""
    p = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


def class_weights(difficulty: np.ndarray) -> np.ndarray:
    """Return each class's weight, (C,) float64 from 1 (difficulty 0) to 1.2 (difficulty 1); PPAL, section 3.1."""
    growth = np.exp(1 / _ALPHA) - 1
    return 1 + _ALPHA * _BETA * np.log1p(growth * np.asarray(difficulty, np.float64))


def class_difficulty(
    num_classes: int,
    truth: tuple[np.ndarray, np.ndarray, np.ndarray],
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    scores: np.ndarray,
) -> np.ndarray:
    """Return how hard each class is, (C,) float64 in [0, 1]: the mean over truth boxes of 1 - score^0.6 * IoU^0.4.

    A truth box counts the detection of its class that makes this smallest, and 1 where none overlaps it. A class
    without a truth box has 1, as all classes have before PPAL's first step.

    Args:
        num_classes: C.
        truth: image (G,), class (G,) and XYXY box (G, 4) of the truth.
        found: image (B,), class (B,) and XYXY box (B, 4) of the detections, in the same pixels.
        scores: (B,) float in [0, 1], of the detections.
    """
    total, count = np.zeros(num_classes), np.zeros(num_classes)
    for image, index, box in zip(*truth, strict=True):
        same = (found[0] == image) & (found[1] == index)
        iou = pairwise_iou(box[None], found[2][same])[0]
        total[index] += 1 - (scores[same] ** _XI * iou ** (1 - _XI)).max(initial=0.0)
        count[index] += 1
    return np.divide(total, count, out=np.ones(num_classes), where=count > 0)


def _spread(features: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Order images so that the first `number` lie far apart: each is drawn with the squared distance to those before.

    The others follow, the farthest from all of these first.
    """
    if not len(features):
        return np.empty(0, int)
    features = np.asarray(features, np.float64)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    chosen = [int(random.integers(len(features)))]
    nearest = _distance(features, chosen[0])
    nearest[chosen[0]] = 0.0
    while len(chosen) < min(number, len(features)) and nearest.sum() > 0:
        chosen.append(int(random.choice(len(features), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, _distance(features, chosen[-1]))
        nearest[chosen[-1]] = 0.0
    rest = np.argsort(-nearest, kind="stable")
    return np.concatenate([chosen, rest[~np.isin(rest, chosen)]])


def _distance(features: np.ndarray, index: int) -> np.ndarray:
    """Squared distances of vectors of length 1 to one of them; what rounding leaves of equal ones is 0."""
    squared = np.maximum(2 - 2 * features @ features[index], 0.0)
    return np.where(squared < 1e-12, 0.0, squared)
