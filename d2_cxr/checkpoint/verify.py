"""Feature parity: compare the features of Detectron2's backbone with the original network's, stage by stage.

All names and shapes can be right and the network still a different one: with Detectron2's `STRIDE_IN_1X1: True` every
tensor of a torchvision ResNet-50 loads without a warning, and res3 ... res5 differ by more than half their norm. Only
a comparison of features shows it.
"""

from __future__ import annotations

from collections.abc import Mapping

from d2_cxr.checkpoint.resnet_names import BOTTOM_UP, STAGES, depth_of, detectron2_to_torchvision, recognize
from d2_cxr.checkpoint.timm_names import NETWORK, PREFIX, timm_name, timm_stages

LIMIT = 1e-4  # of max |a - b| / max |b|; another order of summation in float32 gives less than 1e-5


class ParityError(ValueError):
    """Features at some stage differ from the original network's; says where and by how much."""


def file_parity(converted: Mapping, original: Mapping, architecture: str) -> dict[str, float]:
    """Load converted tensors into Detectron2's FPN backbone and compare it with the original network.

    Args:
        converted: Detectron2 name, `backbone.bottom_up.` included -> tensor.
        original: torchvision's or timm's name -> tensor, complete without the classifier.
        architecture: "resnet50", "timm:tf_efficientnet_lite0", ...

    Returns:
        Stage -> max |a - b| / max |b|, each at most `LIMIT`.

    Raises:
        ParityError: a stage differs by more, or the names are not those of Detectron2's backbone.
    """
    backbone = _detectron2_backbone(architecture)
    expected = {f"backbone.{name}" for name in backbone.state_dict() if name.startswith("bottom_up.")}
    if expected != set(converted):
        raise ParityError(f"names differ from Detectron2's, first: {sorted(expected ^ set(converted))[0]}")
    backbone.load_state_dict({name.removeprefix("backbone."): v for name, v in converted.items()}, strict=False)
    return check(feature_parity(backbone.bottom_up, original, architecture))


def feature_parity(bottom_up, original: Mapping, architecture: str | None = None) -> dict[str, float]:
    """Compare a Detectron2 backbone with the original network, torchvision's or timm's, on random images.

    Args:
        bottom_up: `model.backbone.bottom_up` of an FPN detector, on any device; its mode is restored.
        original: torchvision's or timm's name -> tensor, complete without the classifier.
        architecture: as in `file_parity`; None: a ResNet, recognized by its tensors.

    Returns:
        Stage -> max |a - b| / max |b| for res2 ... res5, computed in evaluation mode and float32; infinite where the
        features differ in shape or are not finite.
    """
    import torch

    device = next(bottom_up.parameters()).device
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # 2 x 2 positions at res5
    timm = timm_name(architecture)
    if timm:
        reference = timm_stages(timm, original, image)
    else:
        reference = _torchvision_features(original, architecture or recognize(original), image)
    was_training = bottom_up.training
    out_features = bottom_up._out_features
    bottom_up.eval()
    bottom_up._out_features = list(STAGES)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            features = bottom_up(image.to(device))
    finally:
        bottom_up.train(was_training)
        bottom_up._out_features = out_features
    return {stage: _difference(features[stage].float().cpu(), reference[stage]) for stage in STAGES}


def detector_parity(model, weights: Mapping) -> dict[str, float]:
    """Check the backbone of a loaded detector against the network in a converted file.

    Args:
        model: a Detectron2 detector with an FPN over a ResNet or a network of timm.
        weights: the `model` of a converted file, Detectron2 name -> tensor.

    Raises:
        ParityError: the backbone is not the file's: random, of another stride, or with a missing buffer.
    """
    inside = {name: value for name, value in weights.items() if name.startswith(BOTTOM_UP)}
    bottom_up = model.backbone.bottom_up
    if all(name.startswith(NETWORK) for name in inside):
        original = {name.removeprefix(NETWORK): value for name, value in inside.items()}
        return check(feature_parity(bottom_up, original, PREFIX + bottom_up.name))
    original = {detectron2_to_torchvision(name.removeprefix(BOTTOM_UP)): value for name, value in inside.items()}
    return check(feature_parity(bottom_up, original))


def check(parity: Mapping[str, float], limit: float = LIMIT) -> dict[str, float]:
    """Return the parity unchanged if every stage is within the limit.

    Raises:
        ParityError: a stage is not; names the first.
    """
    for stage, value in parity.items():
        if not value <= limit:  # also catches NaN
            raise ParityError(
                f"features at {stage} differ from the pretrained network's by {value:.2g} of their maximum "
                f"(limit {limit:g}); is MODEL.RESNETS.STRIDE_IN_1X1 False, and is every buffer loaded?"
            )
    return dict(parity)


def _difference(ours, reference) -> float:
    if ours.shape != reference.shape or not bool(ours.isfinite().all()):
        return float("inf")
    return float((ours - reference).abs().max() / reference.abs().max().clamp_min(1e-12))


def _torchvision_features(state: Mapping, architecture: str, image) -> dict:
    import torch
    import torchvision

    network = getattr(torchvision.models, architecture)(weights=None)
    network.fc = torch.nn.Identity()
    network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()}, strict=True)
    network.eval()
    features = {}
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        for number, stage in enumerate(STAGES, start=1):
            x = features[stage] = getattr(network, f"layer{number}")(x)
    return features


def _detectron2_backbone(architecture: str):
    """Build the FPN backbone in the original's convention, with BN, so that no buffer is missing."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    import d2_cxr
    from d2_cxr.checkpoint import timm_backbone  # noqa: F401 - registers the builder
    from d2_cxr.checkpoint.config_file import detector_config
    from d2_cxr.checkpoint.weights_card import WeightsCard

    card = WeightsCard(architecture=architecture, input_format="RGB")
    if not timm_name(architecture):
        card.depth, card.stride_in_1x1 = depth_of(architecture), False
    model = detector_config(card, weights="")["MODEL"]
    cfg = get_cfg()
    d2_cxr.add_cxr_config(cfg)
    cfg.MODEL.BACKBONE.NAME = model["BACKBONE"]["NAME"]
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.TIMM.NAME = timm_name(architecture) or ""
    cfg.MODEL.FPN.IN_FEATURES = list(STAGES)
    for key, value in {**model["RESNETS"], "NORM": "BN"}.items():
        cfg.MODEL.RESNETS[key] = value
    return build_backbone(cfg).eval()
