"""Weights against the config and the data, before the first step: what contradicts their card is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.weights_card import WeightsCard, contradictions, zoo_card
from d2_cxr.datasets import leakage, loading
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine.weights_report import expected_tensors

logger = logging.getLogger(__name__)

_MUST_AGREE = ("resize", "equalize", "window")
_HASH_BYTES = 8  # of each sha256 in the weights' list of images
_URL = re.compile(r"^[a-z0-9]+://")


def check_weights(cfg) -> WeightsCard | None:
    """Return the card of `MODEL.WEIGHTS` after comparing it with the config and the training set; None for no weights.

    Raises:
        FileNotFoundError: the file is not there, or a zoo file can not be fetched.
        ValueError: every contradiction in one line: input convention, preprocessing, or images of validation and test
            among those that the weights were pretrained on.
    """
    if not cfg.MODEL.WEIGHTS:
        return None
    content = load_weights_file(local_path(cfg.MODEL.WEIGHTS))
    card = _card(cfg, content)
    found = contradictions(card, cfg) if card else []
    rules = named_set(cfg.DATASETS.TRAIN[0]).dataset_json().get("preprocess", {}) if card else {}
    found += preprocessing_contradictions(card.preprocess or {}, rules) if card else []
    found += seen_images(content.get("images"), cfg)
    if found:
        raise ValueError(f"{cfg.MODEL.WEIGHTS} can not start this run: {'; '.join(found)}")
    return card


def local_path(weights: str) -> str:
    """Return a weights file's path on this machine; fetches Detectron2's URLs.

    Raises:
        FileNotFoundError: not there, or not to be had; says what to do.
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
            f"MODEL.WEIGHTS {weights} can not be fetched ({type(error).__name__}); fetch it elsewhere and give "
            "its path, keeping the folders of the URL, or train configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml"
        ) from error


def preprocessing_contradictions(card: Mapping, rules: Mapping) -> list[str]:
    """Return where the images the weights were trained on were prepared in another way; unknown agrees, size warns."""
    found = []
    for key in _MUST_AGREE:
        if card.get(key) is not None and rules.get(key) is not None and card[key] != rules[key]:
            found.append(f"the images were prepared with {key} {rules[key]}, the weights' with {card[key]}")
    if card.get("size") is not None and rules.get("size") not in (None, card["size"]):
        logger.warning("the images are %s px, the weights were trained on %s px", rules["size"], card["size"])
    return found


def seen_images(radiographs, cfg) -> list[str]:
    """Return a sentence when images of validation or test are among those that the weights were pretrained on.

    Args:
        images: uint8 tensor (N, 16) of the weights file, first bytes of source and image sha256, or None.
    """
    if radiographs is None or not len(radiographs):
        return []
    rows = radiographs.numpy()
    sources = {row[:_HASH_BYTES].tobytes().hex() for row in rows}
    images = {row[_HASH_BYTES:].tobytes().hex() for row in rows}
    names = held_out_of(cfg)
    allowed = leakage.allowed_images()
    digits = 2 * _HASH_BYTES
    met = [
        image["image_name"]
        for image in loading.prepared_images(names)
        if image["image_name"] not in allowed
        and (image["source_sha256"][:digits] in sources or image["image_sha256"][:digits] in images)
    ]
    if not met:
        return []
    where = ", ".join(names)
    return [f"it was trained on {len(met)} images of {where}, first: {met[0]}; {leakage.WAY_OUT}"]


def refuse_shared_images(cfg) -> None:
    """Refuse training images that are held out, too, or copies or patients of those that are (`leakage.refuse_leaks`).

    Raises:
        LeakageError: names the first images.
    """
    pool = list(cfg.DATASETS.TRAIN)
    if cfg.CXR.NEGATIVE_RATIO:
        pool += dict.fromkeys(named_set(name).sibling("negative_train").name for name in cfg.DATASETS.TRAIN)
    pool += cfg.CXR.TEACHER.POOL
    leakage.refuse_leaks(pool, held_out_of(cfg))
    leakage.refuse_leaks(cfg.CXR.TEACHER.POOL)  # against the held-out images of its own sets, too


def images_of(weights: str):
    """Return the list of images that a weights file was trained on, uint8 tensor (N, 16); None where it has none."""
    return load_weights_file(local_path(weights)).get("images") if weights else None


def check_detector(cfg, path: str) -> dict | None:
    """Compare a detector's file with the config and the test set before it is evaluated; return its thresholds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no weights file, or its card contradicts the config, the images' preparation or their classes.
    """
    if not path:
        raise ValueError("MODEL.WEIGHTS is empty; give the weights to evaluate")
    content = load_weights_file(local_path(path))
    card = WeightsCard.from_dict(content["card"]) if isinstance(content.get("card"), dict) else zoo_card(path)
    if card is None:
        logger.warning("%s carries no card: nothing can be compared with the config", path)
        return None
    found = contradictions(card, cfg)
    for name in cfg.DATASETS.TEST:
        rules = named_set(name).dataset_json().get("preprocess", {})
        found += preprocessing_contradictions(card.preprocess or {}, rules)
        if card.class_names and tuple(card.class_names) != tuple(named_set(name).class_names):
            found.append(f"it detects {card.class_names}, {name} has {list(named_set(name).class_names)}")
    if found:
        raise ValueError(f"{path} can not be evaluated with this config: {'; '.join(found)}")
    return card.thresholds


def require_complete(model, loaded) -> None:
    """Refuse to evaluate a model of which a part kept its random values.

    Raises:
        ValueError: names the first tensor.
    """
    missing = [name for name in expected_tensors(model) if name not in loaded.names]
    if loaded.folded_statistics:
        missing = [name for name in missing if "running_" not in name]
    if missing:
        reason = loaded.skipped.get(missing[0], "it is not in the file")
        raise ValueError(
            f"{loaded.file} leaves {len(missing)} tensors of the model random, first: {missing[0]} ({reason}); "
            "evaluate a detector trained with this config"
        )


def held_out_of(cfg) -> list[str]:
    """Return the prepared names whose images no training may see: val and test of the training sets, VAL_DATASET, TEST.

    A training split in DATASETS.TEST is allowed: it measures fit, not generalization.
    """
    names = [other.name for name in cfg.DATASETS.TRAIN for other in named_set(name).held_out()]
    chosen = [named_set(name) for name in (cfg.CXR.VAL_DATASET, *cfg.DATASETS.TEST) if name]
    names += [named.name for named in chosen if named.part != "train" and named.exists]
    return list(dict.fromkeys(names))


def _card(cfg, content: Mapping) -> WeightsCard | None:
    """Return the file's card, else the model zoo's for its place.

    Raises:
        ValueError: there is neither, and the config does not say that this is known.
    """
    if isinstance(content.get("card"), dict):
        return WeightsCard.from_dict(content["card"])
    card = zoo_card(cfg.MODEL.WEIGHTS)
    if card is None and not cfg.CXR.WEIGHTS_UNCHECKED:
        raise ValueError(
            f"{cfg.MODEL.WEIGHTS} carries no card and is no known file of Detectron2's zoo, so nothing can be compared "
            "with the config; convert it with tools/convert_simclr_to_d2.py, or set CXR.WEIGHTS_UNCHECKED True"
        )
    return card
