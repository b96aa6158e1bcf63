"""The settings of a pretraining run: every key with its default, unknown keys refused.

YAML files in configs/pretraining/ say what differs; `KEY=VALUE` on the command line overrides them (dots go down, e.g.
`optimizer.lr=0.1`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from d2_cxr import artifacts, configs
from d2_cxr.checkpoint.resnet_names import ARCHITECTURES
from d2_cxr.checkpoint.timm_names import PREFIX, input_convention, timm_name
from d2_cxr.pretraining.views import ViewRules

DEFAULTS = {
    "datasets": [],  # registered names whose images are joined, e.g. [vindr_cxr_train_unlabeled]
    "sets": [],  # own prepared sets to register first: [[name, folder], ...]
    "method": "simclr",  # simclr, mocov2plus, byol, barlow_twins, vicreg
    "backbone": "resnet50",  # resnet18, resnet34, resnet50, resnet101, or timm:NAME, a hierarchical network of timm
    "image_size": 224,  # side of a view in pixels
    "batch_size": 256,  # images per step and process; SimCLR contrasts 2 * batch_size views
    "epochs": None,  # passes over the images; or
    "num_views": None,  # a budget of views instead, rounded up to whole epochs
    "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 1e-4, "momentum": 0.9},  # sgd, adam, adamw
    "lars": False,  # layer-wise rates for large batches (sgd only)
    # cosine: once an epoch; warmup_cosine: at each step, warmup_epochs may be a part of one, e.g. 0.5; step: at `steps`
    "scheduler": {"name": "warmup_cosine", "warmup_epochs": 0, "warmup_start_lr": 0.0, "min_lr": 0.0, "steps": []},
    "temperature": 0.2,  # of NT-Xent and of MoCo's loss
    "projection": {"hidden_dim": 2048, "output_dim": 128},
    "method_options": {},  # the other methods' own arguments, by solo-learn's names
    "augmentation": {
        "crop_scale": [0.2, 1.0],
        "crop_ratio": [0.75, 1.3333333333333333],
        "flip": 0.5,
        "blur": 1.0,
        "blur_sigma": [0.1, 2.0],
        "blur_kernel": 21,
        "noise": "text",
    },
    # RGB, 0-255 scale; (pixel - mean) / std enters the network. A network of timm has its own as default.
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],  # [0, 0, 0] and [255, 255, 255] give input in [0, 1]
    "init_from": None,  # imagenet (torchvision's), or a file: a torchvision state dict, a last.ckpt, a converted .pth
    "precision": "auto",  # auto (bf16 where it pays), fp32, bf16; the loss is in fp32 always
    "accelerator": "auto",  # auto, cpu, gpu
    "devices": "auto",  # processes: all GPUs, one on a CPU; or a number
    "num_workers": "auto",  # processes that make views; a CPU run makes them itself
    "seed": 0,
    "checkpoint_every": 1,  # epochs between writes of last.ckpt
    "license": None,  # of the weights, written into their card
}
# Keys that change where and how fast a run goes, not what it computes.
_NO_RESULT = ("sets", "accelerator", "num_workers", "checkpoint_every", "license")


def read_settings(path: str | os.PathLike, overrides: Sequence[str] = ()) -> dict:
    """Read a YAML file and `KEY=VALUE` overrides, and complete them.

    Raises:
        FileNotFoundError, ValueError: no such file, a key that does not exist, a value that cannot be.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from d2_cxr.checkpoint.loading import load_yaml

    wrong = [text for text in overrides if "=" not in text]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not KEY=VALUE")
    packaged = configs.FOLDER / str(path).removeprefix("configs/")  # what an installed wheel holds
    found = packaged if packaged.is_file() and not Path(path).is_file() else Path(path)
    given = OmegaConf.create(load_yaml(found) or {})
    try:
        merged = OmegaConf.merge(given, OmegaConf.from_dotlist(list(overrides)))
        plain = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"the settings {' '.join(overrides)} cannot be read: {text}") from error
    return complete(cast(Mapping, plain))


