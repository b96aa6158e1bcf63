"""Where self-supervised learners put a ResNet in their files: nesting, prefixes, momentum encoders and heads.

A prefix listed here needs no confirmation. From the checkpoint code of solo-learn, torchvision,
MoCo v1 to v3, SimSiam, SwAV, DINO, VISSL, BYOL (lucidrains, sthalles) and lightly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from d2_cxr.checkpoint.conversion import ConversionError
from d2_cxr.checkpoint.resnet_names import find_prefixes

PREFIXES = {  # prefix of the backbone -> who writes it so
    "encoder.": "solo-learn <= 1.0.2",
    "backbone.": "solo-learn >= 1.0.3, DINO, lightly",
    "": "torchvision",
    "module.": "SwAV, or a network saved inside DataParallel",
    "encoder_q.": "MoCo v1, v2",
    "module.encoder_q.": "MoCo v1, v2",
    "base_encoder.": "MoCo v3",
    "module.base_encoder.": "MoCo v3",
    "module.encoder.": "SimSiam",
    "module.backbone.": "DINO's student, Barlow Twins",
    "_feature_blocks.": "VISSL",
    "trunk._feature_blocks.": "VISSL",
    "net.": "BYOL",
    "online_encoder.net.": "BYOL",
    "module.online_encoder.net.": "BYOL",
    "model.backbone.": "lightly",
    "model.": "a network inside a Lightning module",
    "resnet.": "a network inside a module",
}
# Averages of the backbone that was trained; DINO's teacher, which its authors evaluate, is chosen by `state_dict_of`.
_MOMENTUM = re.compile(r"(^|\.)(momentum\w*|\w*_momentum|encoder_k|key_encoder|target_\w+|ema\w*)\.")
# Heads that share the prefix of the backbone (SwAV, lightly); detection does not use them.
_HEADS = re.compile(
    r"^(fc|heads?|\w*_head|projection\w*|projector|prototypes\w*|predict(or|ion\w*)|classifier|\w+_classifier|mlp|proj"
    r"|linear|queue\w*|last_layer|neck)(\.|$)"
)
# Keys under which tensors lie, in the order in which they are looked for.
_NESTED = (
    "state_dict",
    "model",
    "model_state_dict",
    "teacher",
    "online_network_state_dict",
    "student",
    "classy_state_dict",
    "base_model",
    "trunk",
    "network",
    "net",
)
_DEPTH = 6
_SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def state_dict_of(content: Mapping, source: Path) -> dict:
    """Find the tensors in a file: Lightning says `state_dict`, Detectron2 `model`, VISSL nests four levels deep.

    Of several networks the first in the order of `_NESTED` counts, so DINO's teacher before its student.

    Returns:
        name -> tensor; a ResNet saved as nn.Sequential (lightly) gets torchvision's names.

    Raises:
        ConversionError: there are no tensors.
    """
    found = list(_state_dicts(content))
    if not found:
        raise ConversionError(
            f"{source} holds no tensors under {', '.join(_NESTED)} or at its top: {sorted(map(str, content))[:5]}"
        )
    named = [_without_sequential(state) for state in found]
    return next((state for state in named if find_prefixes(state)), named[0])


def is_momentum(prefix: str) -> bool:
    """Whether a prefix is that of a momentum encoder, which is never the backbone that is meant."""
    return bool(_MOMENTUM.search(prefix))


def is_head(name: str) -> bool:
    """Whether a tensor below the backbone's prefix belongs to a head: "prototypes.weight", "projection_head.0.bias"."""
    return bool(_HEADS.match(name))


def _state_dicts(content: Mapping, depth: int = 0) -> Iterator[dict]:
    """Yield every mapping of names to tensors, nested ones first: a converted file has a tensor next to `model`."""
    import torch

    for key in _NESTED if depth < _DEPTH else ():
        if isinstance(content.get(key), Mapping):
            yield from _state_dicts(content[key], depth + 1)
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        yield {str(name): value for name, value in content.items() if hasattr(value, "shape")}


def _without_sequential(state: dict) -> dict:
    """Rename children of a ResNet in nn.Sequential: "backbone.4.0.conv1.weight" -> "backbone.layer1.0.conv1.weight"."""
    found = {name.removesuffix("4.0.conv1.weight") for name in state if name.endswith("4.0.conv1.weight")}
    starts = [start for start in found if f"{start}7.0.conv1.weight" in state and f"{start}0.weight" in state]
    for start in starts:
        pattern = re.compile(rf"^{re.escape(start)}([014567])\.")
        state = {_renamed(name, start, pattern): value for name, value in state.items()}
    return state


def _renamed(name: str, start: str, pattern: re.Pattern[str]) -> str:
    return pattern.sub(lambda match: f"{start}{_SEQUENTIAL[match[1]]}.", name)
