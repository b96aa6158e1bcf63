"""What must travel with weights so that they are used as they were trained.

After timm's `PretrainedCfg`: one record of input convention, architecture and origin, stored inside the weights file
(key `card` of a `.pth`, key `d2_cxr` of pretraining's `last.ckpt`; docs/formats.md, 2). None means "not known" and
is not compared. Weights of Detectron2's model zoo have no card; their conventions are the table below.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2_cxr.checkpoint.fingerprint import require_same_tensors
from d2_cxr.checkpoint.loading import load_weights_file

if typing.TYPE_CHECKING:
    from detectron2.config import CfgNode

FORMAT_VERSION = 2  # 2: `license` (1: `licence`), `tensors_sha256`
IMAGENET_MEAN_RGB = (123.675, 116.28, 103.53)  # 255 * (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)
MSRA_MEAN_BGR = (103.53, 116.28, 123.675)


@dataclass
class WeightsCard:
    """The card of a backbone or a detector; plain types only, so that it loads with `weights_only=True`.

    `pixel_mean` and `pixel_std` are on the 0-255 scale in the order of `input_format`; `parity` is
    max |a - b| / max |b| at res2 ... res5 between the converted and the original network.
    """

    architecture: str | None = None  # resnet18, resnet34, resnet50, resnet101, timm:NAME
    depth: int | None = None
    pixel_mean: list[float] | None = None
    pixel_std: list[float] | None = None
    input_format: str | None = None  # RGB or BGR
    stride_in_1x1: bool | None = None  # Detectron2's name; False is torchvision's bottleneck
    norm: str | None = None  # what the weights were trained with: BN, GN
    method: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    initialized_from: str | None = None
    source_sha256: str | None = None
    source_format: str | None = None
    data_names: list[str] | None = None
    num_images: int | None = None
    data_fingerprints: dict[str, str | None] | None = None  # data-set name -> images_fingerprint of its dataset.json
    preprocess: dict | None = None  # as in dataset.json: size, resize, equalize, window
    parity: dict[str, float] | None = None
    license: str | None = None
    citation: str | None = None
    project_version: str | None = None
    project_commit: str | None = None
    config: str | None = None  # a detector's: its YAML text
    class_names: list[str] | None = None  # a detector's
    thresholds: dict | None = None  # a detector's
    tensors_sha256: str | None = None  # of the tensors that travel with the card (fingerprint.py)
    format_version: int = FORMAT_VERSION
    more: dict = field(default_factory=dict)  # keys of a newer version, kept as they are

    def to_dict(self) -> dict:
        """Return plain values; inverse of `from_dict`."""
        values = dataclasses.asdict(self)
        return {**values.pop("more"), **values}

    @classmethod
    def from_dict(cls, values: Mapping, source: str = "the card") -> WeightsCard:
        """Build a card from plain values; unknown keys are kept in `more`.

        Args:
            values: as stored. Version 1 spelled `license` as `licence`.
            source: the file, for errors.

        Raises:
            ValueError: the card was written by a later version, or a value has another type than its field.
        """
        values = dict(values)
        version = values.pop("format_version", FORMAT_VERSION)
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise ValueError(
                f"{source}: its card has format version {str(version)[:40]}, this version of d2_cxr reads up to "
                f"{FORMAT_VERSION}; update d2_cxr"
            )
        if "licence" in values:
            values["license"] = values.pop("licence")
        kinds = typing.get_type_hints(cls)
        known = kinds.keys() - {"more", "format_version"}
        for key in known & values.keys():
            if not _has_type(values[key], kinds[key]):
                given = repr(values[key])[:200]
                raise ValueError(f"{source}: {key} in its card is {given}, expected {_in_words(kinds[key])}")
        more = {key: value for key, value in values.items() if key not in known}
        return cls(**{key: value for key, value in values.items() if key in known}, more=more)

    def required_config(self) -> dict[str, object]:
        """Return the known values that these weights require in a Detectron2 config, by dotted key."""
        required = {
            "MODEL.PIXEL_MEAN": _floats(self.pixel_mean),
            "MODEL.PIXEL_STD": _floats(self.pixel_std),
            "INPUT.FORMAT": self.input_format,
            "MODEL.RESNETS.DEPTH": self.depth,
            "MODEL.RESNETS.STRIDE_IN_1X1": self.stride_in_1x1,
        }
        if self.architecture and self.architecture.startswith("timm:"):
            required["MODEL.BACKBONE.NAME"] = "build_timm_fpn_backbone"
            required["MODEL.TIMM.NAME"] = self.architecture.removeprefix("timm:")
        if self.depth is not None:
            required["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64 if self.depth in (18, 34) else 256  # basic: no expansion
        return {key: value for key, value in required.items() if value is not None}


def contradictions(card: WeightsCard, cfg: CfgNode) -> list[str]:
    """Return one sentence per key in which a Detectron2 config differs from what the weights require; [] if none does.

    Args:
        card: unknown fields are compared with nothing.
        cfg: a Detectron2 CfgNode.
    """
    found = []
    for key, required in card.required_config().items():
        node = cfg
        for part in key.split("."):
            node = getattr(node, part, None)
        given = _floats(node) if isinstance(node, list | tuple) else node
        if not _same(given, required):
            found.append(f"{key} is {given}, but the weights were trained with {required}")
    return found


def read_card(path: str | Path) -> WeightsCard | None:
    """Return the card inside a weights file or a pretraining checkpoint, None when it has none.

    Raises:
        FileNotFoundError, WeightsError: see `load_weights_file`.
    """
    content = load_weights_file(path)
    values = content.get("card") or content.get("d2_cxr")
    if values is None:
        return None
    return WeightsCard.from_dict({key: value for key, value in values.items() if key != "images"}, str(path))


def load_with_card(path: str | Path, source: str = "") -> tuple[dict, WeightsCard | None]:
    """Return what a weights file holds and its card; None where it has none.

    Args:
        path: the file on this machine.
        source: its name in errors; default: `path`.

    Raises:
        FileNotFoundError, WeightsError: see `load_weights_file`; or the tensors are not those of the card.
        ValueError: the card is malformed.
    """
    content, source = load_weights_file(path), source or str(path)
    if not isinstance(content.get("card"), dict):
        return content, None
    card = WeightsCard.from_dict(content["card"], source)
    require_same_tensors(content, source)
    return content, card


def _has_type(value: object, kind: Any) -> bool:
    """Whether a plain value has a field's type, e.g. `list[float] | None`; whole numbers are floats, too."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return any(_has_type(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list | tuple) and all(_has_type(entry, inner[0]) for entry in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _in_words(kind: Any) -> str:
    return str(kind).removesuffix(" | None") if typing.get_origin(kind) else kind.__name__


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _same(given: object, required: object) -> bool:
    if isinstance(required, list) and isinstance(given, list):
        # 0.01 of 255 gray levels: rounding in a YAML, never another convention
        return len(given) == len(required) and all(abs(a - b) <= 0.01 for a, b in zip(given, required, strict=True))
    return given == required


