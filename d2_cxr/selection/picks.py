"""From an order of images to picks: near duplicates once, patients whole."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Picks:
    """What was picked.

    Attributes:
        images: indices, the one to label first at the front.
        duplicates: indices of images left out because a near duplicate of theirs comes earlier in the order.
        divided: patients with picked and unpicked images; only where no whole patient filled the number.
    """

    images: list[int]
    duplicates: list[int]
    divided: list[Hashable]


def pick(
    order: Sequence[int] | np.ndarray,
    number: int,
    patients: Sequence[Hashable | None],
    duplicates: Iterable[tuple[int, int]] = (),
) -> Picks:
    """Pick images.

    Of images that are near duplicates of each other the first in the order counts, the others are left out. Patients
    come in the order of their first image. A patient is taken whole if all of its images still fit, and skipped
    otherwise; if images are missing at the end, the first skipped patient gives its first ones.

    Args:
        order: all N images, the one to label first at the front.
        number: of images to pick; all where there are fewer.
        patients: (N,) patient of each image; None: unknown.
        duplicates: pairs of images.
    """
    kept, left_out = _first_of_duplicates([int(image) for image in order], duplicates)
    groups: dict[Hashable, list[int]] = {}
    for image in kept:
        key = ("image", image) if patients[image] is None else ("patient", patients[image])
        groups.setdefault(key, []).append(image)
    picked: list[int] = []
    passed_over: list[list[int]] = []
    for images in groups.values():
        if len(picked) + len(images) <= number:
            picked += images
        else:
            passed_over.append(images)
    missing = number - len(picked)
    if not missing or not passed_over:
        return Picks(picked, left_out, [])
    return Picks(picked + passed_over[0][:missing], left_out, [patients[passed_over[0][0]]])


def _first_of_duplicates(order: list[int], pairs: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return the images without later near duplicates (also by a third image), and those duplicates."""
    parent = {image: image for image in order}

    def root(image: int) -> int:
        while parent[image] != image:
            image = parent[image]
        return image

    for one, other in pairs:
        parent[root(one)] = root(other)
    seen: set[int] = set()
    kept: list[int] = []
    left_out: list[int] = []
    for image in order:
        (left_out if root(image) in seen else kept).append(image)
        seen.add(root(image))
    return kept, left_out
