"""The `.yaml` of converted weights: a complete Detectron2 config that starts from them, loadable anywhere.

The keys that the weights require come first; the rest is the paper's detector (Faster R-CNN with FPN at 512 px; 15
epochs of batch 8, SGD 1e-3; arXiv 2206.00344). Plain Detectron2 reads it: no key of ours, no `_BASE_`; but a network of
timm needs `d2_cxr.add_cxr_config(cfg)` and `import d2_cxr.checkpoint.timm_backbone` first.
"""

from __future__ import annotations

import ast
from pathlib import Path

from d2_cxr import artifacts, configs
from d2_cxr.checkpoint.loading import load_yaml
from d2_cxr.checkpoint.weights_card import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, WeightsCard

_BASE = "Base-Faster-RCNN-FPN.yaml"
# The paper's 15 epochs of VinDr-CXR, whose repeat factors sum up to 4658 images, in iterations of batch 8: stock
# Detectron2 knows no epochs.
_SCHEDULE = {"STEPS": [4658, 6405], "MAX_ITER": 8734}
_CLASSES = 14  # of VinDr-CXR


def detector_config(card: WeightsCard, weights: str) -> dict:
    """Return the whole config as nested plain values, what the weights require first.

    Args:
        card: pixel mean and std that it does not know are set to ImageNet's, torchvision's usual convention.
        weights: value of MODEL.WEIGHTS.
    """
    required = {
        "MODEL.WEIGHTS": weights,
        "MODEL.PIXEL_MEAN": list(IMAGENET_MEAN_RGB),
        "MODEL.PIXEL_STD": list(IMAGENET_STD_RGB),
        **card.required_config(),
        # resnet18 and resnet50 differ here; BN of self-supervised weights is kept as it is, which needs them in place
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.RESNETS.NORM": "FrozenBN",
    }
    config: dict = {}
    for key, value in required.items():
        *sections, last = key.split(".")
        node = config
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return _merged(config, base_config())


def base_config() -> dict:
    """Return the project's base config as plain values that stock Detectron2 reads: without the keys under CXR."""
    base = load_yaml(configs.path(_BASE))
    del base["CXR"], base["OUTPUT_DIR"], base["DATALOADER"]
    base["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] = _CLASSES
    base["SOLVER"] |= _SCHEDULE
    return {key: _without_python(value) for key, value in base.items()}


def write_config(path: str | Path, config: dict, card: WeightsCard) -> None:
    """Write a config as YAML with a comment that says which values come from the weights."""
    import yaml

    lines = ["# The keys that these weights require come first: WEIGHTS, PIXEL_MEAN, PIXEL_STD, RESNETS, INPUT.FORMAT."]
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


def _without_python(value: object) -> object:
    """Return a value with the texts that YACS evaluates, ("vindr_cxr_train",), as lists."""
    if isinstance(value, dict):
        return {key: _without_python(entry) for key, entry in value.items()}
    if isinstance(value, str) and value.startswith("("):
        return list(ast.literal_eval(value))
    return value
