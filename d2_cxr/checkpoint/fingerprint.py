"""The sha256 of tensors: a card names it, so that tensors changed after the card was written are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from d2_cxr.checkpoint.loading import WeightsError

if TYPE_CHECKING:
    import torch


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of tensors: each name, type, shape and bytes, in the order of names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def require_same_tensors(content: Mapping, source: str) -> None:
    """Raise if the tensors of a weights file are not those of its card; without a sha256 they are not compared.

    Args:
        content: of the file: `model` and `card`.
        source: the file, for the error.

    Raises:
        WeightsError: they were changed.
    """
    card = content.get("card")
    stated = card.get("tensors_sha256") if isinstance(card, Mapping) else None
    if stated is not None and fingerprint(content["model"]) != stated:
        raise WeightsError(
            f"{source}: its tensors are not those that its card was written for (sha256 {str(stated)[:12]}); the file "
            "was changed or damaged: use the original, or convert or train again"
        )


def require_finite(tensors: Mapping, source: str) -> None:
    """Raise if weights are not finite, or are integers in place of floating-point numbers.

    Raises:
        WeightsError: names the first tensor.
    """
    import torch

    for name, value in tensors.items():
        value = torch.as_tensor(value)
        if name.endswith("num_batches_tracked"):
            continue
        if value.is_quantized or not (value.is_floating_point() and value.element_size() >= 2):
            raise WeightsError(f"{source}: {name} is quantized ({value.dtype}); give the weights before quantization")
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{source}: {name} holds NaN or infinite values; the training of these weights diverged")


def never_updated(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights have BatchNorm statistics and none has seen a batch: every mean is 0 and every variance 1."""
    means = [value for name, value in tensors.items() if name.endswith("running_mean")]
    variances = [value for name, value in tensors.items() if name.endswith("running_var")]
    return bool(means) and all(not value.any() for value in means) and all(bool((v == 1).all()) for v in variances)
