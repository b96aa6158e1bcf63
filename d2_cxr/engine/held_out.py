"""Which images a run may not have seen, and whether its training images or its start weights have seen them."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode

from d2_cxr.datasets import leakage, loading
from d2_cxr.datasets.named_sets import named_set

_HASH_BYTES = 8  # of each sha256 in the weights' list of images


def held_out_of(cfg: CfgNode) -> list[str]:
    """Return the prepared names whose images must not be trained on: validation and test of each training set,
    CXR.VAL_DATASET and DATASETS.TEST. A training set named there measures the fit, which is no test.
    """
    names = [held.name for name in cfg.DATASETS.TRAIN for held in named_set(name).held_out()]
    chosen = [named_set(name) for name in (cfg.CXR.VAL_DATASET, *cfg.DATASETS.TEST) if name]
    names += [named.name for named in chosen if named.part != "train" and named.exists]
    return list(dict.fromkeys(names))


def trained_on(cfg: CfgNode) -> list[str]:
    """Return every data-set name that a run learns from: labeled, negative, and the pool of a teacher."""
    names = list(cfg.DATASETS.TRAIN)
    if cfg.CXR.NEGATIVE_RATIO:
        names += [named_set(name).sibling("negative_train").name for name in cfg.DATASETS.TRAIN]
    return list(dict.fromkeys([*names, *cfg.CXR.TEACHER.POOL]))


def refuse_shared_images(cfg: CfgNode) -> None:
    """Raise if training images are held out as well, or are copies or of patients of those that are.

    Raises:
        LeakageError: names the first images.
    """
    leakage.refuse_leaks(trained_on(cfg), held_out_of(cfg))
    leakage.refuse_leaks(cfg.CXR.TEACHER.POOL)  # against the held-out images of its own sets, too


def seen_images(seen: torch.Tensor | None, cfg: CfgNode) -> list[str]:
    """Return a sentence if validation or test images are among those that weights were trained on, else [].

    Args:
        seen: (N, 16) uint8 of the weights file, the first bytes of source and image sha256, or None.
    """
    if seen is None or not len(seen):
        return []
    rows = seen.numpy()
    sources = {row[:_HASH_BYTES].tobytes().hex() for row in rows}
    pixels = {row[_HASH_BYTES:].tobytes().hex() for row in rows}
    names, allowed, digits = held_out_of(cfg), leakage.allowed_images(), 2 * _HASH_BYTES
    met = [
        image["image_name"]
        for image in loading.prepared_images(names)
        if image["image_name"] not in allowed
        and (image["source_sha256"][:digits] in sources or image["image_sha256"][:digits] in pixels)
    ]
    if not met:
        return []
    return [f"it was trained on {len(met)} images of {', '.join(names)}, first: {met[0]}; {leakage.WAY_OUT}"]