def _zoo(depth: int, origin: str, **other) -> WeightsCard:
    """Detectron's own convention: BGR, mean subtracted, not divided, stride in the first 1x1."""
    values = {
        "architecture": f"resnet{depth}",
        "depth": depth,
        "pixel_mean": list(MSRA_MEAN_BGR),
        "pixel_std": [1.0, 1.0, 1.0],
        "input_format": "BGR",
        "stride_in_1x1": True,
        "norm": "BN",
        "source_format": "detectron2 model zoo",
        "method": origin,
    }
    return WeightsCard(**{**values, **other})


_TORCHVISION = {
    "pixel_mean": list(IMAGENET_MEAN_RGB),
    "pixel_std": list(IMAGENET_STD_RGB),
    "input_format": "RGB",
    "stride_in_1x1": False,
}
_RESNEXT = {"pixel_std": [57.375, 57.12, 58.395], "stride_in_1x1": False, "architecture": "resnext101_32x8d"}

_COCO = r"COCO-(?:Detection|InstanceSegmentation|Keypoints|PanopticSegmentation)/"

# Pattern of a path or URL -> its convention, first match counts. From Detectron2's MODEL_ZOO.md, "ImageNet Pretrained
# Models", and the configs of the COCO baselines.
ZOO_CONVENTIONS: tuple[tuple[str, WeightsCard], ...] = (
    (r"ImageNetPretrained/torchvision/R-50\.pkl$", _zoo(50, "supervised ImageNet, torchvision", **_TORCHVISION)),
    (r"ImageNetPretrained/torchvision/R-101\.pkl$", _zoo(101, "supervised ImageNet, torchvision", **_TORCHVISION)),
    (r"ImageNetPretrained/MSRA/R-50\.pkl$", _zoo(50, "supervised ImageNet, MSRA")),
    (r"ImageNetPretrained/MSRA/R-101\.pkl$", _zoo(101, "supervised ImageNet, MSRA")),
    (r"ImageNetPretrained/FAIR/X-101-32x8d\.pkl$", _zoo(101, "supervised ImageNet, FAIR", **_RESNEXT)),
    (_COCO + r"\w*X_101_32x8d\w*/.*\.pkl$", _zoo(101, "supervised COCO", **_RESNEXT)),
    (_COCO + r"\w*R_?101\w*/.*\.pkl$", _zoo(101, "supervised COCO")),
    (_COCO + r"\w*R_?50\w*/.*\.pkl$", _zoo(50, "supervised COCO")),
)


def zoo_card(path_or_url: str) -> WeightsCard | None:
    """Return the convention of a model-zoo file by its place, None when the place is not known."""
    for pattern, card in ZOO_CONVENTIONS:
        if re.search(pattern, str(path_or_url)):
            return dataclasses.replace(card)
    return None
