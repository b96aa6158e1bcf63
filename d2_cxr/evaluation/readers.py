"""Readers and model under one matching rule.

A reader cannot be compared with fused boxes that contain the reader's own. So each image is one case for every reader
who read it: the truth is the fused boxes of the *other* readers. The reader's answer is their own boxes; the model's is
the same number of boxes, those with the highest scores. A reader who draws more finds more; equal numbers of boxes make
the two comparable.

Readers are matched one after the other. What stays of each are counts by what a resample draws together (the cases of
an image, or of a patient), so memory grows with the model's boxes, not with boxes times readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from d2_cxr import boxes as box_math
from d2_cxr.evaluation import estimates, froc, ranking
from d2_cxr.evaluation.coco_arrays import CocoArrays, to_arrays
from d2_cxr.evaluation.matching import HIT_RULES, lesions_pointed_at, places_within, ranked
from d2_cxr.labels.coco import reader_order
from d2_cxr.labels.fusion import fuse_annotations
from d2_cxr.labels.label_table import CORNERS

DEFINITION = (
    "each reader against the fused boxes of the other readers of the image, the model against the same with its "
    "best-scored boxes, as many on each image as the reader drew; hit: {}, of the box's class"
)
MAX_CURVE_POINTS = 200
_DETECTIONS = ("dt_image", "dt_class", "dt_boxes", "dt_area", "dt_score")


@dataclass(frozen=True)
class Answers:
    """One predictor's answers, counted by what a resample draws (patients where known, else images); all (P,)."""

    images: np.ndarray
    lesions: np.ndarray
    found: np.ndarray
    false: np.ndarray

    @classmethod
    def of(cls, marks: froc.Marks, images: np.ndarray, group: np.ndarray) -> Answers:
        """Count marks on the images at positions `images`; `group` (F,) numbers what a resample draws."""
        counted = (images, marks.lesion_image, marks.image[marks.finds], marks.image[marks.false])
        return cls(*(np.bincount(group[place], minlength=group.max() + 1) for place in counted))

    @classmethod
    def together(cls, answers: Iterable[Answers]) -> Answers:
        """Return the counts on the cases of all of them."""
        columns = zip(*([getattr(one, field.name) for field in fields(cls)] for one in answers), strict=True)
        return cls(*(np.sum(column, axis=0) for column in columns))


@dataclass(frozen=True)
class Matched:
    """The answers of each reader and, as many boxes, of the model, by reader; and what the model's FROC needs."""

    reader: dict[str, Answers]
    model: dict[str, Answers]
    scores: np.ndarray  # (D,) of all the model's boxes, falling
    found: np.ndarray  # (D,) int64, in how many readers' cases the box is the first to find a truth box
    false: np.ndarray  # (D,) int64, in how many readers' cases it is a false positive


