"""Files as other learners write them; names from their checkpoint code, tensors drawn."""

import pytest
import torch
from safetensors.torch import save_file

from d2_cxr.checkpoint.conversion import ConversionError
from d2_cxr.checkpoint.convert import convert_file
from d2_cxr.checkpoint.loading import WeightsError, load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP
from d2_cxr.checkpoint.sources import is_head, is_momentum, state_dict_of

CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@pytest.fixture
def network(resnet18):
    return {name: value for name, value in resnet18.items() if not name.startswith("fc.")}


def below(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def shifted(state):
    """Another network of the same names: taken in place of the right one, it would show."""
    return {name: value + 1 for name, value in state.items()}


def as_sequential(state):
    return {".".join([CHILDREN[name.split(".")[0]], *name.split(".")[1:]]): value for name, value in state.items()}


FILES = {
    "MoCo v2": lambda net: {
        "epoch": 3,
        "state_dict": {
            **below("module.encoder_q.", net),
            "module.encoder_q.fc.0.weight": torch.ones(8, 512),
            **below("module.encoder_k.", shifted(net)),
            "module.queue": torch.ones(8, 16),
            "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        },
    },
    "MoCo v3": lambda net: {
        "state_dict": {
            **below("module.base_encoder.", net),
            **below("module.momentum_encoder.", shifted(net)),
            "module.predictor.0.weight": torch.ones(2, 2),
        }
    },
    "SwAV": lambda net: {
        **below("module.", net),
        "module.projection_head.0.weight": torch.ones(8, 512),
        "module.prototypes0.weight": torch.ones(30, 8),
    },
    "DINO": lambda net: {
        "student": {**below("module.backbone.", shifted(net)), "module.head.last_layer.weight_g": torch.ones(4, 1)},
        "teacher": {**below("backbone.", net), "head.last_layer.weight_g": torch.ones(4, 1)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
    },
    "VISSL": lambda net: {
        "classy_state_dict": {
            "base_model": {"model": {"trunk": below("_feature_blocks.", net), "heads": {"0.clf.weight": torch.ones(2)}}}
        }
    },
    "BYOL": lambda net: {
        **below("online_encoder.net.", net),
        **below("target_encoder.net.", shifted(net)),
        "online_predictor.net.0.weight": torch.ones(2, 2),
    },
    "lightly": lambda net: {
        "state_dict": {
            **below("backbone.", as_sequential(net)),
            "projection_head.layers.0.weight": torch.ones(2, 512),
            **below("backbone_momentum.", as_sequential(shifted(net))),
        }
    },
}


@pytest.mark.parametrize("learner", FILES)
def test_the_trained_backbone_is_found_without_a_confirmation(learner, network, tmp_path):
    torch.save(FILES[learner](network), tmp_path / "source.pth")
    convert_file(tmp_path / "source.pth", tmp_path / "out.pth", verify=False)
    model = load_weights_file(tmp_path / "out.pth")["model"]
    assert torch.equal(model[BOTTOM_UP + "res4.1.conv2.weight"], network["layer3.1.conv2.weight"])
    assert torch.equal(model[BOTTOM_UP + "stem.conv1.norm.running_mean"], network["bn1.running_mean"])
    assert len(model) == 120


def test_heads_below_the_backbone_s_own_prefix_are_listed(network, tmp_path, caplog):
    torch.save(FILES["SwAV"](network), tmp_path / "swav.pth")
    with caplog.at_level("INFO"):
        convert_file(tmp_path / "swav.pth", tmp_path / "out.pth", verify=False)
    assert "left out: 2 tensors of module.projection_head, module.prototypes0" in caplog.text
    assert load_weights_file(tmp_path / "out.pth")["conversion"]["left_out"] == [
        "module.projection_head.0.weight",
        "module.prototypes0.weight",
    ]


def test_safetensors_are_read_and_a_cut_file_is_refused(network, tmp_path):
    save_file(below("backbone.", network), tmp_path / "a.safetensors")
    convert_file(tmp_path / "a.safetensors", tmp_path / "out.pth", verify=False)
    assert len(load_weights_file(tmp_path / "out.pth")["model"]) == 120
    content = (tmp_path / "a.safetensors").read_bytes()
    for cut in (b"", content[:5], content[:-100], b"\xff" * 64):
        (tmp_path / "cut.safetensors").write_bytes(cut)
        with pytest.raises(WeightsError, match=r"cut\.safetensors"):
            load_weights_file(tmp_path / "cut.safetensors")


def test_a_file_without_tensors_says_where_was_looked(tmp_path):
    with pytest.raises(
        ConversionError, match=r"a\.pth holds no tensors under state_dict, model, .*\['epoch', 'state'\]"
    ):
        state_dict_of({"epoch": 3, "state": {"lr": 0.1}}, tmp_path / "a.pth")


def test_parts_of_the_network_are_no_heads_and_momentum_is_known_by_name():
    heads = ("fc.weight", "prototypes.weight", "projection_head.0.bias", "head", "projector.1.weight", "mlp.0.weight")
    assert all(map(is_head, heads))
    assert not any(map(is_head, ("conv1.weight", "layer5.0.conv1.weight", "attnpool.weight", "headless.weight")))
    assert all(
        map(is_momentum, ("module.encoder_k.", "momentum_encoder.", "target_encoder.net.", "backbone_momentum."))
    )
    assert not any(map(is_momentum, ("encoder.", "module.encoder_q.", "online_encoder.net.")))


def test_statistics_that_never_saw_a_batch_are_warned_of(network, tmp_path, caplog):
    fresh = {
        name: torch.zeros_like(value)
        if "running_mean" in name
        else torch.ones_like(value)
        if "running_var" in name
        else value
        for name, value in network.items()
    }
    torch.save({"state_dict": below("backbone.", fresh)}, tmp_path / "fresh.pth")
    convert_file(tmp_path / "fresh.pth", tmp_path / "out.pth", verify=False)
    assert "no BatchNorm of the file has seen a batch" in caplog.text


def test_a_converted_file_that_was_changed_afterwards_is_noticed(network, tmp_path):
    from d2_cxr.checkpoint.fingerprint import require_same_tensors

    torch.save({"state_dict": below("backbone.", network)}, tmp_path / "a.pth")
    convert_file(tmp_path / "a.pth", tmp_path / "out.pth", verify=False)
    content = load_weights_file(tmp_path / "out.pth")
    require_same_tensors(content, "out.pth")
    content["model"][BOTTOM_UP + "stem.conv1.weight"] = content["model"][BOTTOM_UP + "stem.conv1.weight"] * 2
    with pytest.raises(WeightsError, match="its tensors are not those"):
        require_same_tensors(content, "out.pth")
