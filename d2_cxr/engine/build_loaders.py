"""The images of a training run: which, how often each, and the loader that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader

from d2_cxr.datasets.mapper import CXRMapper, ImageDataset
from d2_cxr.datasets.named_sets import NamedSet
from d2_cxr.datasets.samplers import PositionedSampler, image_repeat_factors, with_negatives
from d2_cxr.engine.run_sets import RunSets


@dataclass(frozen=True)
class TrainingImages:
    """The images of one training set in the order of the sampler's indices.

    Attributes:
        findings: dataset dicts of DATASETS.TRAIN.
        negatives: dataset dicts of NAME_negative_train, [] where CXR.NEGATIVE_RATIO is 0.
        factors: (F + N,) float32, expected draws of each image an epoch, findings first.
        class_names: index = category id.
    """

    findings: list[dict]
    negatives: list[dict]
    factors: torch.Tensor
    class_names: tuple[str, ...]

    @property
    def images(self) -> list[dict]:
        """All images, those with findings first."""
        return self.findings + self.negatives

    @property
    def epoch_length(self) -> float:
        """Expected number of images drawn in an epoch."""
        return float(self.factors.sum())

    @property
    def categories(self) -> list[set[int]]:
        """The categories of each image with findings."""
        return categories_of(self.findings)


def training_images(cfg: CfgNode, sets: RunSets) -> TrainingImages:
    """Load the training images of a run and compute their repeat factors.

    Raises:
        FileNotFoundError: a set is missing.
        ValueError: a set is empty, or negative images are wanted and there are none.
    """
    findings = [image for named in sets.train for image in DatasetCatalog.get(named.name)]
    if not findings:
        raise ValueError(f"DATASETS.TRAIN {list(cfg.DATASETS.TRAIN)} holds no image")
    balanced = cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    if not balanced and cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} is not supported; "
            "choose RepeatFactorTrainingSampler or TrainingSampler"
        )
    threshold = cfg.DATALOADER.REPEAT_THRESHOLD if balanced else 0.0
    factors = image_repeat_factors(categories_of(findings), threshold)
    negatives = [image for named in sets.negatives for image in DatasetCatalog.get(named.name)]
    negatives = [{**image, "annotations": []} for image in negatives]
    factors = with_negatives(factors, len(negatives), cfg.CXR.NEGATIVE_RATIO)
    return TrainingImages(findings, negatives, factors, sets.train[0].class_names)


def categories_of(images: Sequence[dict]) -> list[set[int]]:
    """Return for each image the classes on it."""
    return [{box["category_id"] for box in image["annotations"]} for image in images]


def build_train_loader(cfg: CfgNode, images: TrainingImages, seed: int):
    """Return Detectron2's loader over the images, and the sampler, whose `start` resume sets before the first batch."""
    _leave_opencv_one_thread(cfg.DATALOADER.NUM_WORKERS)
    sampler = PositionedSampler(images.factors, seed=seed)
    dataset = ImageDataset(images.images, CXRMapper.from_config(cfg, is_train=True, seed=seed))
    loader = build_detection_train_loader(
        dataset,
        mapper=None,
        sampler=sampler,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return loader, sampler


def build_test_loader(cfg: CfgNode, sets: Sequence[NamedSet], with_boxes: bool = False):
    """Return a loader over the images of sets.

    Args:
        with_boxes: with their boxes as `instances`, unaugmented: for the loss on them.
    """
    _leave_opencv_one_thread(cfg.DATALOADER.NUM_WORKERS)
    images = [image for named in sets for image in DatasetCatalog.get(named.name)]
    mapper = CXRMapper.from_config(cfg, is_train=False)
    if with_boxes:
        mapper = CXRMapper(mapper.augmentations, is_train=True)
    return build_detection_test_loader(
        ImageDataset(images, mapper), mapper=None, batch_size=8, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def _leave_opencv_one_thread(workers: int) -> None:
    """Do it before the fork: a worker that inherits OpenCV's thread pool waits for threads that it does not have."""
    if workers:
        cv2.setNumThreads(1)
