"""The prior-box baseline: what one learns from the training boxes without looking at an image.

Every image gets, per class, the training set's median box, scored by the fraction of training images with the class.
A detector that does not beat it has learned the average chest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from d2_cxr import boxes as box_math


def prior_box_results(train_truth: Mapping, test_truth: Mapping) -> list[dict]:
    """Answer every image of `test_truth` with the prior boxes of `train_truth`, both COCO dicts.

    Returns:
        COCO results, boxes in pixels of each test image; classes without a training box give none.

    Raises:
        ValueError: the two sets number their classes differently.
    """
    _require_same_categories(train_truth, test_truth)
    prior = prior_boxes(train_truth)
    in_pixels: dict[tuple, list] = {}  # by size, which most images of a set share
    results = []
    for image in test_truth["images"]:
        size = (image["width"], image["height"])
        if size not in in_pixels:
            corners = [box * np.array(size * 2, dtype=np.float64) for box, _ in prior.values()]
            in_pixels[size] = box_math.xyxy_to_xywh(corners).tolist()
        for (category, (_, prevalence)), xywh in zip(prior.items(), in_pixels[size], strict=True):
            results.append({"image_id": image["id"], "category_id": category, "bbox": xywh, "score": prevalence})
    return results


def prior_boxes(train_truth: Mapping) -> dict[int, tuple[np.ndarray, float]]:
    """Return per category id the median box (4,) XYXY in fractions of width and height, and the fraction of images
    with it.
    """
    frames = {image["id"]: [image["width"], image["height"]] * 2 for image in train_truth["images"]}
    found: dict[int, tuple[list, set]] = {}
    for annotation in train_truth["annotations"]:
        relative, images = found.setdefault(annotation["category_id"], ([], set()))
        xyxy = box_math.xywh_to_xyxy([annotation["bbox"]])[0]
        relative.append(xyxy / frames[annotation["image_id"]])
        images.add(annotation["image_id"])
    return {
        category: (np.median(relative, axis=0), len(images) / len(frames))
        for category, (relative, images) in sorted(found.items())
    }


def _require_same_categories(train_truth: Mapping, test_truth: Mapping) -> None:
    names = [{c["id"]: c["name"] for c in truth["categories"]} for truth in (train_truth, test_truth)]
    if names[0] != names[1]:
        raise ValueError(f"training and test set number their classes differently: {names[0]} / {names[1]}")
