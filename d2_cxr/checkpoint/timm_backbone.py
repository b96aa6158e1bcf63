"""`build_timm_fpn_backbone`: any of timm's hierarchical networks under Detectron2's FPN (timm, arXiv 2110.00476).

`MODEL.TIMM.NAME` names the network. What a study holds equal for all arms is read from Detectron2's own keys:
`MODEL.RESNETS.NORM` ("BN" trains the network's own norms, "FrozenBN" fixes BatchNorm's statistics and affine terms) and
`MODEL.BACKBONE.FREEZE_AT` (n fixes everything up to stride 2**n, as in Detectron2's ResNet: 2 is stem and res2).
Importing this file puts the builder into Detectron2's registry.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from d2_cxr.checkpoint.timm_names import STRIDES, build_network, stage_modules

_NORMS = ("", "BN", "FrozenBN", "SyncBN")


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg, input_shape) -> FPN:
    """Return an FPN (p2 ... p6) over the timm network `MODEL.TIMM.NAME` with random weights.

    Raises:
        ValueError: no name, no such model, no features at strides 4 to 32, or a norm that timm's networks cannot take.
    """
    if not cfg.MODEL.TIMM.NAME:
        raise ValueError("MODEL.TIMM.NAME is empty; give a model of timm, e.g. tf_efficientnet_lite0")
    return FPN(
        bottom_up=TimmBackbone(cfg.MODEL.TIMM.NAME, cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


class TimmBackbone(Backbone):
    """timm's feature extractor: float (N, 3, H, W) -> {res2 ... res5: float (N, C, H/s, W/s)}, s = 4, 8, 16, 32."""

    def __init__(self, name: str, norm: str = "BN", freeze_at: int = 0):
        """
        Args:
            name: timm's, e.g. "tf_efficientnet_lite0".
            norm: "BN" or "" (the network's own norms), "SyncBN" or "FrozenBN".
            freeze_at: parts up to stride 2**freeze_at are not trained.
        """
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f"MODEL.RESNETS.NORM is {norm!r}; timm's networks take {', '.join(filter(None, _NORMS))}")
        self.name = name
        network = build_network(name)
        self._stages = stage_modules(network)
        self._channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        frozen = _modules_up_to(network, 2**freeze_at)
        for module in frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
        self.network = _with_norms(network, norm, set(map(id, frozen)))
        self._out_features = list(STRIDES)
        self._out_feature_strides = dict(STRIDES)
        self._out_feature_channels = {stage: channels for stage, (_, channels, _) in self._stages.items()}

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return stage -> feature map (B, C, H, W) of images (B, 3, H, W)."""
        maps = self.network(image)
        if self._channels_last:
            maps = [features.permute(0, 3, 1, 2).contiguous() for features in maps]
        return {stage: maps[index] for stage, (index, _, _) in self._stages.items()}


class _FrozenBatchNormAct(FrozenBatchNorm2d):
    """timm's BatchNorm with its activation behind it, fixed as Detectron2 fixes its own."""

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, norm.eps)
        for name in ("running_mean", "running_var"):
            getattr(self, name).copy_(getattr(norm, name))
        if norm.affine:
            self.weight.copy_(norm.weight.data)
            self.bias.copy_(norm.bias.data)
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(image)))


def _modules_up_to(network: nn.Module, stride: int) -> list[nn.Module]:
    """Return all modules from the input to the last of those whose features have at most this stride."""
    info: Any = network.feature_info  # timm's FeatureInfo
    ends = [end for end, reduction in zip(info.module_name(), info.reduction(), strict=True) if reduction <= stride]
    if stride < 2 or not ends:
        return []
    names = [name for name, _ in network.named_modules()]
    end = ends[-1] if ends[-1] in names else ends[-1].replace(".", "_")  # timm flattens some networks
    last = max(index for index, name in enumerate(names) if name == end or name.startswith(f"{end}."))
    return [module for _, module in list(network.named_modules())[: last + 1]]


def _with_norms(network: nn.Module, norm: str, frozen: set[int]) -> nn.Module:
    """Replace BatchNorm by its fixed form if requested, or in parts that are frozen; SyncBN in the rest."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and (norm == "FrozenBN" or id(child) in frozen):
                parent.add_module(name, _FrozenBatchNormAct(child))
    if norm == "SyncBN":
        from timm.layers import convert_sync_batchnorm

        network = convert_sync_batchnorm(network)
    return network
