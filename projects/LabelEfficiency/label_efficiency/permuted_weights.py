"""Negative control of a study: the pretrained weights, permuted within each tensor.

Each backbone tensor keeps its values (hence mean, spread and histogram) but not their order. If an arm that starts
from these weights is as good as one that starts from the pretrained file, the gain came from scale, not from
features.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from d2_cxr import artifacts
from d2_cxr.checkpoint.config_file import detector_config, write_config
from d2_cxr.checkpoint.convert import ConversionError
from d2_cxr.checkpoint.fingerprint import fingerprint
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP
from d2_cxr.checkpoint.weights_card import WeightsCard

if TYPE_CHECKING:
    import torch


def permute_weights(source: str | Path, output: str | Path, seed: int = 0) -> WeightsCard:
    """Write a converted file with its backbone permuted within each tensor, including card and `.yaml`.

    Args:
        source: a converted `.pth`.
        seed: of the permutations; the same seed gives the same file.

    Raises:
        ConversionError: the source is not a converted file.
    """
    import torch

    source, output = Path(source), Path(output)
    content = load_weights_file(source)
    if not isinstance(content.get("model"), dict) or not any(name.startswith(BOTTOM_UP) for name in content["model"]):
        raise ConversionError(f"{source} holds no {BOTTOM_UP}* tensors; convert it first")
    card = WeightsCard.from_dict(content.get("card") or {})
    generator = torch.Generator().manual_seed(seed)
    model = {name: _permuted(name, content["model"][name], generator) for name in sorted(content["model"])}
    card.method = f"{card.method or 'unknown'}, permuted within each tensor (seed {seed})"
    card.source_sha256, card.parity = artifacts.sha256_file(source), None
    card.tensors_sha256 = fingerprint(model)
    stored = {**content, "model": model, "card": card.to_dict()}
    artifacts.write_with(output, lambda temporary: torch.save(stored, temporary))
    write_config(output.with_suffix(".yaml"), detector_config(card, weights=str(output)), card)
    return card


def _permuted(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch

    if not name.startswith(BOTTOM_UP) or tensor.ndim == 0:
        return tensor
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor.flatten()[order].reshape(tensor.shape)
