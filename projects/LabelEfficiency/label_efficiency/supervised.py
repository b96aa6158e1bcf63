"""Positive control of studies on phantoms: the same backbone, images and views, trained on the renderer's truth.

The truth states which findings an image shows, and where, better than any reader could. If an arm that starts from
these weights gains nothing either, the study could not have shown a gain. For phantoms only. A view is labeled with the
findings in its crop, not with the whole image's, so that views can be small crops at the detector's scale, where small
findings remain visible.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from d2_cxr import artifacts, boxes
from d2_cxr.counted import counted
from d2_cxr.dicom.preprocess import Preprocess, box_map
from d2_cxr.pretraining import settings as setting_rules
from d2_cxr.pretraining.data import load_images
from d2_cxr.pretraining.method import NotFiniteError, WarmupCosine, steps_per_epoch
from d2_cxr.pretraining.train import run_once
from d2_cxr.pretraining.views import crop_box, keyed_uniforms

_INSIDE = 0.5  # fraction of a finding's box that must be in a crop for the view to be labeled with it


@dataclass(frozen=True)
class Truth:
    """Class names, and for each image the findings that were drawn, in pixels of the prepared image."""

    classes: tuple[str, ...]
    boxes: tuple[np.ndarray, ...]  # float64 (n, 4) XYXY per image
    numbers: tuple[np.ndarray, ...]  # int64 (n,) per image: indices into `classes`
    size: int  # side of a prepared image

    def images(self) -> np.ndarray:
        """Return float32 (N, C), 1 where an image shows a class."""
        return np.stack([self._marked(numbers) for numbers in self.numbers])

    def crop(self, image: int, crop: tuple[int, int, int, int]) -> np.ndarray:
        """Return float32 (C,), 1 for the classes with half a box or more in a crop (x, y, width, height)."""
        if not len(self.numbers[image]):
            return self._marked(self.numbers[image])
        inside = boxes.pairwise_iobb(self.boxes[image], boxes.xywh_to_xyxy(np.array([crop], dtype=np.float64)))[:, 0]
        return self._marked(self.numbers[image][inside >= _INSIDE])

    def _marked(self, numbers: np.ndarray) -> np.ndarray:
        marks = np.zeros(len(self.classes), np.float32)
        marks[numbers] = 1
        return marks


def train_supervised(config: Mapping, output: str | os.PathLike) -> Path:
    """Train a backbone to classify the findings of each view; return its `last.ckpt`, which converts like SimCLR's.

    Args:
        config: settings of pretraining with `method: supervised`, and `truth`: the renderer's `truth.json`
            ({"images": [{"image_name", "width", "height", "findings": [{"class_name", "box_xyxy"}]}]}, source pixels).
        output: folder of the run.

    Raises:
        ValueError: an image of the data sets is not in the truth, or a setting is not accepted.
    """
    config = dict(config)
    path = Path(config.pop("truth"))
    settings = setting_rules.complete({**config, "method": "supervised"})
    images = load_images(settings["datasets"], settings["sets"])
    truth = read_truth(path, images)
    identity = artifacts.sha256_json(
        [setting_rules.fingerprint(settings, images), artifacts.sha256_file(path), "crops"]
    )
    return run_once(settings, images, identity, Path(output), lambda epochs: Supervised(settings, truth, epochs))


def read_truth(path: Path, images: Sequence[Mapping]) -> Truth:
    """Read the renderer's truth of some images; classes are those that occur in them, in alphabetical order.

    Args:
        path: `truth.json`, boxes in source pixels.
        images: of one prepared set, from `load_images`; its dataset.json defines the transform to prepared pixels.

    Raises:
        ValueError: an image is not in the truth, or none of them shows a finding.
    """
    drawn = {image["image_name"]: image for image in artifacts.read_json(path)["images"]}
    missing = [image["image_name"] for image in images if image["image_name"] not in drawn]
    if missing:
        raise ValueError(f"{path} lacks {counted(len(missing), 'image', of=len(images))}, first: {missing[0]}")
    rows = [drawn[image["image_name"]] for image in images]
    classes = sorted({finding["class_name"] for row in rows for finding in row["findings"]})
    if not classes:
        raise ValueError(
            f"no image of the data sets shows a finding in {path}, so there is nothing to learn; render more images"
        )
    root = Path(images[0]["file_name"]).parents[1]
    rules = Preprocess.from_dict(artifacts.read_json(root / "dataset.json")["preprocess"])
    places = [
        box_map(row["width"], row["height"], rules).forward(
            np.array([finding["box_xyxy"] for finding in row["findings"]], dtype=np.float64).reshape(-1, 4)
        )
        for row in rows
    ]
    numbers = [
        np.array([classes.index(finding["class_name"]) for finding in row["findings"]], dtype=np.int64) for row in rows
    ]
    return Truth(tuple(classes), tuple(places), tuple(numbers), rules.size)


class Supervised(pl.LightningModule):
    """A ResNet under `encoder`, a linear layer, binary cross-entropy per class; both views of an image count."""

    uses_bfloat16 = False
    image_names: Sequence[str] = ()
    card: Mapping = {}
    projected = None  # there is no contrastive task

    def __init__(self, settings: Mapping, truth: Truth, epochs: int):
        super().__init__()
        import torchvision

        self.settings, self.epochs, self.truth = settings, epochs, truth
        self.rules = setting_rules.view_rules(settings)
        self.encoder_name = settings["backbone"]
        self.encoder = getattr(torchvision.models, settings["backbone"])(weights=None)
        width = self.encoder.fc.in_features
        self.encoder.fc = nn.Identity()
        self.encoder.to(memory_format=torch.channels_last)
        self.classifier = nn.Linear(width, len(truth.classes))
        # Rare classes would otherwise be ignored; the square root keeps their few images from dominating.
        count = len(truth.boxes)
        rate = torch.from_numpy(truth.images()).mean(dim=0).clamp(min=1 / count, max=1 - 1 / count)
        self.register_buffer("_weight", ((1 - rate) / rate).sqrt(), persistent=False)
        self.register_buffer("_mean", torch.tensor(settings["pixel_mean"], dtype=torch.float32), persistent=False)
        self.register_buffer("_std", torch.tensor(settings["pixel_std"], dtype=torch.float32), persistent=False)

    def training_step(self, batch, batch_idx: int):
        """Return the loss of a batch with two views per image."""
        numbers, views, _ = batch
        self.numbers = numbers
        gray = torch.cat([views[:, 0], views[:, 1]])
        images = ((gray[..., None].float() - self._mean) / self._std).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bfloat16):
            features = self.encoder(images)
        wanted = torch.from_numpy(np.concatenate([self._view_labels(numbers, view) for view in (0, 1)])).to(self.device)
        loss = F.binary_cross_entropy_with_logits(self.classifier(features.float()), wanted, pos_weight=self._weight)
        if not torch.isfinite(loss):
            names = ", ".join(self.image_names[number] for number in numbers.tolist())
            raise NotFiniteError(f"the loss is {float(loss.detach())} at step {self.global_step}; images: {names}")
        return loss

    def _view_labels(self, numbers: torch.Tensor, view: int) -> np.ndarray:
        """Return float32 (B, C): the findings in each image's crop; crop and view are drawn with the same key."""
        labels = []
        for number in numbers.tolist():
            chance = keyed_uniforms(self.settings["seed"], self.current_epoch, self.image_names[number], view)
            crop = crop_box((self.truth.size, self.truth.size), self.rules, chance[:-6])
            labels.append(self.truth.crop(number, crop))
        return np.stack(labels)

    def configure_optimizers(self):
        """Return the optimizer and the schedule of the settings."""
        plan = dict(self.settings["optimizer"])
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        if plan["name"] not in kinds:
            raise ValueError(f"optimizer.name is {plan['name']!r}; choose one of {', '.join(kinds)}")
        momentum = {"momentum": plan["momentum"]} if plan["name"] == "sgd" else {}
        optimizer = kinds[plan["name"]](self.parameters(), lr=plan["lr"], weight_decay=plan["weight_decay"], **momentum)
        scheduler = self.settings["scheduler"]
        by_step = scheduler["name"] == "warmup_cosine"
        times = steps_per_epoch(self) if by_step else 1
        lengths = round(times * scheduler["warmup_epochs"]), times * self.epochs
        rates = WarmupCosine(optimizer, *lengths, scheduler["warmup_start_lr"], scheduler["min_lr"])
        return [optimizer], [{"scheduler": rates, "interval": "step" if by_step else "epoch"}]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Put the card into the checkpoint."""
        checkpoint["d2_cxr"] = dict(self.card)
