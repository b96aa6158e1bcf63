"""The `.yaml` beside converted weights: a complete Detectron2 config that starts from them, loadable anywhere.

What the weights demand comes first; the rest is the paper's detector (Faster R-CNN with FPN at 512 px; 15 epochs of
batch 8, SGD 1e-3; arXiv 2206.00344). Stock Detectron2 reads it: no key of ours, no `_BASE_`; but a network of
timm needs `d2_cxr.add_cxr_config(cfg)` and `import d2_cxr.checkpoint.timm_backbone` first.
"""

from __future__ import annotations

from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.checkpoint.weights_card import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, WeightsCard

_DETECTOR = {
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "MASK_ON": False,
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 2},
        "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"]},
        "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
        "RPN": {
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "PRE_NMS_TOPK_TRAIN": 2000,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TRAIN": 1000,
            "POST_NMS_TOPK_TEST": 1000,
        },
        "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3", "p4", "p5"], "NUM_CLASSES": 14},
        "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
    },
    "INPUT": {"MIN_SIZE_TRAIN": [512], "MAX_SIZE_TRAIN": 512, "MIN_SIZE_TEST": 512, "MAX_SIZE_TEST": 512},
    "DATASETS": {"TRAIN": ["vindr_cxr_train"], "TEST": ["vindr_cxr_test"]},
    "SOLVER": {  # 15 epochs of the resampled training set: the sum of its repeat factors is 4658 images
        "IMS_PER_BATCH": 8,
        "BASE_LR": 0.001,
        "WEIGHT_DECAY": 0.0001,
        "WARMUP_ITERS": 0,
        "STEPS": [4658, 6405],
        "MAX_ITER": 8734,
    },
    "VERSION": 2,
}


def detector_config(card: WeightsCard, weights: str) -> dict:
    """Return the whole config as nested plain values, the weights' demands first.

    Args:
        card: pixel mean and std that it does not know are set to ImageNet's, torchvision's usual convention.
        weights: value of MODEL.WEIGHTS.
    """
    demands = {
        "MODEL.WEIGHTS": weights,
        "MODEL.PIXEL_MEAN": list(IMAGENET_MEAN_RGB),
        "MODEL.PIXEL_STD": list(IMAGENET_STD_RGB),
        **card.config_demands(),
        # resnet18 and resnet50 differ here; BN of self-supervised weights is kept as it is, which needs them in place
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.RESNETS.NORM": "FrozenBN",
    }
    config: dict = {}
    for key, value in demands.items():
        *sections, last = key.split(".")
        node = config
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return _merged(config, _DETECTOR)


def write_config(path: str | Path, config: dict, card: WeightsCard) -> None:
    """Write a config as YAML with a comment that says which values come from the weights."""
    import yaml

    lines = ["# What these weights demand comes first: WEIGHTS, PIXEL_MEAN, PIXEL_STD, RESNETS, INPUT.FORMAT."]
    if card.pixel_mean is None or card.pixel_std is None:
        lines.append("# PIXEL_MEAN or PIXEL_STD is not stated by the weights; ImageNet's (torchvision) is assumed.")
    lines.append(
        "# The rest is Faster R-CNN with FPN at 512 px; change it freely. WEIGHTS is as it was given to the converter."
    )
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=120)
    artifacts.write_text(path, "\n".join(lines) + "\n" + text)


def _merged(first: dict, rest: dict) -> dict:
    """Return `first` with what `rest` adds; the order and the values of `first` win."""
    merged = dict(first)
    for key, value in rest.items():
        if isinstance(value, dict):
            merged[key] = _merged(merged.get(key, {}), value)
        else:
            merged.setdefault(key, value)
    return merged
