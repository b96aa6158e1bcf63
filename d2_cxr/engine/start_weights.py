"""The weights that a run starts from: read once, compared with the config, the data and their own card."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from detectron2.config import CfgNode

from d2_cxr.artifacts import sha256_file
from d2_cxr.checkpoint.fingerprint import never_updated, require_finite
from d2_cxr.checkpoint.image_list import seen_images
from d2_cxr.checkpoint.weights_card import WeightsCard, contradictions, load_with_card, zoo_card
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.weights_report import BOTTOM_UP

logger = logging.getLogger(__name__)

_MUST_AGREE = ("resize", "equalize", "window")
_URL = re.compile(r"^[a-z0-9]+://")


@dataclass(frozen=True)
class StartWeights:
    """A weights file in memory.

    Attributes:
        stated: MODEL.WEIGHTS, "" for random weights.
        path: the file on this machine; "" for random weights.
        content: of the file, {} for random weights.
        card: of the file, or of the model zoo for its place; None where there is none.
    """

    stated: str = ""
    path: str = ""
    content: Mapping = field(default_factory=dict)
    card: WeightsCard | None = None

    @property
    def images(self) -> torch.Tensor | None:
        """The images that the weights were trained on, (N, 16) uint8; None where the file has no list."""
        return self.content.get("images")

    @property
    def unchecked(self) -> bool:
        """Whether nothing could be compared with the config."""
        return bool(self.stated) and self.card is None


def read_start_weights(cfg: CfgNode, sets: RunSets) -> StartWeights:
    """Read MODEL.WEIGHTS and compare it with the config and the training set.

    Raises:
        FileNotFoundError: the file does not exist, or a zoo file cannot be fetched.
        WeightsError: its tensors were changed after the card was written, are quantized or not finite.
        ValueError: every contradiction in one line: input convention, preprocessing, or images of validation and test
            among those that the weights were trained on.
    """
    stated = cfg.MODEL.WEIGHTS
    if not stated:
        return StartWeights()
    path = local_path(stated)
    content, own = load_with_card(path, stated)
    card = own or _zoo_card(stated, cfg.CXR.WEIGHTS_UNCHECKED)
    found = contradictions(card, cfg) if card else []
    found += _check_tensors(content, stated, cfg.MODEL.RESNETS.NORM)
    if card:
        found += preprocessing_contradictions(card.preprocess or {}, sets.train[0].preprocess)
    found += seen_images(content.get("images"), sets.held_out)
    if found:
        raise ValueError(f"{stated} cannot start this run: {'; '.join(found)}")
    return StartWeights(stated, path, content, card)


def checked(weights: str) -> str:
    """Return weights as given but without `#sha256:DIGEST`, after the file was compared with it.

    Args:
        weights: path or URL, e.g. "r50.pth#sha256:1a2b3c4d"; the digest whole, or its first 8 digits or more.

    Raises:
        FileNotFoundError: see `local_path`.
        ValueError: the file has another sha256, or the digest is none.
    """
    place, mark, digest = weights.partition("#sha256:")
    if mark:
        require_sha256(place, digest)
    return place


def require_sha256(weights: str, digest: str) -> str:
    """Return the sha256 of a weights file, given by path or URL, after it was compared with its first digits.

    Raises:
        FileNotFoundError: see `local_path`.
        ValueError: the file has another sha256, or the digest is none.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", digest):
        raise ValueError(f"{weights}: {digest!r} is not a sha256; give 8 to 64 hexadecimal digits")
    found = sha256_file(local_path(weights))
    if not found.startswith(digest.lower()):
        raise ValueError(f"{weights} has sha256 {found}, not {digest}: it is another file")
    return found


def local_path(weights: str) -> str:
    """Return a weights file's path on this machine; fetches Detectron2's URLs.

    Raises:
        FileNotFoundError: it does not exist or cannot be fetched; says what to do.
    """
    if not _URL.match(weights):
        if not Path(weights).is_file():
            raise FileNotFoundError(
                f"MODEL.WEIGHTS {weights} does not exist; convert a checkpoint to it, or give another"
            )
        return weights
    from detectron2.utils.file_io import PathManager

    try:
        return PathManager.get_local_path(weights)
    except Exception as error:  # any of the network's
        raise FileNotFoundError(
            f"MODEL.WEIGHTS {weights} cannot be fetched ({type(error).__name__}); fetch it elsewhere and give "
            "its path, keeping the folders of the URL, or train configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml"
        ) from error


def preprocessing_contradictions(card: Mapping, rules: Mapping) -> list[str]:
    """Return where the weights' images were prepared in another way; an unknown rule agrees, another size only warns.

    Args:
        card: `preprocess` of the weights' card.
        rules: `preprocess` of the set's dataset.json.
    """
    found = []
    for key in _MUST_AGREE:
        if card.get(key) is not None and rules.get(key) is not None and card[key] != rules[key]:
            found.append(f"the images were prepared with {key} {rules[key]}, the weights' with {card[key]}")
    if card.get("size") is not None and rules.get("size") not in (None, card["size"]):
        logger.warning("the images are %s px, the weights were trained on %s px", rules["size"], card["size"])
    return found


def _check_tensors(content: Mapping, weights: str, norm: str) -> list[str]:
    """Raise on tensors that cannot be trained from; return why frozen BatchNorm statistics are only initial values.

    A file without a card may have its statistics folded into the affine terms, as Caffe2's have: it is warned of.
    """
    tensors = content.get("model", content.get("blobs", content))
    tensors = {name: value for name, value in tensors.items() if hasattr(value, "shape")}
    require_finite(tensors, weights)
    own = {name: torch.as_tensor(value) for name, value in tensors.items() if name.startswith(BOTTOM_UP)}
    if not never_updated(own):
        return []
    fresh = "its BatchNorm statistics were never updated (every mean is 0, every variance 1)"
    if norm == "FrozenBN" and "card" in content:
        return [f"{fresh} and FrozenBN would keep them; set MODEL.RESNETS.NORM BN, MODEL.BACKBONE.FREEZE_AT 0"]
    logger.warning("%s: %s; training must update them", weights, fresh)
    return []


def _zoo_card(weights: str, unchecked: bool) -> WeightsCard | None:
    """Return the model zoo's card for the place of weights that have none.

    Raises:
        ValueError: there is none, and CXR.WEIGHTS_UNCHECKED is off.
    """
    card = zoo_card(weights)
    if card is None and not unchecked:
        raise ValueError(
            f"{weights} has no card and is not a known file of Detectron2's zoo, so nothing can "
            "be compared with the config; convert it with tools/convert_simclr_to_d2.py, or set "
            "CXR.WEIGHTS_UNCHECKED True"
        )
    return card
