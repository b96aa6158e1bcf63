"""Every YAML loads without Python tags and builds its model, without weights or images on disk."""

from pathlib import Path

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")

import torch
from detectron2.modeling import build_model

from d2_cxr.checkpoint.weights_card import WeightsCard, contradictions, zoo_card
from d2_cxr.engine.config import load_config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if path.parent.name != "pretraining"  # solo-learn's keys
]
VINDR = Path("configs/VinDr-CXR")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def differences(config, base):
    """Dotted keys in which two configs differ."""
    found = set()

    def walk(a, b, prefix):
        for key in a:
            if isinstance(a[key], dict):
                walk(a[key], b[key], f"{prefix}{key}.")
            elif a[key] != b[key]:
                found.add(prefix + key)

    walk(load_config(config), load_config(base), "")
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_a_config_loads_and_builds(path):
    cfg = load_config(path)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):  # shapes only: a ResNet-50 detector takes a second otherwise
        model = build_model(cfg)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1_000_000


def test_the_simclr_leaf_changes_only_what_the_weights_demand():
    assert differences(VINDR / "faster_rcnn_R_50_FPN_simclr.yaml", VINDR / "faster_rcnn_R_50_FPN.yaml") == {
        "MODEL.WEIGHTS",
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "MODEL.RESNETS.STRIDE_IN_1X1",
        "INPUT.FORMAT",
        "OUTPUT_DIR",
    }


def test_the_random_leaf_freezes_nothing():
    changed = differences(VINDR / "faster_rcnn_R_50_FPN_random.yaml", VINDR / "faster_rcnn_R_50_FPN_simclr.yaml")
    assert changed == {
        "MODEL.WEIGHTS",
        "MODEL.BACKBONE.FREEZE_AT",
        "MODEL.RESNETS.NORM",
        "SOLVER.CLIP_GRADIENTS.ENABLED",
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        "OUTPUT_DIR",
    }
    cfg = load_config(VINDR / "faster_rcnn_R_50_FPN_random.yaml")
    assert (cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.RESNETS.NORM) == (0, "BN")


def test_the_draft_leaf_is_the_drafts_schedule():
    cfg = load_config(VINDR / "faster_rcnn_R_50_FPN_draft.yaml")
    assert (cfg.CXR.EPOCHS, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (12, 2, 2e-4)
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY) == (0.9, 1e-4)


def test_the_baseline_is_the_papers_schedule():
    cfg = load_config(VINDR / "faster_rcnn_R_50_FPN.yaml")
    assert (cfg.CXR.EPOCHS, cfg.CXR.STEP_EPOCHS, cfg.SOLVER.WARMUP_ITERS) == (15, [8, 11], 0)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM) == (8, 1e-3, 0.9)
    assert (cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST) == (512, 0.05)
    assert (cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE) == (0.5, 100)
    assert (cfg.DATALOADER.REPEAT_THRESHOLD, cfg.INPUT.MIN_SIZE_TRAIN) == (0.4, (512,))


@pytest.mark.parametrize("name", ["", "_1024", "_draft"])
def test_leaves_that_start_from_the_zoo_keep_its_convention(name):
    cfg = load_config(VINDR / f"faster_rcnn_R_50_FPN{name}.yaml")
    card = zoo_card(cfg.MODEL.WEIGHTS)
    assert card is not None and contradictions(card, cfg) == []


@pytest.mark.parametrize("path", ["VinDr-CXR/faster_rcnn_R_50_FPN_simclr", "quick_schedules/demo_R_18"])
def test_leaves_for_our_weights_keep_torchvisions_convention(path):
    cfg = load_config(f"configs/{path}.yaml")
    card = WeightsCard(depth=cfg.MODEL.RESNETS.DEPTH, stride_in_1x1=False, input_format="RGB")
    card.pixel_mean, card.pixel_std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    assert contradictions(card, cfg) == []
