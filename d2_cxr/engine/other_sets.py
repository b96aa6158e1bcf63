"""Test sets of another prepared set than the run learns from: do their classes, preparation and images fit?"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from d2_cxr.audit import near_duplicates
from d2_cxr.datasets import image_array, leakage, loading
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.start_weights import preprocessing_contradictions

logger = logging.getLogger(__name__)
_NAMED = 3  # pairs that an error names


def check_other_sets(sets: RunSets) -> None:
    """Raise if a set that the run is tested or validated on does not fit what it learns.

    A test set may have the detector's classes in another order, or some of them (`config.set_num_classes`). A
    validation set chooses thresholds and must have the very same.

    Raises:
        ValueError: images that were prepared in another way, or a validation set of other classes.
        LeakageError: a validation or test image is a near duplicate of a training image in another set.
            `leakage.refuse_leaks` finds duplicates within a set, and equal files or pixels in any set.
    """
    first = sets.train[0]
    own = {named_set(name).set_name for name in sets.learned_from}
    others = [named for named in (*sets.test, sets.validation) if named.set_name not in own and named.exists]
    rules = first.dataset_json().get("preprocess") or {}
    for named in others:
        found = preprocessing_contradictions(rules, named.dataset_json().get("preprocess") or {})
        if named == sets.validation and named.class_names != first.class_names:
            found.append(f"its classes must be those of {first.name} in the same order to choose thresholds on it")
        absent = [name for name in first.class_names if name not in named.class_names]
        if absent:
            logger.info("%s has no class %s: what is found of it does not count there", named.name, ", ".join(absent))
        if found:
            raise ValueError(f"{named.name} does not fit {first.name}: {'; '.join(found)}")
    held_out = [name for name in sets.held_out if named_set(name).set_name not in own]
    if held_out:
        for sentence in leakage.patients_not_compared(sets.learned_from, held_out):
            logger.warning(sentence)
        _refuse_near_duplicates(sets.learned_from, held_out)


def _refuse_near_duplicates(pool: Sequence[str], held_out: Sequence[str]) -> None:
    learned, tested = loading.prepared_images(pool), loading.prepared_images(held_out)
    logger.info("comparing %d images with %d of %s", len(learned), len(tested), ", ".join(held_out))
    small = np.stack([near_duplicates.small_copy(image_array.read(one["file_name"])) for one in [*learned, *tested]])
    allowed = leakage.allowed_images()
    found = [
        (learned[pair.first]["image_name"], pair.how, tested[pair.second - len(learned)]["image_name"])
        for pair in near_duplicates.find_near_duplicates(small, first_other=len(learned))
    ]
    found = [pair for pair in found if not allowed & {pair[0], pair[2]}]
    if found:
        shown = "; ".join(f"{image} is the same image ({how}) as {other}" for image, how, other in found[:_NAMED])
        raise leakage.LeakageError(
            f"{', '.join(pool)}: {len({pair[0] for pair in found})} images are near duplicates of images of "
            f"{', '.join(held_out)} ({shown}{' ...' if len(found) > _NAMED else ''}); {leakage.WAY_OUT}"
        )
