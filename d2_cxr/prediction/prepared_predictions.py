"""What a detector finds and sees on prepared images, kept in one file so that an image is looked at only once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets import image_array
from d2_cxr.prediction.predictor import Predictor
from d2_cxr.progress import Bar

logger = logging.getLogger(__name__)
_SAVED_EVERY_S = 60.0
_FIELDS = ("images", "box_image", "boxes", "scores", "classes", "features")


@dataclass(frozen=True)
class Predictions:
    """Detections and features of N images with B boxes in all.

    Attributes:
        images: (N,) str, sha256 of each image's prepared pixels.
        box_image: (B,) int64, index of each box's image, rising; within an image the highest score comes first.
        boxes: (B, 4) float32 XYXY in prepared pixels.
        scores: (B,) float32 in [0, 1].
        classes: (B,) int64, indices of the detector's classes.
        features: (N, D) float32, the mean of the backbone's deepest feature map.
    """

    images: np.ndarray
    box_image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    features: np.ndarray

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes, scores and classes of one image."""
        own = slice(*np.searchsorted(self.box_image, [index, index + 1]))
        return self.boxes[own], self.scores[own], self.classes[own]


def predict_prepared(predictor: Predictor, images: Sequence[Mapping], path: str | Path) -> Predictions:
    """Return the predictions on prepared images, in their order.

    The file keeps those of earlier calls with the same weights, on whatever images; it is written every minute and
    when the call ends, also by Ctrl-C.

    Args:
        predictor: the detector.
        images: dicts of `file_name` and `image_sha256` (`loading.prepared_images`).
        path: predictions.npz.

    Raises:
        FileNotFoundError: an image is missing.
    """
    weights = predictor.card.tensors_sha256 or artifacts.sha256_file(predictor.weights)
    known = _read(Path(path), weights)
    missing = [image for image in images if image["image_sha256"] not in known]
    if len(missing) < len(images):
        logger.info("%s predicted before", counted(len(images) - len(missing), "image", of=len(images)))
    saved = time.monotonic()
    try:
        for image in Bar(missing, desc="predict", unit="image", disable=not missing):
            known[image["image_sha256"]] = predictor.boxes_and_features(image_array.read(image["file_name"]))
            if time.monotonic() - saved > _SAVED_EVERY_S:
                _write(Path(path), weights, known)
                saved = time.monotonic()
    finally:
        if missing and known:
            _write(Path(path), weights, known)
    return _joined([image["image_sha256"] for image in images], known)


_Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # of one image: boxes, scores, classes, features


def _joined(images: Sequence[str], known: Mapping[str, _Found]) -> Predictions:
    found = [known[image] for image in images]
    empty: tuple[np.ndarray, ...] = (np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    boxes, scores, classes = (
        np.concatenate([none, *(one[place] for one in found)]).astype(none.dtype) for place, none in enumerate(empty)
    )
    box_image = np.repeat(np.arange(len(found)), [len(one[1]) for one in found])
    features = np.stack([one[3] for one in found]) if found else np.empty((0, 0), np.float32)
    return Predictions(np.array(images, dtype=str), box_image, boxes, scores, classes, features)


def _write(path: Path, weights: str, known: Mapping[str, _Found]) -> None:
    joined = _joined(list(known), known)
    arrays = {name: getattr(joined, name) for name in _FIELDS} | {"weights": np.array(weights)}
    artifacts.write_with(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]  # numpy types allow_pickle among them


def _read(path: Path, weights: str) -> dict[str, _Found]:
    """Return image sha256 -> what these weights found on it; {} where there is no file, or one of other weights."""
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["weights"]) != weights:
                logger.info("%s was made with other weights: predicting all images again", path)
                return {}
            stored = Predictions(*(archive[name] for name in _FIELDS))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a file of this tool ({type(error).__name__}); delete it") from error
    return {image: (*stored.of(index), stored.features[index]) for index, image in enumerate(stored.images.tolist())}
