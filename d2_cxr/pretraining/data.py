"""Images by registered name to batches of two views; no label ever enters, no folder is listed.

The pixels come from the prepared set: a row of its memory-mapped `images.npy` where there is one, else the PNG. A
batch is uint8; gray is expanded to three channels and normalized on the device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets import builtin, image_array, leakage, loading
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.drawing import contact_sheet, encode_rgb
from d2_cxr.pretraining.settings import view_rules
from d2_cxr.pretraining.views import ViewRules, two_views


def load_images(names: Sequence[str], sets: Sequence[Sequence[str]] = ()) -> list[dict]:
    """Return the images of one or several names, each once, sorted by image id.

    Args:
        names: e.g. ["vindr_cxr_train_unlabeled", "vindr_cxr_negative_train"]; names of val or test splits are refused.
        sets: own prepared sets to register first, [[name, folder], ...].

    Returns:
        [{image_name, file_name, source_sha256, image_sha256}, ...].

    Raises:
        ValueError: no name, a name of a held-out split, no image, or images and patients shared with val or test.
        FileNotFoundError: a set that is not prepared, or an image that is missing from it.
    """
    if not names:
        raise ValueError("datasets is empty; name at least one, e.g. datasets=[vindr_cxr_train_unlabeled]")
    for name in names:
        if name.endswith(("_val", "_test")):
            raise ValueError(f"{name} is held out: pretraining on it would leak validation or test images")
    for name, folder in sets:
        builtin.register_prepared(name, folder)
    try:
        pool = list(map(named_set, names))
    except KeyError as error:  # an unknown name is the user's, not ours
        raise ValueError(error.args[0]) from error
    images = {image["file_name"]: image for image in loading.prepared_images(pool)}
    if not images:
        raise ValueError(f"{', '.join(names)} hold no image")
    image_array.require_images(images)
    leakage.refuse_leaks(pool)
    return sorted(images.values(), key=lambda image: (image["image_name"], image["file_name"]))


class TwoViews(Dataset):
    """(epoch, image number) -> (image number, uint8 (2, size, size), target 0)."""

    def __init__(self, images: Sequence[dict], rules: ViewRules, seed: int):
        self.image_names = [image["image_name"] for image in images]
        self.files = [image["file_name"] for image in images]
        self.rules, self.seed = rules, seed

    def __len__(self) -> int:
        return len(self.image_names)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, torch.Tensor, int]:
        epoch, number = key
        views = two_views(image_array.read(self.files[number]), self.rules, self.seed, epoch, self.image_names[number])
        return number, torch.from_numpy(views), 0  # one class for all: solo-learn's online classifier needs a target


class EpochSampler(Sampler):
    """Batches of (epoch, image number): a permutation that depends on (seed, epoch) alone, whole batches only.

    With several processes each takes its own part of every global batch, so that together they see the same images.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        if num_images < batch_size * world_size:
            raise ValueError(
                f"{counted(num_images, 'image does', 'images do')} not fill a batch of {batch_size} on "
                f"{counted(world_size, 'process')}; "
                f"lower batch_size to {max(2, num_images // world_size)} at most"
            )
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning looks for `set_epoch` at a loader's `batch_sampler.sampler`, and nowhere else."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch, also after a restart; else all epochs would be the first."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        order = generator.permutation(self.num_images)
        for start in range(len(self)):
            begin = (start * self.world_size + self.rank) * self.batch_size
            yield [(self.epoch, int(number)) for number in order[begin : begin + self.batch_size]]


def make_loader(dataset: TwoViews, sampler: EpochSampler, num_workers: int, pin_memory: bool) -> DataLoader:
    """Return a loader of (numbers (B,), views uint8 (B, 2, S, S), targets (B,)); workers stay alive between epochs."""
    if num_workers:
        # Before the fork: a worker that inherits OpenCV's thread pool waits for threads that it does not have.
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )


def write_view_sheet(settings: Mapping, output: str | os.PathLike, num_pairs: int = 16) -> Path:
    """Write `views.png`: pairs of views as training would see them, first epoch, side by side; return its path."""
    images = load_images(settings["datasets"], settings["sets"])[:num_pairs]
    rules = view_rules(settings)
    views, captions = [], []
    for image in images:
        views += list(two_views(image_array.read(image["file_name"]), rules, settings["seed"], 0, image["image_name"]))
        captions += [f"{image['image_name'][:16]} {view}" for view in "ab"]
    sheet = contact_sheet(views, captions, columns=8, tile=160)
    path = Path(output) / "views.png"
    artifacts.write_bytes(path, encode_rgb(sheet))
    return path
