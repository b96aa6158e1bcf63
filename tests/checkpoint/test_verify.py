import pytest
import torch
import torchvision

from d2_cxr.checkpoint import verify
from d2_cxr.checkpoint.convert import convert_state
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP, torchvision_to_detectron2


def as_converted(state):
    return {BOTTOM_UP + torchvision_to_detectron2(name): value for name, value in state.items()}


@pytest.fixture(scope="module")
def backbone(resnet18):
    return convert_state(resnet18).backbone


@pytest.fixture(scope="module")
def detector():
    """Detectron2's FPN backbone of ResNet-18 as `model.backbone`, with BatchNorm, random weights."""

    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = verify._detectron2_backbone("resnet18")

    return Detector()


def test_the_same_weights_give_the_same_features(backbone):
    assert verify.file_parity(as_converted(backbone), backbone, "resnet18") == dict.fromkeys(verify.STAGES, 0.0)


def test_one_changed_statistic_is_found_at_its_stage_and_after(backbone):
    changed = {**backbone, "layer3.0.bn1.running_mean": backbone["layer3.0.bn1.running_mean"] + 0.5}
    with pytest.raises(verify.ParityError, match="features at res4 differ"):
        verify.file_parity(as_converted(changed), backbone, "resnet18")


def test_a_backbone_left_random_is_refused(detector, backbone):
    with pytest.raises(verify.ParityError, match="features at res2 differ"):
        verify.detector_parity(detector, as_converted(backbone))


def test_a_loaded_detector_passes_and_keeps_its_mode(detector, backbone):
    weights = as_converted(backbone)
    detector.load_state_dict(weights, strict=False)
    detector.train()
    outputs = list(detector.backbone.bottom_up._out_features)
    assert max(verify.detector_parity(detector, weights).values()) <= 1e-4
    assert detector.backbone.bottom_up.training and detector.backbone.bottom_up._out_features == outputs


def test_a_missing_buffer_is_refused(detector, backbone):
    weights = as_converted(backbone)
    detector.load_state_dict(weights, strict=False)
    detector.backbone.bottom_up.res5[1].conv2.norm.running_var.fill_(1.0)  # as if the file had not had it
    with pytest.raises(verify.ParityError, match="features at res5 differ"):
        verify.detector_parity(detector, weights)


@pytest.mark.slow
def test_stride_in_the_1x1_is_another_network_although_every_tensor_loads():
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    state = torchvision.models.resnet50(weights=None).state_dict()
    backbone = convert_state(state).backbone
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = list(verify.STAGES)
    cfg.MODEL.RESNETS.OUT_FEATURES = list(verify.STAGES)
    cfg.MODEL.RESNETS.NORM = "BN"
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1  # Detectron2's default
    wrong = build_backbone(cfg)
    weights = {name.removeprefix("backbone."): value for name, value in as_converted(backbone).items()}
    assert wrong.load_state_dict(weights, strict=False).unexpected_keys == []
    parity = verify.feature_parity(wrong.bottom_up, backbone, "resnet50")
    assert parity["res2"] == 0 and parity["res3"] > 0.1
    with pytest.raises(verify.ParityError, match=r"res3 differ.*STRIDE_IN_1X1"):
        verify.check(parity)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet34", "resnet50", "resnet101"])
def test_every_depth_converts_with_equal_features(architecture):
    state = getattr(torchvision.models, architecture)(weights=None).state_dict()
    backbone = convert_state(state).backbone
    assert max(verify.file_parity(as_converted(backbone), backbone, architecture).values()) <= 1e-4


def test_not_a_number_is_no_agreement():
    with pytest.raises(verify.ParityError, match="res2"):
        verify.check({"res2": float("nan")})
