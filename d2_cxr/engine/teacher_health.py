"""Is the teacher any good? Its boxes over time, their precision where the truth is known, and alarms.

The truth of pool images is read here and nowhere else: the complement of a labeled fraction has boxes in its set's
JSON, negative images have none. Only this evaluator reads it; training does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import nn

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.datasets.mapper import CXRMapper
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine.build_loaders import TrainingImages
from d2_cxr.engine.teacher_pool import Pool
from d2_cxr.evaluation.matching import HIT_RULES, Matches, match

logger = logging.getLogger(__name__)

REPORTS = 5  # over the part with a teacher
CHECKED = 96  # images of the pool on which the teacher is measured, evenly spaced, the same each time
SILENT = 0.05  # pseudo-boxes per image, of the labeled boxes per image, below which the teacher is silent
ONE_CLASS = 0.9  # of all pseudo-boxes, above which one class has taken over, ...
CLEARLY = 0.1  # ... where that is this much more than its part of the labels
PRECISION = 0.7  # on validation images, of the boxes above a threshold chosen there
_BATCH = 8


class TeacherHealth:
    """Counts the boxes that a teacher gives; a few times in a run writes what they are worth to teacher.json."""

    def __init__(self, cfg: CfgNode, labeled: TrainingImages, pool: Pool, label: Callable):
        """
        Args:
            label: (teacher, samples, thresholds) -> pseudo-boxes, an `Instances` a sample.
        """
        self._path = Path(cfg.OUTPUT_DIR) / "teacher.json"
        self._names, self._label, self._cfg = labeled.class_names, label, cfg
        self._labeled = _boxes_an_image(labeled.findings, len(self._names))
        self._known = pool.keys.CONTROL != "labeled"
        self._pool, self._burn_in = pool, pool.burn_in
        self._period = max(1, (cfg.SOLVER.MAX_ITER - self._burn_in) // REPORTS)
        self._counts, self._empty, self._images = np.zeros(len(self._names), dtype=np.int64), 0, 0
        self.history: list[dict] = []

    def add(self, pseudo: Sequence[Instances]) -> None:
        """Count a step's boxes."""
        for boxes in pseudo:
            self._counts += np.bincount(boxes.gt_classes.cpu().numpy(), minlength=len(self._names))
            self._empty += len(boxes) == 0
        self._images += len(pseudo)

    def is_due(self, iteration: int, max_iter: int) -> bool:
        """Whether a report is due after this iteration."""
        done = iteration + 1
        return done >= max_iter or (done - self._burn_in) % self._period == 0

    def report(self, iteration: int, teacher: nn.Module, thresholds: torch.Tensor) -> None:
        """Sum up the boxes since the last report, measure the teacher, log, and write teacher.json."""
        parts = comm.all_gather((self._counts, self._empty, self._images))
        counts, empty, images = (sum(column) for column in zip(*parts, strict=True))
        self._counts, self._empty, self._images = np.zeros_like(self._counts), 0, 0
        entry = {"iteration": iteration + 1, "images": int(images), "images_without": empty / max(1, images)}
        entry |= {"boxes_an_image": float(counts.sum() / max(1, images))}
        entry |= {"per_class": dict(zip(self._names, (counts / max(1, images)).tolist(), strict=True))}
        entry["alarms"] = alarms(counts / max(1, images), self._labeled, self._names)
        if comm.is_main_process():
            entry |= self._measure(teacher, thresholds) if self._known else {}
        self.history.append(entry)
        self._tell(entry)
        if comm.is_main_process():
            artifacts.write_json(self._path, self._record(thresholds))

    def state_dict(self) -> dict:
        """Return what a resumed run needs, plain values."""
        counts = [self._counts.tolist(), self._empty, self._images]
        return {"history": self.history, "counts": counts}

    def load_state_dict(self, state: dict) -> None:
        """Take what `state_dict` returned."""
        self.history = list(state["history"])
        counts, self._empty, self._images = state["counts"]
        self._counts = np.array(counts, dtype=np.int64)

    def _measure(self, teacher: nn.Module, thresholds: torch.Tensor) -> dict:
        """Return precision and recall on pool images whose truth is known, and the boxes on negative ones."""
        images = self._pool.images
        images = [images[index] for index in np.linspace(0, len(images) - 1, min(CHECKED, len(images))).astype(int)]
        truth = known_truth(self._pool.keys.POOL, self._names)
        images = [image for image in images if image["file_name"] in truth]
        mapper = CXRMapper.from_config(self._cfg, is_train=False)
        found = []
        for start in range(0, len(images), _BATCH):
            samples = [mapper(image) for image in images[start : start + _BATCH]]
            boxes = self._label(teacher, samples, thresholds)
            found += [_as_found(boxes, sample) for boxes, sample in zip(boxes, samples, strict=True)]
        return measure(found, [truth[image["file_name"]] for image in images], self._names)

    def _tell(self, entry: dict) -> None:
        measured = entry.get("measured")
        checked = "" if not measured or measured["precision"] is None else f", precision {measured['precision']:.2f}"
        logger.info(
            "teacher after %s: %.2f boxes per image%s",
            counted(entry["iteration"], "iteration"),
            entry["boxes_an_image"],
            checked,
        )
        for alarm in entry["alarms"]:
            logger.warning("%s", alarm)

    def _record(self, thresholds: torch.Tensor) -> dict:
        limits = [value if np.isfinite(value) else None for value in thresholds.tolist()]
        return {
            "pool": list(self._pool.keys.POOL),
            "control": self._pool.keys.CONTROL,
            "burn_in": self._burn_in,
            "thresholds": dict(zip(self._names, limits, strict=True)),
            "hit_rule": HIT_RULES["iou"],
            "labeled_boxes_an_image": dict(zip(self._names, self._labeled.tolist(), strict=True)),
            "history": self.history,
        }


