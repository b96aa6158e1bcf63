"""The facts that decide a preset: the training part of a set, and this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from d2_cxr.datasets.named_sets import named_set
from d2_cxr.presets.preset import Machine, SetFacts


def facts_of(names: Sequence[str]) -> SetFacts:
    """Return the facts of the training images of data-set names; no other part is read.

    Raises:
        FileNotFoundError, ValueError: as when the names are loaded.
    """
    cocos = [named_set(name).coco() for name in names]
    sides = [
        (box["bbox"][2] * box["bbox"][3]) ** 0.5 / max(sizes[box["image_id"]])
        for coco in cocos
        for sizes in [{image["id"]: (image["width"], image["height"]) for image in coco["images"]}]
        for box in coco["annotations"]
    ]
    negative = [named_set(name).sibling("negative_train") for name in names]
    first = named_set(names[0])
    return SetFacts(
        num_images=sum(len(coco["images"]) for coco in cocos),
        num_negative=sum(len(part.images()) for part in dict.fromkeys(negative) if part.exists),
        num_boxes=len(sides),
        num_classes=len(first.class_names),
        small_side=float(np.quantile(sides, 0.1)) if sides else 1.0,
        size=max((image["width"] for coco in cocos for image in coco["images"]), default=0),
    )


def this_machine() -> Machine:
    """Return the memory of the first GPU and of the machine, and the cores of this process."""
    gpu = torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else 0.0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(gpu, memory, len(os.sched_getaffinity(0)))
