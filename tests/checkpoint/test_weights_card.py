from types import SimpleNamespace

import torch

from d2_cxr.checkpoint.weights_card import WeightsCard, contradictions, read_card, zoo_card


def config(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), form="RGB", stride=False, depth=50, width=256):
    return SimpleNamespace(
        MODEL=SimpleNamespace(
            PIXEL_MEAN=list(mean),
            PIXEL_STD=list(std),
            RESNETS=SimpleNamespace(STRIDE_IN_1X1=stride, DEPTH=depth, RES2_OUT_CHANNELS=width),
        ),
        INPUT=SimpleNamespace(FORMAT=form),
    )


CARD = WeightsCard(
    depth=50,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    input_format="RGB",
    stride_in_1x1=False,
)


def test_a_config_that_agrees_has_no_contradiction():
    assert contradictions(CARD, config()) == []
    assert contradictions(CARD, config(mean=(123.68, 116.28, 103.53))) == []  # rounded in a YAML


def test_every_contradiction_is_told():
    found = contradictions(
        CARD, config(mean=(103.53, 116.28, 123.675), std=(1, 1, 1), form="BGR", stride=True, depth=101)
    )
    assert [sentence.split()[0] for sentence in found] == [
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "INPUT.FORMAT",
        "MODEL.RESNETS.DEPTH",
        "MODEL.RESNETS.STRIDE_IN_1X1",
    ]
    assert found[2] == "INPUT.FORMAT is BGR, but the weights were trained with RGB"


def test_what_a_card_does_not_know_is_compared_with_nothing():
    assert contradictions(WeightsCard(), config(form="BGR", stride=True)) == []


def test_a_basic_block_network_demands_64_channels_at_res2():
    assert WeightsCard(depth=18).required_config()["MODEL.RESNETS.RES2_OUT_CHANNELS"] == 64
    assert WeightsCard(depth=101).required_config()["MODEL.RESNETS.RES2_OUT_CHANNELS"] == 256


def test_a_card_survives_the_file_and_keys_of_a_newer_version(tmp_path):
    torch.save({"card": {**CARD.to_dict(), "later": [1]}, "model": {}}, tmp_path / "w.pth")
    card = read_card(tmp_path / "w.pth")
    assert card.pixel_mean == CARD.pixel_mean and card.more == {"later": [1]}
    assert card.to_dict() == {**CARD.to_dict(), "later": [1]}


def test_a_pretraining_checkpoint_has_a_card_too(tmp_path):
    torch.save({"d2_cxr": {"method": "simclr", "images": torch.zeros(2, 16)}}, tmp_path / "last.ckpt")
    assert read_card(tmp_path / "last.ckpt") == WeightsCard(method="simclr")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert read_card(tmp_path / "foreign.ckpt") is None


def test_the_zoo_has_three_conventions():
    coco = zoo_card("detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl")
    assert (coco.input_format, coco.pixel_std, coco.stride_in_1x1, coco.depth) == ("BGR", [1.0, 1.0, 1.0], True, 50)
    torchvision = zoo_card("detectron2://ImageNetPretrained/torchvision/R-50.pkl")
    assert (torchvision.input_format, torchvision.stride_in_1x1) == ("RGB", False)
    resnext = zoo_card("detectron2://COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x/139173657/model_final_68b088.pkl")
    assert (resnext.pixel_std, resnext.stride_in_1x1) == ([57.375, 57.12, 58.395], False)
    assert zoo_card("output/model_final.pth") is None
