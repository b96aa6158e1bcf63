"""Is the representation alive, and the task learned? Four numbers an epoch, and three alarms.

Alignment and uniformity: Wang and Isola, arXiv 2005.10242. Effective rank: Roy and Vetterli, EUSIPCO 2007. Top-1: how
often a view's nearest neighbor in the batch is the other view of its image; chance is 1 / (2 B - 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from d2_cxr.counted import counted

MAX_FEATURES = 256  # rows kept for the effective rank
MIN_RELATIVE_SPREAD = 0.1  # of a projection's spread over that of directions drawn at random
MIN_RANK = 2.0
MIN_TOP1 = 0.1  # at the end of a run; runs that learned reached .3 and more at batches of 64


class NotPairsError(ValueError):
    """What is contrasted are not two views of each image of the batch."""


def check_pairs(numbers: torch.Tensor, projected: Sequence[torch.Tensor], world_size: int = 1) -> None:
    """Make sure that row i of both projections belongs to image i of the batch, and no image occurs twice.

    Code exists that contrasts the channels of one image as if they were images: the number of rows then differs from
    the number of images, the loss still falls, and nothing is learned about images.

    Raises:
        NotPairsError: says how many images and rows there are.
    """
    rows = [len(view) for view in projected]
    images = len(numbers)
    if len(projected) != 2 or set(rows) - {images, images * world_size}:
        raise NotPairsError(
            f"{counted(images, 'image')} but projections of {rows} rows: positives are not two views of one image"
        )
    if len(numbers.unique()) != images:
        raise NotPairsError("an image occurs twice in the batch: its views would be contrasted with each other")


def contrastive_top1(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the fraction of the 2 B views whose nearest other view (cosine) is their image's; inputs (B, D)."""
    z = F.normalize(torch.cat([first, second]).float(), dim=1)
    similarity = z @ z.T
    similarity.fill_diagonal_(-2)
    count = len(first)
    wanted = torch.arange(2 * count, device=z.device).roll(count)
    return float((similarity.argmax(dim=1) == wanted).float().mean())


def chance_level(batch_size: int) -> float:
    """Return the top-1 of guessing among the 2 B - 1 other views."""
    return 1 / (2 * batch_size - 1)


def alignment(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the mean squared distance of positives on the sphere, in [0, 4]; 0 is aligned. Inputs (B, D)."""
    return float((F.normalize(first.float(), dim=1) - F.normalize(second.float(), dim=1)).square().sum(dim=1).mean())


def uniformity(features: torch.Tensor) -> float:
    """Return log mean exp(-2 |a - b|^2) over pairs of (N, D) on the sphere; 0 is one point, about -4 is uniform."""
    z = F.normalize(features.float(), dim=1)
    return float(torch.pdist(z).square().mul(-2).exp().mean().clamp_min(1e-38).log())


def effective_rank(features: torch.Tensor) -> float:
    """Return exp of the entropy of the singular values of centered features (N, D): how many directions are in use."""
    centered = features.float() - features.float().mean(dim=0)
    values = torch.linalg.svdvals(centered)
    total = values.sum()
    if total <= 1e-6 * max(1.0, float(features.float().norm())):
        return 1.0  # one point
    shares = values / total
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))


def relative_spread(projection: torch.Tensor) -> float:
    """Return the standard deviation of directions (N, D), times sqrt(D): 1 when drawn at random, 0 when collapsed."""
    z = F.normalize(projection.float(), dim=1)
    return float(z.std(dim=0, unbiased=False).mean() * z.shape[1] ** 0.5)


class EpochHealth:
    """Collects steps, gives an epoch's numbers."""

    def __init__(self) -> None:
        self.top1: list[float] = []
        self.alignment: list[float] = []
        self.uniformity: list[float] = []
        self.spread: list[float] = []
        self.features: list[torch.Tensor] = []

    def add(self, projected: Sequence[torch.Tensor], features: Sequence[torch.Tensor]) -> None:
        """Take one step's projections and backbone features, two views each, (B, D) and (B, F)."""
        first, second = projected
        self.top1.append(contrastive_top1(first, second))
        self.alignment.append(alignment(first, second))
        self.uniformity.append(uniformity(first))
        self.spread.append(relative_spread(first))
        self.features.append(features[0].float().cpu())
        while sum(map(len, self.features[1:])) >= MAX_FEATURES:
            self.features.pop(0)

    def summary(self) -> dict:
        """Return the epoch's means, the effective rank of its last features, and alarms as sentences."""
        rank = effective_rank(torch.cat(self.features)[-MAX_FEATURES:])
        numbers = {
            "contrastive_top1": _mean(self.top1),
            "alignment": _mean(self.alignment),
            "uniformity": _mean(self.uniformity),
            "relative_spread": _mean(self.spread),
            "effective_rank": rank,
        }
        return {**numbers, "alarms": collapse_alarms(numbers)}


def collapse_alarms(numbers: dict) -> list[str]:
    """Return what is wrong with an epoch's numbers, one sentence each; [] when nothing is."""
    alarms = []
    if numbers["relative_spread"] < MIN_RELATIVE_SPREAD:
        alarms.append(
            f"collapse: all images project to nearly one direction (spread {numbers['relative_spread']:.3f} of 1)"
        )
    if numbers["effective_rank"] < MIN_RANK:
        alarms.append(f"collapse: the backbone's features use {numbers['effective_rank']:.1f} directions")
    return alarms


def unlearned_alarms(final_top1: float | None, batch_size: int) -> list[str]:
    """Return what is wrong with a finished run whose features are alive but whose task is not learned; [] if nothing.

    Such a run looks healthy: its loss has fallen and its features use many directions.
    """
    if final_top1 is None or final_top1 >= MIN_TOP1:
        return []
    return [
        f"hardly learned: {100 * final_top1:.0f} % of the views find their image's other view among "
        f"{2 * batch_size - 1} (chance {100 * chance_level(batch_size):.1f} %); give it more views, another seed, or "
        "another learning rate (optimizer.lr; scheduler.name=warmup_cosine with scheduler.warmup_epochs)"
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
