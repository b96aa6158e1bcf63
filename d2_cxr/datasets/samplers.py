"""Detectron2's repeat-factor sampler, seeded, fast-forwarded on resume, and carrying the position in its stream.

Repeat factors are those of LVIS (Gupta et al. 2019, https://arxiv.org/abs/1908.03195): r(c) = max(1, sqrt(t / f(c)))
for a class, the largest of its classes for an image, with f(c) over the images *with findings*: negative images in the
set would lower every f(c) and change every factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler


class Draw(NamedTuple):
    """One draw of the sampler: which image, and how many images all processes together have drawn before it."""

    index: int  # type: ignore[assignment]  # tuple.index, which nobody calls on a draw
    position: int


class PositionedSampler(RepeatFactorTrainingSampler):
    """Detectron2's sampler whose draws know their position in the endless stream.

    The position seeds the image's augmentation: repeats of an image differ, and a resumed run continues as the
    uninterrupted one would have.
    """

    def __init__(self, repeat_factors: torch.Tensor, seed: int, start: int = 0):
        """Set up the sampler.

        Args:
            repeat_factors: (N,) float, expected number of times that image i is drawn in an epoch; may be below 1.
            seed: of rounding and order, the same in all processes.
            start: images that all processes together have drawn already; can be set until iteration begins.
        """
        super().__init__(repeat_factors, seed=seed)
        self.start = start

    @property
    def seed(self) -> int:
        """Seed of rounding and order."""
        return self._seed

    def __iter__(self) -> Iterator[Draw]:
        stream = map(Draw, self._infinite_indices(), itertools.count())
        yield from itertools.islice(stream, self.start + self._rank, None, self._world_size)


def image_repeat_factors(categories: Sequence[set[int]], threshold: float) -> torch.Tensor:
    """Return the repeat factor (N,) float32 of every image with findings; all ones for threshold 0.

    Args:
        categories: for each image the classes on it; an image without any counts in the frequencies, with factor 1.
        threshold: fraction of images below which a class is repeated; the paper's is 0.4.
    """
    dicts = [{"annotations": [{"category_id": c} for c in sorted(classes)]} for classes in categories]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, threshold)
    return factors.to(torch.float32)


def with_negatives(factors: torch.Tensor, num_negatives: int, ratio: float) -> torch.Tensor:
    """Append the factors of negative images, so that `ratio` of them are expected for each image with findings drawn.

    Raises:
        ValueError: negative images are wanted and there are none.
    """
    if not ratio:
        return factors
    if not num_negatives:
        raise ValueError(f"CXR.NEGATIVE_RATIO is {ratio}, but the set has no negative training images; set it to 0")
    each = ratio * float(factors.sum()) / num_negatives
    return torch.cat([factors, torch.full((num_negatives,), each, dtype=factors.dtype)])
