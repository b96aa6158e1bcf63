"""What an epoch will show, before a run begins: exposures of each class with and without balancing."""

from __future__ import annotations

import logging

import numpy as np

from d2_cxr.counted import counted
from d2_cxr.engine.build_loaders import TrainingImages

logger = logging.getLogger(__name__)


def exposures(images: TrainingImages) -> list[dict]:
    """Return for each class its images, its frequency and the expected images with it an epoch.

    Returns:
        dicts of class, images (int), frequency (fraction of images with findings), plain (images per epoch without
        balancing), balanced (expected images an epoch with it).
    """
    categories = images.categories
    factors = images.factors[: len(images.findings)].numpy().astype(np.float64)
    shown = np.array([[index in classes for index in range(len(images.class_names))] for classes in categories])
    counts, balanced = shown.sum(axis=0), factors @ shown
    return [
        {
            "class": name,
            "images": int(counts[index]),
            "frequency": float(counts[index] / len(categories)),
            "plain": float(counts[index]),
            "balanced": float(balanced[index]),
        }
        for index, name in enumerate(images.class_names)
    ]


def preview(images: TrainingImages, threshold: float, schedule: dict) -> dict:
    """Return what `log_preview` prints and run.json keeps, plain values."""
    rows = exposures(images)
    warnings = [f"no training image shows {row['class']}: it cannot be learned" for row in rows if not row["images"]]
    findings = images.factors[: len(images.findings)]
    if threshold > 0 and bool((findings == 1).all()):
        rarest = min((row["frequency"] for row in rows if row["images"]), default=1.0)
        warnings.append(
            f"DATALOADER.REPEAT_THRESHOLD {threshold:g} changes nothing: the rarest class is on {rarest:.0%} of the "
            "images, which is not below it"
        )
    return {
        "classes": rows,
        "num_images": len(images.findings),
        "num_images_without_boxes": sum(not classes for classes in images.categories),
        "num_negative_images": len(images.negatives),
        "negative_images_an_epoch": float(images.factors[len(images.findings) :].sum()),
        "epoch_length": images.epoch_length,
        "repeat_threshold": threshold,
        "schedule": schedule["text"],
        "warnings": warnings,
    }


def log_preview(values: dict) -> None:
    """Log the table, the epoch's length, the schedule and the warnings."""
    width = max([len(row["class"]) for row in values["classes"]] + [5])
    lines = [f"{'class':{width}}  images  frequency  an epoch shows: plain  balanced"]
    lines += [
        f"{row['class']:{width}}{row['images']:8d}{row['frequency']:11.1%}{row['plain']:23.0f}{row['balanced']:10.0f}"
        for row in values["classes"]
    ]
    logger.info("Repeat threshold %g:\n%s", values["repeat_threshold"], "\n".join(lines))
    logger.info(
        "%s with findings (%d without a box); %s, of which an epoch draws %.0f; an epoch is %.2f images",
        counted(values["num_images"], "image"),
        values["num_images_without_boxes"],
        counted(values["num_negative_images"], "negative image"),
        values["negative_images_an_epoch"],
        values["epoch_length"],
    )
    logger.info("Schedule: %s", values["schedule"])
    if "teacher" in values:
        logger.info("Teacher: %s", values["teacher"]["text"])
    for warning in values["warnings"]:
        logger.warning("%s", warning)
