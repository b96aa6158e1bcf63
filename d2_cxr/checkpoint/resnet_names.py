"""torchvision's names of ResNet parameters and Detectron2's, and which architecture a state dict is.

Pure: names and shapes in, names out. torchvision strides in the 3x3 of a bottleneck, which Detectron2 calls
`STRIDE_IN_1X1: False`; the names are the same in both cases, so names alone do not show it (`verify.py` does).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

BOTTOM_UP = "backbone.bottom_up."  # prefix of a ResNet in Detectron2's FPN detectors
STAGES = ("res2", "res3", "res4", "res5")

_TO_DETECTRON2 = (
    (r"^(conv1)\.", r"stem.\1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"\bdownsample\.0\.", "shortcut."),
    (r"\bdownsample\.1\.", "shortcut.norm."),
)
_TO_TORCHVISION = (
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.", ""),
    (r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
    (r"\bconv(\d)\.norm\.", r"bn\1."),
    (r"\bshortcut\.norm\.", "downsample.1."),
    (r"\bshortcut\.", "downsample.0."),
)
_BLOCKS: dict[tuple[str, tuple[int, ...]], str] = {  # (kind of block, blocks in layer1 ... layer4) -> architecture
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
}
ARCHITECTURES = tuple(_BLOCKS.values())


def torchvision_to_detectron2(name: str) -> str:
    """Rename one ResNet parameter, e.g. layer1.0.bn2.bias -> res2.0.conv2.norm.bias."""
    return _rename(name, _TO_DETECTRON2)


def detectron2_to_torchvision(name: str) -> str:
    """Rename one ResNet parameter, e.g. res2.0.conv2.norm.bias -> layer1.0.bn2.bias; inverse of the above."""
    return _rename(name, _TO_TORCHVISION)


def depth_of(architecture: str) -> int:
    """resnet50 -> 50."""
    return int(architecture.removeprefix("resnet"))


def recognize(names: Iterable[str]) -> str:
    """Return the architecture whose blocks a torchvision state dict has, e.g. "resnet50".

    Raises:
        ValueError: none of ResNet-18, 34, 50, 101; says what was found.
    """
    names = set(names)
    blocks = []
    for layer in (1, 2, 3, 4):
        found = {int(m[1]) for name in names if (m := re.match(rf"layer{layer}\.(\d+)\.", name))}
        blocks.append(len(found))
    kind = "bottleneck" if "layer1.0.conv3.weight" in names else "basic"
    if (kind, tuple(blocks)) not in _BLOCKS:
        raise ValueError(
            f"the backbone has {blocks} {kind} blocks in layer1 to layer4; known are {', '.join(ARCHITECTURES)}"
        )
    return _BLOCKS[kind, tuple(blocks)]


@functools.cache
def expected_shapes(architecture: str) -> Mapping[str, tuple[int, ...]]:
    """Return torchvision's name -> shape of every parameter and buffer of the architecture, without `fc`."""
    import torch
    import torchvision

    with torch.device("meta"):  # shapes only, no memory and no random numbers
        network = getattr(torchvision.models, architecture)(weights=None)
    return {name: tuple(value.shape) for name, value in network.state_dict().items() if not name.startswith("fc.")}


def find_prefixes(names: Iterable[str]) -> list[str]:
    """Return every prefix, "" included, below which a whole ResNet seems to lie, sorted."""
    names = set(names)
    stems = {name.removesuffix("layer1.0.conv1.weight") for name in names if name.endswith("layer1.0.conv1.weight")}
    return sorted(stem for stem in stems if f"{stem}layer4.0.conv1.weight" in names)


def below(state: Mapping[str, object], prefix: str) -> dict[str, object]:
    """Return the entries whose name starts with the prefix, with the prefix taken off."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _rename(name: str, rules: Sequence[tuple[str, str | Callable]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