def alarms(pseudo: np.ndarray, labeled: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return what is wrong with a teacher's boxes, one sentence each; [] when nothing is.

    Args:
        pseudo, labeled: (C,) boxes per image of each class, the teacher's and the labels'.
    """
    if pseudo.sum() < SILENT * labeled.sum():
        return [
            f"teacher collapsed to nothing: {pseudo.sum():.3f} boxes per image, the labels have {labeled.sum():.2f}; "
            "lower CXR.TEACHER.THRESHOLDS or lengthen CXR.TEACHER.BURN_IN"
        ]
    top = int(pseudo.argmax())
    part, expected = pseudo[top] / pseudo.sum(), labeled[top] / labeled.sum()
    if part > ONE_CLASS and part - expected > CLEARLY:
        return [
            f"teacher collapsed to one class: {part:.0%} of its boxes are {names[top]}, {expected:.0%} of the labels "
            "are; lower the thresholds of the other classes"
        ]
    return []


def precise_thresholds(path: Path) -> list[float]:
    """Return for each class the lowest score from which PRECISION of the boxes on validation images are hits.

    The same in every process; infinity, which is "no box of this class", where no score reaches it.

    Args:
        path: matches.npz of the evaluation, written by the first process.
    """
    comm.synchronize()
    matches = Matches.load(path)
    hits = matches.pointed_at() >= 0
    found = []
    for index in range(len(matches.class_names)):
        ours = matches.dt_class == index  # by falling score
        precise = np.flatnonzero(hits[ours].cumsum() / np.arange(1, ours.sum() + 1) >= PRECISION)
        found.append(float(matches.dt_score[ours][precise[-1]]) if len(precise) else float("inf"))
    return found


def known_truth(pool: Sequence[str], class_names: Sequence[str]) -> dict[str, list[dict]]:
    """Return file name -> COCO annotations of the pool's images whose truth is known; negative images have none.

    NAME_unlabeled has no truth. For measurement only.
    """
    truth: dict[str, list[dict]] = {}
    for named in map(named_set, pool):
        if named.part == "unlabeled" or named.class_names != tuple(class_names):  # unknown, or of other classes
            continue
        coco = named.coco()
        boxes: dict[int, list[dict]] = {image["id"]: [] for image in coco["images"]}
        for box in coco["annotations"]:
            boxes[box["image_id"]].append(box)
        truth |= {str(named.image_root / image["file_name"]): boxes[image["id"]] for image in coco["images"]}
    return truth


def measure(found: Sequence[list[dict]], truth: Sequence[list[dict]], names: Sequence[str]) -> dict:
    """Return {"measured": ...}: precision and recall, all and by class, and the boxes on images without any truth.

    Args:
        found: COCO results of each image without image_id.
        truth: COCO annotations of each image.
    """
    images = [{"id": index, "file_name": f"{index}.png"} for index in range(len(truth))]
    boxes = [{**box, "image_id": index} for index, of_image in enumerate(truth) for box in of_image]
    results = [{**box, "image_id": index} for index, of_image in enumerate(found) for box in of_image]
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
    matches = match({"images": images, "annotations": boxes, "categories": categories}, results)
    empty = [index for index, of_image in enumerate(truth) if not of_image]
    rows = {name: _counts(matches, index) for index, name in enumerate(names)}
    total = {key: sum(row[key] for row in rows.values()) for key in ("boxes", "hits", "lesions", "found")}
    measured = {"images": len(truth), "negative_images": len(empty), **_rates(total)}
    measured["boxes_a_negative_image"] = sum(len(found[index]) for index in empty) / len(empty) if empty else None
    measured["per_class"] = {name: _rates(row) for name, row in rows.items()}
    return {"measured": measured}


def _counts(matches: Matches, index: int) -> dict[str, int]:
    ours, lesion = matches.dt_class == index, matches.pointed_at()
    found = np.unique(lesion[ours & (lesion >= 0)])
    return {
        "boxes": int(ours.sum()),
        "hits": int((ours & (lesion >= 0)).sum()),
        "lesions": int((matches.gt_class == index).sum()),
        "found": len(found),
    }


def _rates(row: dict[str, int]) -> dict:
    precision = row["hits"] / row["boxes"] if row["boxes"] else None
    recall = row["found"] / row["lesions"] if row["lesions"] else None
    return {**row, "precision": precision, "recall": recall}


def _boxes_an_image(images: Sequence[dict], classes: int) -> np.ndarray:
    found = [box["category_id"] for image in images for box in image["annotations"]]
    return np.bincount(np.array(found, dtype=np.int64), minlength=classes) / max(1, len(images))


def _as_found(boxes: Instances, sample: dict) -> list[dict]:
    """Return COCO results without image_id, in the prepared image's pixels."""
    scale = np.array([sample["width"], sample["height"]] * 2) / np.array([*boxes.image_size[::-1]] * 2)
    xyxy = boxes.gt_boxes.tensor.cpu().numpy() * scale
    rows = zip(xyxy.tolist(), boxes.gt_classes.tolist(), boxes.scores.tolist(), strict=True)
    return [
        {"category_id": index + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        for (x0, y0, x1, y1), index, score in rows
    ]
