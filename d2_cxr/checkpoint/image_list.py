"""The list of images inside a weights file: what it was trained on, by hashes (docs/formats.md, 2).

A later run compares the list with its validation and test images. A row is the first 8 bytes of the sha256 of the
source file and of the prepared pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from d2_cxr.counted import counted
from d2_cxr.datasets import leakage, loading
from d2_cxr.datasets.named_sets import NamedSet

if TYPE_CHECKING:
    import torch

_BYTES = 8  # of each sha256


def image_hashes(images: Iterable[Mapping], others: torch.Tensor | None = None) -> torch.Tensor:
    """Return the list of images that weights are trained on: (N, 16) uint8, sorted, each image once.

    Args:
        images: of the training, with `source_sha256` and `image_sha256`.
        others: the list of the weights that it starts from.
    """
    import torch

    rows = {
        bytes.fromhex(image["source_sha256"])[:_BYTES] + bytes.fromhex(image["image_sha256"])[:_BYTES]
        for image in images
    }
    if others is not None:
        rows |= {row.tobytes() for row in others.numpy()}
    return torch.from_numpy(np.frombuffer(b"".join(sorted(rows)), np.uint8).copy().reshape(-1, 2 * _BYTES))


def seen_images(listed: torch.Tensor | None, held_out: Sequence[NamedSet]) -> list[str]:
    """Return a sentence if images of held-out sets are among those that weights were trained on, else [].

    Args:
        listed: the weights' list, None if the file has none.
        held_out: sets to test on.
    """
    if listed is None or not len(listed):
        return []
    rows = listed.numpy()
    sources = {row[:_BYTES].tobytes().hex() for row in rows}
    pixels = {row[_BYTES:].tobytes().hex() for row in rows}
    allowed, digits = leakage.allowed_images(), 2 * _BYTES
    met = [
        image["image_name"]
        for image in loading.prepared_images(held_out)
        if image["image_name"] not in allowed
        and (image["source_sha256"][:digits] in sources or image["image_sha256"][:digits] in pixels)
    ]
    if not met:
        return []
    names = ", ".join(named.name for named in held_out)
    return [f"it was trained on {counted(len(met), 'image')} of {names}, first: {met[0]}; {leakage.WAY_OUT}"]
