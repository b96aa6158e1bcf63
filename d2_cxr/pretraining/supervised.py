"""Positive control of studies on phantoms: the same backbone, films and views, trained on the renderer's own truth.

What the renderer knows (which findings a film shows) is more than any reader could tell. If an arm that starts from
these weights does not gain either, the study could not have seen a gain. For phantoms only: nothing real has a truth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from d2_cxr import artifacts
from d2_cxr.pretraining import settings as setting_rules
from d2_cxr.pretraining.data import load_films
from d2_cxr.pretraining.method import NotFinite, WarmupCosine
from d2_cxr.pretraining.train import run_once


def train_supervised(config: Mapping, output: str | os.PathLike) -> Path:
    """Train a backbone to name the findings of each film; return its `last.ckpt`, which converts as SimCLR's does.

    Args:
        config: settings of pretraining with `method: supervised`, and `truth`: the renderer's `truth.json`
            ({"films": [{"image_id", "findings": [{"class_name"}]}]}).
        output: folder of the run.

    Raises:
        ValueError: a film of the data sets is not in the truth, or a setting can not be used.
    """
    config = dict(config)
    truth = Path(config.pop("truth"))
    settings = setting_rules.complete({**config, "method": "supervised"})
    films = load_films(settings["datasets"], settings["sets"])
    labels = film_labels(truth, films)
    identity = artifacts.sha256_json([setting_rules.fingerprint(settings, films), artifacts.sha256_file(truth)])
    return run_once(settings, films, identity, Path(output), lambda epochs: Supervised(settings, labels, epochs))


def film_labels(truth: Path, films: Sequence[Mapping]) -> torch.Tensor:
    """Return float32 (N, C), 1 where a film shows a class; classes are those that occur, in alphabetical order."""
    shown = {
        film["image_id"]: {finding["class_name"] for finding in film["findings"]}
        for film in artifacts.read_json(truth)["films"]
    }
    missing = [film["image_id"] for film in films if film["image_id"] not in shown]
    if missing:
        raise ValueError(f"{truth} says nothing of {len(missing)} of {len(films)} films, first: {missing[0]}")
    classes = sorted(set().union(*(shown[film["image_id"]] for film in films)))
    if not classes:
        raise ValueError(f"no film of the data sets shows a finding in {truth}; there is nothing to learn")
    return torch.tensor([[float(name in shown[film["image_id"]]) for name in classes] for film in films])


class Supervised(pl.LightningModule):
    """A ResNet under `encoder`, a linear layer, binary cross-entropy a class; both views of a film count."""

    bfloat16 = False
    image_ids: Sequence[str] = ()
    card: Mapping = {}
    projected = None  # nothing is contrasted

    def __init__(self, settings: Mapping, labels: torch.Tensor, epochs: int):
        super().__init__()
        import torchvision

        self.settings, self.epochs = settings, epochs
        self.encoder_name = settings["backbone"]
        self.encoder = getattr(torchvision.models, settings["backbone"])(weights=None)
        width = self.encoder.fc.in_features
        self.encoder.fc = nn.Identity()
        self.encoder.to(memory_format=torch.channels_last)
        self.classifier = nn.Linear(width, labels.shape[1])
        # Rare classes would otherwise be ignored; the square root keeps their few films from ruling.
        rate = labels.mean(dim=0).clamp(min=1 / len(labels), max=1 - 1 / len(labels))
        self.register_buffer("_weight", ((1 - rate) / rate).sqrt(), persistent=False)
        self.register_buffer("_labels", labels, persistent=False)
        self.register_buffer("_mean", torch.tensor(settings["pixel_mean"], dtype=torch.float32), persistent=False)
        self.register_buffer("_std", torch.tensor(settings["pixel_std"], dtype=torch.float32), persistent=False)

    def training_step(self, batch, batch_idx: int):
        numbers, views, _ = batch
        self.numbers = numbers
        grey = torch.cat([views[:, 0], views[:, 1]])
        images = ((grey[..., None].float() - self._mean) / self._std).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            features = self.encoder(images)
        wanted = self._labels[numbers].repeat(2, 1)
        loss = F.binary_cross_entropy_with_logits(self.classifier(features.float()), wanted, pos_weight=self._weight)
        if not torch.isfinite(loss):
            films = ", ".join(self.image_ids[number] for number in numbers.tolist())
            raise NotFinite(f"the loss is {float(loss.detach())} at step {self.global_step}; films: {films}")
        return loss

    def configure_optimizers(self):
        plan = dict(self.settings["optimizer"])
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        if plan["name"] not in kinds:
            raise ValueError(f"optimizer.name is {plan['name']!r}; choose one of {', '.join(kinds)}")
        momentum = {"momentum": plan["momentum"]} if plan["name"] == "sgd" else {}
        optimizer = kinds[plan["name"]](self.parameters(), lr=plan["lr"], weight_decay=plan["weight_decay"], **momentum)
        scheduler = self.settings["scheduler"]
        rates = WarmupCosine(
            optimizer, scheduler["warmup_epochs"], self.epochs, scheduler["warmup_start_lr"], scheduler["min_lr"]
        )
        return [optimizer], [rates]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["d2_cxr"] = dict(self.card)
