"""Whether the sets of a run fit each other: no leaked image, classes and preparation alike, every file as listed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from d2_cxr.audit import near_duplicates
from d2_cxr.counted import counted
from d2_cxr.datasets import image_array, leakage, loading
from d2_cxr.datasets.named_sets import NamedSet
from d2_cxr.datasets.provenance import require_same_pixels
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.start_weights import preprocessing_contradictions

logger = logging.getLogger(__name__)
_NAMED = 3  # pairs that an error names


def check_sets(sets: RunSets, count: int) -> None:
    """Compare the sets of a run with each other and with their files, before training.

    Args:
        sets: of the run.
        count: images of each set whose pixels are compared with its manifest, -1 for all (CXR.CHECK_IMAGES).

    Raises:
        FileNotFoundError: a set, or an image to learn from or to test on, is missing.
        ValueError: a set to be evaluated has no image, an image is not the one that its manifest lists, or see
            `check_other_sets`.
        LeakageError: see `refuse_shared_images` and `check_other_sets`.
    """
    _require_images(sets)
    refuse_shared_images(sets)
    check_other_sets(sets)
    for named in dict.fromkeys([*sets.learned_from, *sets.test]):
        require_same_pixels(loading.prepared_images([named]), count)


def refuse_shared_images(sets: RunSets) -> None:
    """Raise if images that a run learns from are held out as well, or are copies or of patients of those that are.

    Raises:
        LeakageError: names the first images.
    """
    leakage.refuse_leaks(sets.learned_from, sets.held_out)
    leakage.refuse_leaks(sets.pool)  # against the held-out images of its own sets, too


def check_other_sets(sets: RunSets) -> None:
    """Raise if a set that the run is tested or validated on does not fit what it learns.

    A test set may have the detector's classes in another order, or some of them (`config.set_num_classes`). A
    validation set chooses thresholds and must have the very same.

    Raises:
        ValueError: images that were prepared in another way, or a validation set of other classes.
        LeakageError: a validation or test image is a near duplicate of a training image in another set.
            `leakage.refuse_leaks` finds duplicates within a set, and equal files, pixels and patients in any set.
    """
    first = sets.train[0]
    own = {named.set_name for named in sets.learned_from}
    others = [named for named in (*sets.test, sets.validation) if named.set_name not in own and named.exists]
    for named in others:
        found = preprocessing_contradictions(first.preprocess, named.preprocess)
        if named == sets.validation and named.class_names != first.class_names:
            found.append(f"its classes must be those of {first.name} in the same order to choose thresholds on it")
        absent = [name for name in first.class_names if name not in named.class_names]
        if absent:
            logger.info("%s has no class %s: detections of it do not count there", named.name, ", ".join(absent))
        if found:
            raise ValueError(f"{named.name} does not fit {first.name}: {'; '.join(found)}")
    held_out = [named for named in sets.held_out if named.set_name not in own]
    if held_out:
        for sentence in leakage.patients_not_compared(sets.learned_from, held_out):
            logger.warning(sentence)
        _refuse_near_duplicates(sets, held_out)


def _require_images(sets: RunSets) -> None:
    """Raise if a set to be evaluated has no image, or an image is missing: not after hours of training, but now."""
    for named in sets.evaluated:
        if not named.images():
            raise ValueError(
                f"{named.name} has no image, so nothing can be evaluated; the set is too small for its split. Take it "
                'out (DATASETS.TEST "()", TEST.EVAL_PERIOD 0), or prepare more images'
            )
    images = [*sets.learned_images, *loading.prepared_images(sets.test)]
    image_array.require_images(image["file_name"] for image in images)


def _refuse_near_duplicates(sets: RunSets, held_out: Sequence[NamedSet]) -> None:
    learned, tested = sets.learned_images, loading.prepared_images(held_out)
    ours, theirs = (", ".join(named.name for named in these) for these in (sets.learned_from, held_out))
    logger.info("comparing %s with %d of %s", counted(len(learned), "image"), len(tested), theirs)
    small = near_duplicates.read_small([one["file_name"] for one in [*learned, *tested]], image_array.read)
    allowed = leakage.allowed_images()
    found = [
        (learned[pair.first]["image_name"], pair.how, tested[pair.second - len(learned)]["image_name"])
        for pair in near_duplicates.find_near_duplicates(small, first_other=len(learned))
    ]
    found = [pair for pair in found if not allowed & {pair[0], pair[2]}]
    if found:
        images = {pair[0] for pair in found}
        shown = "; ".join(f"{image} is the same image ({how}) as {other}" for image, how, other in found[:_NAMED])
        shown += " ..." if len(found) > _NAMED else ""
        raise leakage.LeakageError(
            f"{ours}: {counted(len(images), 'image has', 'images have')} near duplicates in {theirs} ({shown}); "
            f"{leakage.WAY_OUT}"
        )
