"""A detector over a network of timm: from weights of its own to a run, its card, and predictions."""

import cv2
import numpy as np
import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.convert import convert_file
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.engine import trainer
from d2_cxr.prediction.predictor import Predictor

timm = pytest.importorskip("timm")
NAME = "mobilenetv3_small_050"
TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", NAME]


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model(NAME).state_dict(), tmp_path / "source.pth")
    convert_file(tmp_path / "source.pth", tmp_path / "w.pth", timm=NAME)
    return tmp_path / "w.pth"


def test_a_run_starts_from_every_weight_and_predicts(tiny_cfg, weights, tmp_path):
    cfg = tiny_cfg(*TIMM, "MODEL.WEIGHTS", str(weights), "SOLVER.MAX_ITER", "2")
    trainer.train(cfg)
    groups = artifacts.read_json(tmp_path / "run/weights.json")["groups"]
    backbone = {name: row for name, row in groups.items() if name.startswith("backbone.bottom_up.")}
    assert {row["origin"] for row in backbone.values()} == {"file"} and {
        row["frozen"] for row in backbone.values()
    } == {"no"}
    assert "backbone.bottom_up.network.blocks.5" in backbone
    card = read_card(tmp_path / "run/model_final.pth")
    assert (card.architecture, card.depth, card.norm) == (f"timm:{NAME}", None, "BN")
    cv2.imwrite(str(tmp_path / "image.png"), np.random.default_rng(3).integers(0, 255, (128, 256)).astype(np.uint8))
    found = Predictor(tmp_path / "run/model_final.pth", device="cpu")(tmp_path / "image.png")
    assert (found.width, found.height) == (256, 128)


@pytest.mark.parametrize(
    "options, says",
    [
        (["MODEL.PIXEL_MEAN", "[127.5, 127.5, 127.5]"], "MODEL.PIXEL_MEAN is"),
        (["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"], "MODEL.BACKBONE.NAME is build_resnet_fpn_backbone, but"),
        (["MODEL.TIMM.NAME", "mobilenetv3_small_075"], "MODEL.TIMM.NAME is mobilenetv3_small_075, but"),
    ],
)
def test_a_config_that_contradicts_the_weights_does_not_start(tiny_cfg, weights, options, says):
    with pytest.raises(ValueError, match=says):
        trainer.train(tiny_cfg(*TIMM, "MODEL.WEIGHTS", str(weights), *options))


def test_frozen_norms_without_weights_are_refused(tiny_cfg):
    with pytest.raises(ValueError, match="FrozenBN lacks"):
        trainer.train(tiny_cfg(*TIMM, "MODEL.RESNETS.NORM", "FrozenBN"))
