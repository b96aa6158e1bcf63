"""The films of a training run: which, how often each, and the loader that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import torch
from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader

from d2_cxr.datasets import image_array, loading, named_sets
from d2_cxr.datasets.mapper import CXRMapper, FilmDataset
from d2_cxr.datasets.samplers import PositionedSampler, film_repeat_factors, with_normals
from d2_cxr.engine.setup import companion, normals_beside


@dataclass(frozen=True)
class TrainingFilms:
    """The films of one training set in the order of the sampler's indices.

    Attributes:
        findings: dataset dicts of DATASETS.TRAIN.
        normals: dataset dicts of NAME_normal_train, [] where CXR.NORMAL_RATIO is 0.
        factors: (F + N,) float32, expected draws of each film an epoch, findings first.
        class_names: index = category id.
    """

    findings: list[dict]
    normals: list[dict]
    factors: torch.Tensor
    class_names: tuple[str, ...]

    @property
    def films(self) -> list[dict]:
        return self.findings + self.normals

    @property
    def epoch_length(self) -> float:
        """Expected number of films drawn in an epoch."""
        return float(self.factors.sum())

    @property
    def categories(self) -> list[set[int]]:
        return categories_of(self.findings)


def training_films(cfg) -> TrainingFilms:
    """Load the training films of a config and compute their repeat factors.

    Raises:
        FileNotFoundError: a set or a film is missing, of those to be tested on, too.
        ValueError: a set is empty, or normal films are wanted and there are none.
    """
    findings = [film for name in cfg.DATASETS.TRAIN for film in DatasetCatalog.get(name)]
    if not findings:
        raise ValueError(f"DATASETS.TRAIN {list(cfg.DATASETS.TRAIN)} holds no film")
    balanced = cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    if not balanced and cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} is not supported; "
            "RepeatFactorTrainingSampler and TrainingSampler are"
        )
    threshold = cfg.DATALOADER.REPEAT_THRESHOLD if balanced else 0.0
    factors = film_repeat_factors(categories_of(findings), threshold)
    normals = _normals(cfg) if cfg.CXR.NORMAL_RATIO else []
    factors = with_normals(factors, len(normals), cfg.CXR.NORMAL_RATIO)
    tested = loading.prepared_films(cfg.DATASETS.TEST)  # their absence shows now, not after the last step
    image_array.require_films(film["file_name"] for film in findings + normals + tested)
    return TrainingFilms(findings, normals, factors, named_sets.class_names(cfg.DATASETS.TRAIN[0]))


def categories_of(films: Sequence[dict]) -> list[set[int]]:
    """Return for each film the classes on it."""
    return [{box["category_id"] for box in film["annotations"]} for film in films]


def build_train_loader(cfg, films: TrainingFilms, seed: int):
    """Return Detectron2's loader over the films, and the sampler, whose `start` resume sets before the first batch."""
    _leave_opencv_one_thread(cfg)
    sampler = PositionedSampler(films.factors, seed=seed)
    dataset = FilmDataset(films.films, CXRMapper.from_config(cfg, is_train=True, seed=seed))
    loader = build_detection_train_loader(
        dataset,
        mapper=None,
        sampler=sampler,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return loader, sampler


def build_test_loader(cfg, name: str, with_boxes: bool = False):
    """Return a loader over a set and, where CXR.TEST_NORMALS says so, the normal films of its split.

    Args:
        with_boxes: films with findings only, their boxes as `instances`, unaugmented: for the loss on them.
    """
    _leave_opencv_one_thread(cfg)
    films = list(DatasetCatalog.get(name))
    normals = normals_beside(name) if cfg.CXR.TEST_NORMALS and not with_boxes else None
    films += DatasetCatalog.get(normals) if normals else []
    mapper = CXRMapper.from_config(cfg, is_train=False)
    if with_boxes:
        mapper = CXRMapper(mapper.augmentations, is_train=True)
    return build_detection_test_loader(
        FilmDataset(films, mapper), mapper=None, batch_size=8, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def _normals(cfg) -> list[dict]:
    names = dict.fromkeys(companion(name, "normal_train") for name in cfg.DATASETS.TRAIN)
    return [{**film, "annotations": []} for name in names for film in DatasetCatalog.get(name)]


def _leave_opencv_one_thread(cfg) -> None:
    """Do it before the fork: a worker that inherits OpenCV's thread pool waits for threads that it does not have."""
    if cfg.DATALOADER.NUM_WORKERS:
        cv2.setNumThreads(1)
