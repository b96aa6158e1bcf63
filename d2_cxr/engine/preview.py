"""What an epoch will show, before a run begins: exposures of each class with and without balancing."""

from __future__ import annotations

import logging

import numpy as np

from d2_cxr.engine.training_data import TrainingFilms

logger = logging.getLogger(__name__)


def exposures(films: TrainingFilms) -> list[dict]:
    """Return for each class its films, its frequency and the expected films with it an epoch.

    Returns:
        dicts of class, films (int), frequency (share of films with findings), plain (films an epoch without
        balancing), balanced (expected films an epoch with it).
    """
    categories = films.categories
    factors = films.factors[: len(films.findings)].numpy().astype(np.float64)
    shown = np.array([[index in classes for index in range(len(films.class_names))] for classes in categories])
    counts, balanced = shown.sum(axis=0), factors @ shown
    return [
        {
            "class": name,
            "films": int(counts[index]),
            "frequency": float(counts[index] / len(categories)),
            "plain": float(counts[index]),
            "balanced": float(balanced[index]),
        }
        for index, name in enumerate(films.class_names)
    ]


def preview(films: TrainingFilms, threshold: float, schedule: dict) -> dict:
    """Return what `log_preview` prints and run.json keeps, plain values."""
    rows = exposures(films)
    warnings = [f"no training film shows {row['class']}: it can not be learned" for row in rows if not row["films"]]
    findings = films.factors[: len(films.findings)]
    if threshold > 0 and bool((findings == 1).all()):
        rarest = min((row["frequency"] for row in rows if row["films"]), default=1.0)
        warnings.append(
            f"DATALOADER.REPEAT_THRESHOLD {threshold:g} changes nothing: the rarest class is on {rarest:.0%} of the "
            "films, which is not below it"
        )
    return {
        "classes": rows,
        "num_films": len(films.findings),
        "num_films_without_boxes": sum(not classes for classes in films.categories),
        "num_normal_films": len(films.normals),
        "normal_films_an_epoch": float(films.factors[len(films.findings) :].sum()),
        "epoch_length": films.epoch_length,
        "repeat_threshold": threshold,
        "schedule": schedule["text"],
        "warnings": warnings,
    }


def log_preview(values: dict) -> None:
    """Log the table, the epoch's length, the schedule and the warnings."""
    width = max([len(row["class"]) for row in values["classes"]] + [5])
    lines = [f"{'class':{width}}  films  share  an epoch shows: plain  balanced"]
    lines += [
        f"{row['class']:{width}} {row['films']:6d} {row['frequency']:6.1%} {row['plain']:21.0f} {row['balanced']:9.0f}"
        for row in values["classes"]
    ]
    logger.info("Repeat threshold %g:\n%s", values["repeat_threshold"], "\n".join(lines))
    logger.info(
        "%d films with findings (%d of them without a box), %d normal films to draw %.0f an epoch from; an epoch is "
        "%.2f films",
        values["num_films"],
        values["num_films_without_boxes"],
        values["num_normal_films"],
        values["normal_films_an_epoch"],
        values["epoch_length"],
    )
    logger.info("Schedule: %s", values["schedule"])
    for warning in values["warnings"]:
        logger.warning("%s", warning)