def complete(config: Mapping) -> dict:
    """Return every setting as plain values, defaults filled in and checked.

    Args:
        config: a dict or an OmegaConf node; only what differs from `DEFAULTS`.

    Raises:
        ValueError: names the key and what it may be.
    """
    given = _plain(config)
    timm = timm_name(str(given.get("backbone", "")))
    settings = _filled(given, {**DEFAULTS, **(input_convention(timm) if timm else {})}, "")
    if not timm and settings["backbone"] not in ARCHITECTURES:
        choices = ", ".join(ARCHITECTURES)
        raise ValueError(f"backbone is {settings['backbone']!r}; choose one of {choices} or {PREFIX}NAME")
    if (settings["epochs"] is None) == (settings["num_views"] is None):
        raise ValueError("give exactly one of epochs and num_views")
    length = "epochs" if settings["num_views"] is None else "num_views"
    for key in ("batch_size", "image_size", "checkpoint_every", length):
        if not isinstance(settings[key], int) or settings[key] < 1:
            raise ValueError(f"{key} is {settings[key]!r}; it must be a whole number above 0")
    if any(not isinstance(entry, list | tuple) or len(entry) != 2 for entry in settings["sets"]):
        raise ValueError(f"sets is {settings['sets']}; give [[name, folder of the prepared set], ...]")
    for key in ("pixel_mean", "pixel_std"):
        if len(settings[key]) != 3:
            raise ValueError(f"{key} needs three numbers (RGB, 0-255), got {settings[key]}")
    if not all(value > 0 for value in settings["pixel_std"]):
        raise ValueError(f"pixel_std is {settings['pixel_std']}; give positive numbers")
    if settings["batch_size"] < 2:
        raise ValueError("batch_size is 1; contrastive learning needs at least two images")
    if settings["lars"] and settings["optimizer"]["name"] != "sgd":
        raise ValueError(f"lars goes with optimizer.name=sgd, not {settings['optimizer']['name']}")
    _check_warmup(settings["scheduler"])
    view_rules(settings)
    return settings


def _check_warmup(scheduler: Mapping) -> None:
    epochs = scheduler["warmup_epochs"]
    if epochs < 0:
        raise ValueError(f"scheduler.warmup_epochs is {epochs}; give 0 or more, parts of an epoch are possible")
    if epochs and scheduler["name"] != "warmup_cosine":
        raise ValueError(
            f"scheduler.warmup_epochs is {epochs}, but only scheduler.name=warmup_cosine has a warm-up, not "
            f"{scheduler['name']}"
        )


def view_rules(settings: Mapping) -> ViewRules:
    """Return the augmentation section as rules."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings["augmentation"].items()
    }
    return ViewRules(size=settings["image_size"], **values)


def num_epochs(settings: Mapping, images_per_epoch: int) -> int:
    """Return the length of the run: `epochs`, or as many as `num_views` needs at two views an image."""
    if settings["epochs"] is not None:
        return int(settings["epochs"])
    return max(1, -(-int(settings["num_views"]) // (2 * images_per_epoch)))


def fingerprint(settings: Mapping, images: Sequence[Mapping]) -> str:
    """Return what identifies a run: the settings that change its result, and the pixels of its images."""
    deciding = {key: value for key, value in settings.items() if key not in _NO_RESULT}
    deciding["init_from"] = _content_of(settings["init_from"])
    deciding["images"] = artifacts.sha256_lines(f"{image['image_name']} {image['image_sha256']}" for image in images)
    return artifacts.sha256_json(deciding)


def _content_of(init_from: str | None) -> str | None:
    return artifacts.sha256_file(init_from) if init_from and Path(init_from).is_file() else init_from


def _plain(config: Mapping) -> dict:
    if type(config).__module__.startswith("omegaconf"):
        from omegaconf import OmegaConf

        return cast(dict, OmegaConf.to_container(config, resolve=True))
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _filled(given: Mapping, defaults: Mapping, where: str) -> dict:
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise ValueError(f"unknown setting {where}{unknown[0]}; known here: {', '.join(defaults)}")
    settings = {}
    for key, default in defaults.items():
        value = given.get(key, default)
        if isinstance(default, dict) and default:
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}{key} is {value!r}; it has keys of its own: {', '.join(default)}")
            value = _filled(value, default, f"{where}{key}.")
        _check_kind(where + key, value, default)
        settings[key] = list(value) if isinstance(value, tuple) else value
    return settings


def _check_kind(key: str, value, default) -> None:
    """Refuse what is not of the default's kind; a default of text, or none, allows others."""
    if isinstance(default, list) and not isinstance(value, list | tuple):
        raise ValueError(f"{key} is {value!r}; give a list, e.g. {key}=[{value}]")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}; it can be true or false")
    if isinstance(default, int | float) and not isinstance(default, bool) and not is_number:
        raise ValueError(f"{key} is {value!r}, not a number (YAML takes 1e-4 for text: write 1.0e-4)")
