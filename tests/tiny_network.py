"""A backbone of 0.1 million weights: ResNet-18's, with one block a stage and an eighth of its channels.

What a run checks, saves, reads and hashes is the same for eleven million weights, and takes ten times as long.
"""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet

CHANNELS = (8, 16, 32, 64)


@BACKBONE_REGISTRY.register()
def build_tiny_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return it with an FPN; the names of its weights are those of `build_resnet_fpn_backbone`."""
    norm, channels, stages = cfg.MODEL.RESNETS.NORM, CHANNELS[0], []
    stem = BasicStem(input_shape.channels, channels, norm=norm)
    for out in CHANNELS:
        stride = 1 if out == CHANNELS[0] else 2
        block = ResNet.make_stage(BasicBlock, 1, in_channels=channels, out_channels=out, stride=stride, norm=norm)
        stages.append(block)
        channels = out
    features = cfg.MODEL.FPN.IN_FEATURES
    network = ResNet(stem, stages, out_features=features, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
    return FPN(network, features, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM, LastLevelMaxPool())
