"""Weights to start pretraining from: torchvision's ImageNet networks, or any file that holds the backbone.

On chest images, ImageNet first and self-supervision second was found best (arXiv 2211.12931).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2_cxr.checkpoint.conversion import ConversionError
from d2_cxr.checkpoint.convert import convert_state
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP, below, detectron2_to_torchvision
from d2_cxr.checkpoint.sources import state_dict_of
from d2_cxr.checkpoint.timm_names import NETWORK, convert_timm_state, timm_name


def read_backbone(
    path: str | Path, architecture: str, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> tuple[str, dict]:
    """Return a file's description and its complete backbone: torchvision's or timm's name -> tensor, no classifier.

    Args:
        path: a state dict of torchvision or timm, a checkpoint of solo-learn, a `last.ckpt`, or a converted `.pth`.
        architecture: what it must be, e.g. "resnet50" or "timm:tf_efficientnet_lite0".
        pixel_mean, pixel_std: how pretraining will feed it, RGB, 0-255 scale.

    Raises:
        ConversionError: the backbone is incomplete, of another architecture, or was trained on pixels scaled otherwise.
    """
    content = load_weights_file(path)
    state = state_dict_of(content, Path(path))
    timm = timm_name(architecture)
    converted = below(state, NETWORK if timm else BOTTOM_UP)
    if converted:
        state = converted if timm else {detectron2_to_torchvision(name): value for name, value in converted.items()}
    try:
        found = convert_timm_state(state, timm) if timm else convert_state(state)
    except ValueError as error:
        raise ConversionError(f"{path}: {error}") from error
    if found.architecture != architecture:
        raise ConversionError(f"{path} holds a {found.architecture}, but the backbone should be {architecture}")
    card = content.get("card") or content.get("d2_cxr") or {}
    for key, given in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
        if card.get(key) and any(abs(a - b) > 0.01 for a, b in zip(card[key], given, strict=True)):
            raise ConversionError(
                f"{path} was trained with {key} {card[key]}, but {key} is {list(given)}; use the same value"
            )
    return f"{card.get('method') or 'weights'} ({Path(path).name})", found.backbone


def imagenet_backbone(architecture: str) -> tuple[str, dict]:
    """Return torchvision's description and weights (its version 1 recipe), downloaded once by torchvision.

    Raises:
        ConversionError: they cannot be downloaded; says what to do without a network.
    """
    import torchvision

    weights = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ConversionError(
            f"torchvision cannot download its ImageNet weights for {architecture} ({error}); "
            "fetch the file on another machine and give init_from=FILE"
        ) from error
    return f"ImageNet, torchvision {weights}", convert_state(state).backbone
