"""Pretraining of a network of timm: solo-learn's heads fit it, it starts from a file, and arrives in Detectron2."""

import pytest
import torch

from d2_cxr.checkpoint.convert import ConversionError, convert_file
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.pretraining import settings
from d2_cxr.pretraining.method import build_method
from d2_cxr.pretraining.train import pretrain

timm = pytest.importorskip("timm")
NAME = "mobilenetv3_small_050"  # the last stage of its feature extractor has 288 channels


@pytest.fixture
def config(tiny_config):
    return {**tiny_config, "backbone": f"timm:{NAME}", "epochs": 1}


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_the_heads_are_as_wide_as_the_last_stage(config, method):
    built = build_method(settings.complete({**config, "method": method}), 1)
    assert built.projector[0].in_features == built.classifier.in_features == 288
    if method == "byol":
        theirs, ours = built.momentum_encoder.state_dict(), built.encoder.state_dict()
        assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_solo_learns_own_networks_are_left_in_place(config, tiny_config):
    import solo.utils.backbones as offered

    own = offered.vit_tiny
    build_method(settings.complete(config), 1)
    assert offered.vit_tiny is own
    assert build_method(settings.complete(tiny_config), 1).encoder.inplanes == 512


def test_the_models_own_input_is_the_default_and_can_be_set(config):
    lite0 = {**config, "backbone": "timm:tf_efficientnet_lite0"}
    assert settings.complete(lite0)["pixel_mean"] == [127.5, 127.5, 127.5]
    assert settings.complete({**lite0, "pixel_mean": [0, 0, 0]})["pixel_mean"] == [0, 0, 0]


def test_an_unknown_model_is_refused(config):
    with pytest.raises(ValueError, match="cannot build no_such_net"):
        settings.complete({**config, "backbone": "timm:no_such_net"})


def test_a_run_from_a_file_goes_on_from_its_weights_and_arrives_in_detectron2(config, tmp_path, capfd):
    torch.manual_seed(1)
    state = timm.create_model(NAME).state_dict()
    torch.save(state, tmp_path / "imagenet.pth")
    convert_file(tmp_path / "imagenet.pth", tmp_path / "converted.pth", timm=NAME)
    still = {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0, "momentum": 0.0}
    config |= {"init_from": str(tmp_path / "converted.pth"), "optimizer": still}
    checkpoint = pretrain(config, tmp_path / "run")
    assert f"pretraining timm:{NAME}" in capfd.readouterr().err, "progress names solo-learn's network, not ours"
    trained = load_weights_file(checkpoint)["state_dict"]
    assert torch.allclose(trained["encoder.conv_stem.weight"], state["conv_stem.weight"], atol=1e-6)
    card = read_card(checkpoint)
    assert card.architecture == f"timm:{NAME}" and card.initialized_from == "weights (converted.pth)"
    card = convert_file(checkpoint, tmp_path / "w.pth")
    assert max(card.parity.values()) <= 1e-4 and card.source_format == "solo-learn <= 1.0.2"
    left_out = load_weights_file(tmp_path / "w.pth")["conversion"]["left_out"]
    assert {name.split(".")[0] for name in left_out} == {"classifier", "projector"}


def test_weights_of_another_network_are_refused(config, tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ConversionError, match=f"tensors of timm:{NAME}, first"):
        pretrain({**config, "init_from": str(tmp_path / "other.pth")}, tmp_path / "run")
