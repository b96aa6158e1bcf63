"""The unlabeled images of teacher-student training: which names may be in the pool, its images, its batches.

No label of the pool is read here, nor anywhere in training: teacher_health.py alone knows the truth of some of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_train_loader

from d2_cxr.datasets.mapper import CXRMapper, ImageDataset
from d2_cxr.datasets.samplers import PositionedSampler
from d2_cxr.engine.build_loaders import TrainingImages
from d2_cxr.engine.strong_view import strong_view

_OTHER_ORDER = 1_000_003  # added to the run's seed: the pool's order is another than that of the labels


@dataclass(frozen=True)
class Pool:
    """The images that a teacher labels.

    Attributes:
        images: dataset dicts without annotations; with control "labeled" the training images with theirs.
        factors: (N,) float32, expected draws of each an epoch of the pool.
        batch: images in a step, of all processes together.
        burn_in: iterations on labels alone, before the first batch.
        keys: CXR.TEACHER of the run.
    """

    images: list[dict]
    factors: torch.Tensor
    batch: int
    burn_in: int
    keys: CfgNode


def load_pool(cfg: CfgNode, labeled: TrainingImages) -> Pool | None:
    """Return the pool of a config without the images that are labeled; None where there is no teacher.

    Raises:
        FileNotFoundError: a set is not prepared.
        ValueError: no image is left, or too few for a batch.
    """
    keys = cfg.CXR.TEACHER
    if not keys.POOL:
        return None
    batch = max(1, round(keys.RATIO * cfg.SOLVER.IMS_PER_BATCH))
    burn_in = round(keys.BURN_IN * cfg.SOLVER.MAX_ITER)
    if keys.CONTROL == "labeled":
        return Pool(labeled.images, labeled.factors, batch, burn_in, keys)
    known = {image["file_name"] for image in labeled.images}
    found = {image["file_name"]: image for name in keys.POOL for image in DatasetCatalog.get(name)}
    images = [{**image, "annotations": []} for name, image in found.items() if name not in known]
    if not images:
        raise ValueError(f"CXR.TEACHER.POOL {list(keys.POOL)} holds no image that is not labeled")
    return Pool(images, torch.ones(len(images)), batch, burn_in, keys)


class PoolLoader:
    """Batches of the labeled loader, and after the burn-in images of the pool behind the labeled ones.

    A pool sample has its weak view as `image` and its strong view as `strong`, in one geometry.
    """

    def __init__(self, cfg: CfgNode, labeled, pool: Pool, seed: int):
        """
        Args:
            labeled: Detectron2's loader of the training images.
            seed: of the run.
        """
        self._labeled, self._burn_in, self._batch = labeled, pool.burn_in, pool.batch
        self._start, seed = 0, seed + _OTHER_ORDER
        mapper = _TwoViews(CXRMapper.from_config(cfg, is_train=True, seed=seed, weak=True), seed)
        self._sampler = PositionedSampler(pool.factors, seed=seed)
        self._pool = build_detection_train_loader(
            ImageDataset(pool.images, mapper),
            mapper=None,
            sampler=self._sampler,
            total_batch_size=pool.batch,
            aspect_ratio_grouping=False,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def start_at(self, iteration: int) -> None:
        """Go on where an uninterrupted run would be before `iteration`; before the first batch."""
        self._start = iteration
        self._sampler.start = max(0, iteration - self._burn_in) * self._batch

    def __iter__(self) -> Iterator[list[dict]]:
        return self._batches(iter(self._labeled), iter(self._pool))  # both made now: making them draws random numbers

    def _batches(self, labeled: Iterator, pool: Iterator) -> Iterator[list[dict]]:
        for iteration, batch in enumerate(labeled, start=self._start):
            yield batch + next(pool) if iteration >= self._burn_in else batch


class _TwoViews:
    """A mapper that adds the strong view, by the seed and the position in the pool's stream."""

    def __init__(self, mapper: CXRMapper, seed: int):
        self._mapper, self._seed = mapper, seed

    def __call__(self, image: dict, position: int = 0) -> dict:
        sample = self._mapper(image, position)
        random = np.random.default_rng([self._seed % 2**32, position])
        strong = torch.from_numpy(strong_view(sample["image"][0].numpy(), random))
        return {**sample, "strong": strong.expand(3, *strong.shape)}


def preview(pool: Pool, schedule: Mapping) -> dict:
    """Return the preview of a teacher, plain values; `text` in one line, with the cost of a step.

    Args:
        schedule: of `schedule.resolve`.
    """
    start, keys = pool.burn_in, pool.keys
    steps, labeled = schedule["max_iter"] - start, schedule["batch"]
    # Forward is one part, backward two; the teacher's forward pass one more. The control "labeled" needs no teacher.
    parts = 3 if keys.CONTROL == "labeled" else 4
    cost = (3 * labeled + parts * pool.batch) / (3 * labeled)
    total = (start + steps * cost) / schedule["max_iter"]
    epochs = steps * pool.batch / float(pool.factors.sum())
    text = (
        f"{start} iterations on labels, then {steps} with {pool.batch} of {len(pool.images)} pool images each "
        f"({epochs:.3g} epochs of the pool), losses on them times {keys.WEIGHT:g}; such a step costs about {cost:.2f} "
        f"times a labeled one, the run {total:.2f} times one without the pool"
    )
    if keys.CONTROL:
        text += f"; CONTROL {keys.CONTROL}"
    values = {"pool": list(keys.POOL), "pool_images": len(pool.images), "burn_in": start, "step_cost": cost}
    return {**values, "run_cost": total, "pool_epochs": epochs, "control": keys.CONTROL, "text": text}