def compare_with_readers(
    truth: Mapping,
    results: Sequence[Mapping],
    readers: Mapping,
    fusion: str = "mean",
    iou_threshold: float = 0.2,
    hit_rule: str = "iou",
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Compare a model with the readers of the set, image by image.

    Args:
        truth: COCO dict: the images (and patients) to compare on; its boxes are not used.
        results: the model's COCO results.
        readers: COCO of single readers' boxes (`annotations/readers.json`); other images are ignored.
        fusion, iou_threshold: as the set was prepared (`dataset.json`).

    Returns:
        definition, pooled and by_reader {reader: ...}: num_images, reader and model {sensitivity,
        false_positives_per_image: value, interval, n, unit}, model_minus_reader (sensitivity: difference, interval, p);
        and model_curve, the FROC of the model against the same truth: sensitivity, false_positives_per_image.

    Raises:
        ValueError: no image of the truth was read by two readers.
    """
    matched = match_readers(truth, results, readers, fusion, iou_threshold, hit_rule)
    reader, model = (Answers.together(answers.values()) for answers in (matched.reader, matched.model))
    drawn = _resampled([reader, model, *matched.reader.values(), *matched.model.values()], resamples, seed)
    pooled, by_reader = drawn[:2], drawn[2:].reshape(2, -1, *drawn.shape[1:])
    return {
        "definition": DEFINITION.format(HIT_RULES[hit_rule]),
        "resamples": resamples,
        "seed": seed,
        "pooled": _compared(*pooled),
        "by_reader": {name: _compared(*by_reader[:, index]) for index, name in enumerate(matched.reader)},
        "model_curve": _curve(matched, int(reader.lesions.sum()), int(reader.images.sum())),
    }


def match_readers(
    truth: Mapping,
    results: Sequence[Mapping],
    readers: Mapping,
    fusion: str = "mean",
    iou_threshold: float = 0.2,
    hit_rule: str = "iou",
) -> Matched:
    """Match readers and model to the fused boxes of the other readers; arguments, errors as `compare_with_readers`."""
    read = read_twice(truth, readers)
    if not read:
        raise ValueError("no image was read by two readers, so no reader can be compared with the others")
    model = _model_boxes(truth, results)
    drawn, group = _readers_boxes(readers, read, model), _groups(truth, read, model)
    place = places_within(model.dt_image)
    matched = Matched({}, {}, model.dt_score, *np.zeros((2, len(place)), dtype=np.int64))
    for name in sorted({reader for image in read for reader in image["readers"]}, key=reader_order):
        images = _places(model, [image["id"] for image in read if name in image["readers"]])
        on_these = drawn[drawn["image_name"].isin(images)]
        others, own = on_these[on_these["reader_id"] != name], on_these[on_these["reader_id"] == name]
        case = _with_truth(model, others, fusion, iou_threshold)
        as_many = place < np.bincount(own["image_name"], minlength=len(group))[model.dt_image]
        chosen = np.isin(model.dt_image, images)
        every, best = _models_marks(case, chosen, as_many, hit_rule)
        matched.found[chosen] += every.finds
        matched.false[chosen] += every.false
        matched.model[name] = Answers.of(best, images, group)
        matched.reader[name] = Answers.of(_readers_marks(case, own, hit_rule), images, group)
    return matched


def read_twice(truth: Mapping, readers: Mapping) -> list[Mapping]:
    """Return the entries of the readers' COCO for images that two or more readers read."""
    images = {image["id"] for image in truth["images"]}
    return [image for image in readers["images"] if image["id"] in images and len(image.get("readers", [])) > 1]


def _model_boxes(truth: Mapping, results: Sequence[Mapping]) -> CocoArrays:
    """Return the model's boxes on the images of the truth, by falling score, with no truth box."""
    images = {image["id"] for image in truth["images"]}
    kept = [row for row in results if row["image_id"] in images]
    return ranked(to_arrays({**truth, "annotations": []}, kept))


def _places(model: CocoArrays, image_ids: Sequence[int]) -> np.ndarray:
    return np.searchsorted(model.image_ids, np.array(image_ids, dtype=np.int64))  # they are sorted


def _readers_boxes(readers: Mapping, read: Sequence[Mapping], model: CocoArrays) -> pd.DataFrame:
    """Return the boxes on the images read twice as `fuse_annotations` takes them; positions in place of names."""
    kept = {image["id"] for image in read}
    boxes = [box for box in readers["annotations"] if box["image_id"] in kept]
    index = {name: place for place, name in enumerate(model.class_names)}
    classes = {row["id"]: index[row["name"]] for row in readers["categories"] if row["name"] in index}
    table = pd.DataFrame(box_math.xywh_to_xyxy([box["bbox"] for box in boxes]), columns=CORNERS)
    table["image_name"] = _places(model, [box["image_id"] for box in boxes])
    table["class_name"] = np.array([classes[box["category_id"]] for box in boxes], dtype=np.int64)
    table["reader_id"] = np.array([box["reader"] for box in boxes], dtype=object)
    return table


def _groups(truth: Mapping, read: Sequence[Mapping], model: CocoArrays) -> np.ndarray:
    """Number what a resample draws together, the images of one patient where that is known, in the order of `read`.

    Returns:
        (F,) int64; 0 for images that were not read twice, which no case uses.
    """
    patients = {image["id"]: str(image.get("patient", f"image {image['id']}")) for image in truth["images"]}
    keys = [patients[image["id"]] for image in read]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    group = np.zeros(len(model.image_ids), dtype=np.int64)
    group[_places(model, [image["id"] for image in read])] = [numbers[key] for key in keys]
    return group


def _with_truth(model: CocoArrays, others: pd.DataFrame, fusion: str, iou_threshold: float) -> CocoArrays:
    """Return the model's boxes with the fused boxes of the other readers as truth."""
    fused = fuse_annotations(others, fusion, iou_threshold) if len(others) else others
    boxes = fused[CORNERS].to_numpy(np.float64)
    return replace(
        model,
        gt_image=fused["image_name"].to_numpy(np.int64),
        gt_class=fused["class_name"].to_numpy(np.int64),
        gt_boxes=box_math.xywh_to_xyxy(box_math.xyxy_to_xywh(boxes)),  # as COCO holds them
        gt_area=box_math.area(boxes),
        gt_crowd=np.zeros(len(boxes), dtype=bool),
        gt_readers=np.full(len(boxes), -1),
    )


def _models_marks(
    case: CocoArrays, chosen: np.ndarray, as_many: np.ndarray, hit_rule: str
) -> tuple[froc.Marks, froc.Marks]:
    """Return the marks of the model's boxes where `chosen`, and of its best where `as_many`; both (D,) bool."""
    lesion = lesions_pointed_at(case, hit_rule)
    every, best = (
        froc.pointing(case.dt_image[kept], case.dt_score[kept], lesion[kept], case.gt_image)
        for kept in (chosen, as_many)
    )
    return every, best


def _readers_marks(case: CocoArrays, own: pd.DataFrame, hit_rule: str) -> froc.Marks:
    """Return the marks of a reader's own boxes, all of score 1, in the order of the file."""
    corners = own[CORNERS].to_numpy(np.float64)
    columns = (own["image_name"].to_numpy(), own["class_name"].to_numpy(), corners, box_math.area(corners))
    boxes = replace(case, **dict(zip(_DETECTIONS, (*columns, np.ones(len(own))), strict=True)))
    return froc.pointing(boxes.dt_image, boxes.dt_score, lesions_pointed_at(boxes, hit_rule), case.gt_image)


def _resampled(answers: Sequence[Answers], resamples: int, seed: int) -> np.ndarray:
    """Return the counts of each predictor (A, 4, 1 + B): as they are, then in resamples, which are drawn in blocks."""
    counts = np.array([[getattr(one, field.name) for field in fields(Answers)] for one in answers], dtype=np.float32)
    rng, number = np.random.default_rng(seed), counts.shape[-1]
    sizes = [min(ranking.MAX_BLOCK, resamples - done) for done in range(0, resamples, ranking.MAX_BLOCK)]
    blocks = [counts @ estimates.draw(number, size, rng) for size in sizes]  # whole numbers, exact below 2**24
    return np.concatenate([counts.sum(axis=-1, keepdims=True), *blocks], axis=-1).astype(np.float64)


def _compared(reader: np.ndarray, model: np.ndarray) -> dict:
    """Describe readers and model by their resampled counts (4, 1 + B)."""
    points = {"reader": _operating_point(*reader), "model": _operating_point(*model)}
    images, boxes = (int(count) for count in reader[:2, 0])
    counted = {"sensitivity": (boxes, "boxes"), "false_positives_per_image": (images, "images")}
    described = {
        name: {key: estimates.estimate(values, *counted[key]) for key, values in point.items()}
        for name, point in points.items()
    }
    a, b = (points[name]["sensitivity"] for name in ("model", "reader"))
    return {"num_images": images, **described, "model_minus_reader": estimates.compared(a, b, interpolated=False)}


def _operating_point(
    images: np.ndarray, lesions: np.ndarray, found: np.ndarray, false: np.ndarray
) -> dict[str, np.ndarray]:
    return {
        "sensitivity": ranking.ratio(found, lesions),
        "false_positives_per_image": ranking.ratio(false, images),
    }


def _curve(matched: Matched, num_lesions: int, num_images: int) -> dict[str, list[float]]:
    points = froc.points(matched.scores, matched.found, matched.false, num_lesions, num_images)
    last = len(points["score"]) - 1
    kept = np.unique(np.linspace(0, last, MAX_CURVE_POINTS if last >= 0 else 0).astype(int))
    return {key: points[key][kept].tolist() for key in ("sensitivity", "false_positives_per_image")}
