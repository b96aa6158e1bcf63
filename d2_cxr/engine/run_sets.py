"""The data sets of a run: which it learns from, which it may not have seen, which it is tested on."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from detectron2.config import CfgNode

from d2_cxr.datasets import loading
from d2_cxr.datasets.named_sets import NamedSet, named_set


@dataclass(frozen=True)
class RunSets:
    """The named sets of a run, parsed once from its config. No file is opened.

    Attributes:
        train: DATASETS.TRAIN.
        negatives: NAME_negative_train of each; () where CXR.NEGATIVE_RATIO is 0.
        pool: CXR.TEACHER.POOL.
        validation: CXR.VAL_DATASET, else NAME_val of the first training set.
        test: DATASETS.TEST.
        validates: whether the run is evaluated on `validation` while it trains.
    """

    train: tuple[NamedSet, ...]
    negatives: tuple[NamedSet, ...]
    pool: tuple[NamedSet, ...]
    validation: NamedSet
    test: tuple[NamedSet, ...]
    validates: bool

    @classmethod
    def of(cls, cfg: CfgNode) -> RunSets:
        """Parse the names of a config.

        Raises:
            UnknownDatasetError: a name means no data set.
            ValueError: DATASETS.TRAIN is empty.
        """
        train = tuple(map(named_set, cfg.DATASETS.TRAIN))
        if not train:
            raise ValueError("DATASETS.TRAIN is empty; give the data set to train on")
        negatives = {named.sibling("negative_train"): None for named in train} if cfg.CXR.NEGATIVE_RATIO else {}
        return cls(
            train,
            tuple(negatives),
            tuple(map(named_set, cfg.CXR.TEACHER.POOL)),
            named_set(cfg.CXR.VAL_DATASET) if cfg.CXR.VAL_DATASET else train[0].sibling("val"),
            tuple(map(named_set, cfg.DATASETS.TEST)),
            cfg.TEST.EVAL_PERIOD > 0,
        )

    @property
    def learned_from(self) -> list[NamedSet]:
        """Labeled, negative and pool sets."""
        return list(dict.fromkeys([*self.train, *self.negatives, *self.pool]))

    @functools.cached_property
    def learned_images(self) -> list[dict]:
        """The images of `learned_from`, as `prepared_images` returns them."""
        return loading.prepared_images(self.learned_from)

    @property
    def held_out(self) -> list[NamedSet]:
        """The validation and test sets: those of each training set, and the ones in the config.

        A training set that the config evaluates is left out: that evaluation measures the fit.
        """
        chosen = [named for named in (self.validation, *self.test) if named.part != "train" and named.exists]
        negatives = [other for named in chosen if (other := named.negatives())]
        return list(dict.fromkeys([*(held for named in self.train for held in named.held_out()), *chosen, *negatives]))

    @property
    def evaluated(self) -> list[NamedSet]:
        """The sets that this run will be evaluated on, but for its validation at the end, which may be missing."""
        return list(dict.fromkeys([*self.test, *([self.validation] if self.validates else [])]))

    @property
    def has_validation(self) -> bool:
        """Whether the validation set is prepared and holds an image."""
        return self.validation.exists and bool(self.validation.images())
