"""Readers and model under one matching rule.

A reader cannot be compared with fused boxes that contain the reader's own. So each image is one case for every reader
who read it: the truth is the fused boxes of the *other* readers. The reader's answer is their own boxes; the model's is
the same number of boxes, those with the highest scores. A reader who draws more finds more; equal numbers of boxes make
the two comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from d2_cxr.evaluation import estimates, froc, ranking
from d2_cxr.evaluation.coco_arrays import CocoArrays, to_arrays
from d2_cxr.evaluation.matching import HIT_RULES, Matches, match_arrays
from d2_cxr.image_name import image_name
from d2_cxr.labels.coco import from_coco, reader_order
from d2_cxr.labels.fusion import fuse_annotations

DEFINITION = (
    "each reader against the fused boxes of the other readers of the image, the model against the same with its "
    "best-scored boxes, as many on each image as the reader drew; hit: {}, of the box's class"
)
MAX_CURVE_POINTS = 200


@dataclass(frozen=True)
class Cases:
    """Images, each once for every reader if two or more read it; `reader[i]` is left out of the truth of case i."""

    reader: np.ndarray  # (N,) str
    readers: Matches  # the readers' answers
    matched: Matches  # the model's, as many boxes per case
    model: Matches  # all of the model's boxes


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
    cases = make_cases(truth, results, readers, fusion, iou_threshold)
    weights = estimates.with_original(estimates.image_weights(cases.readers, resamples, seed))
    names = sorted(set(cases.reader.tolist()), key=reader_order)
    everything = np.ones(len(cases.reader), dtype=bool)
    return {
        "definition": DEFINITION.format(HIT_RULES[hit_rule]),
        "resamples": resamples,
        "seed": seed,
        "pooled": _compared(cases, everything, weights, hit_rule),
        "by_reader": {name: _compared(cases, cases.reader == name, weights, hit_rule) for name in names},
        "model_curve": _curve(cases.model, hit_rule),
    }


def make_cases(
    truth: Mapping, results: Sequence[Mapping], readers: Mapping, fusion: str = "mean", iou_threshold: float = 0.2
) -> Cases:
    """Build the cases and match all three answers to them; arguments and errors as `compare_with_readers`."""
    radiographs = {image["id"]: image for image in truth["images"]}
    read = read_twice(truth, readers)
    if not read:
        raise ValueError("no image was read by two readers, so no reader can be compared with the others")
    pairs = [(reader, image) for image in read for reader in sorted(image["readers"], key=reader_order)]
    images = [
        {
            **radiographs[image["id"]],
            "id": case,
            "file_name": f"{reader}/{image['file_name']}",
            "patient": _group(radiographs, image),
        }
        for case, (reader, image) in enumerate(pairs, start=1)
    ]
    case_of = {(reader, image["id"]): case for case, (reader, image) in enumerate(pairs, start=1)}
    categories = truth["categories"]
    case_truth = {"images": images, "categories": categories}
    case_truth["annotations"] = _others_fused(readers, read, case_of, categories, fusion, iou_threshold)
    own = [
        {**_answer(box), "image_id": case_of[box["reader"], box["image_id"]], "score": 1.0}
        for box in readers["annotations"]
        if (box["reader"], box["image_id"]) in case_of
    ]
    readers_own = to_arrays(case_truth, own)
    model = _model_answers(truth, results, [image["id"] for _, image in pairs], readers_own)
    return Cases(
        reader=np.array([reader for reader, _ in pairs], dtype=np.str_),
        readers=match_arrays(readers_own),
        matched=match_arrays(_as_many(model, readers_own)),
        model=match_arrays(model),
    )


def read_twice(truth: Mapping, readers: Mapping) -> list[Mapping]:
    """Return the entries of the readers' COCO for images that two or more readers read."""
    images = {image["id"] for image in truth["images"]}
    return [image for image in readers["images"] if image["id"] in images and len(image.get("readers", [])) > 1]


def _group(images: Mapping, image: Mapping) -> str:
    """Keep the cases of one image (of one patient, where known) together in a resample."""
    return str(images[image["id"]].get("patient", f"image {image['id']}"))


def _others_fused(
    readers: Mapping,
    read: Sequence[Mapping],
    case_of: Mapping[tuple[str, int], int],
    categories: Sequence[Mapping],
    fusion: str,
    iou_threshold: float,
) -> list[dict]:
    """Fuse, for each case, the boxes of all readers except its own; return COCO annotations."""
    ids = {category["name"]: category["id"] for category in categories}
    kept = {image["id"] for image in read}
    table = from_coco({**readers, "annotations": [box for box in readers["annotations"] if box["image_id"] in kept]})
    image_names = {image_name(image["file_name"]): image["id"] for image in read}
    annotations: list[dict] = []
    for name in sorted({reader for reader, _ in case_of}, key=reader_order):
        own_images = {radiograph for radiograph, number in image_names.items() if (name, number) in case_of}
        others = table[table["image_name"].isin(own_images) & (table["reader_id"] != name)] if len(table) else table
        for row in fuse_annotations(others, fusion, iou_threshold).itertuples() if len(others) else ():
            bbox = [row.x_min, row.y_min, row.x_max - row.x_min, row.y_max - row.y_min]
            case = case_of[name, image_names[row.image_name]]
            annotations.append({"image_id": case, "category_id": ids[row.class_name], "bbox": bbox})
    return [{**box, "id": number, "iscrowd": 0} for number, box in enumerate(annotations, start=1)]


def _answer(row: Mapping) -> dict:
    return {"category_id": row["category_id"], "bbox": row["bbox"]}


def _model_answers(
    truth: Mapping, results: Sequence[Mapping], image_ids: Sequence[int], cases: CocoArrays
) -> CocoArrays:
    """Return the cases with all of the model's boxes; each image's are repeated as arrays, not as COCO rows.

    Args:
        truth: COCO dict of the images.
        results: the model's COCO results.
        image_ids: the image of each case, (N,).
        cases: with any detections.
    """
    position = {image["id"]: index for index, image in enumerate(sorted(truth["images"], key=lambda row: row["id"]))}
    kept = [row for row in results if row["image_id"] in position]
    every = to_arrays({**truth, "annotations": []}, kept)
    by_image = np.argsort(every.dt_image, kind="stable")
    bounds = np.searchsorted(every.dt_image[by_image], np.arange(len(position) + 1))
    places = [by_image[bounds[position[image]] : bounds[position[image] + 1]] for image in image_ids]
    chosen = np.concatenate(places)
    return replace(
        cases,
        dt_image=np.repeat(np.arange(len(places)), [len(place) for place in places]),
        **{name: getattr(every, name)[chosen] for name in ("dt_class", "dt_boxes", "dt_area", "dt_score")},
    )


def _as_many(model: CocoArrays, own: CocoArrays) -> CocoArrays:
    """Keep in each case as many of the model's boxes as the reader drew, those with the highest scores."""
    allowed, answers = (np.bincount(cases.dt_image, minlength=len(own.image_ids)) for cases in (own, model))
    best_first = np.lexsort((-model.dt_score, model.dt_image))
    rank = np.arange(len(best_first)) - np.repeat(np.cumsum(answers) - answers, answers)
    kept = np.sort(best_first[rank < np.repeat(allowed, answers)])
    names = ("dt_image", "dt_class", "dt_boxes", "dt_area", "dt_score")
    return replace(model, **{name: getattr(model, name)[kept] for name in names})


def _compared(cases: Cases, chosen: np.ndarray, weights: np.ndarray, hit_rule: str) -> dict:
    """Describe readers and model on the chosen cases (N,) bool under weights (N, 1 + B)."""
    reader = _operating_point(cases.readers, chosen, weights, hit_rule)
    model = _operating_point(cases.matched, chosen, weights, hit_rule)
    images, boxes = chosen.sum(), chosen[cases.readers.gt_image].sum()
    counted = {"sensitivity": (int(boxes), "boxes"), "false_positives_per_image": (int(images), "images")}
    return {
        "num_images": int(images),
        "reader": {key: estimates.estimate(values, *counted[key]) for key, values in reader.items()},
        "model": {key: estimates.estimate(values, *counted[key]) for key, values in model.items()},
        "model_minus_reader": estimates.compared(model["sensitivity"], reader["sensitivity"], interpolated=False),
    }


def _operating_point(matches: Matches, chosen: np.ndarray, weights: np.ndarray, hit_rule: str) -> dict[str, np.ndarray]:
    marks = froc.marks(matches, rule=hit_rule)
    counted = (marks.lesion_image, marks.image[marks.finds], marks.image[marks.false], np.arange(len(chosen)))
    lesions, found, false, images = (ranking.totals(place[chosen[place]], weights) for place in counted)
    return {
        "sensitivity": np.where(lesions > 0, found / np.maximum(lesions, 1), np.nan),
        "false_positives_per_image": np.where(images > 0, false / np.maximum(images, 1), np.nan),
    }


def _curve(model: Matches, hit_rule: str) -> dict[str, list[float]]:
    points = froc.curve(model, rule=hit_rule)
    last = len(points["score"]) - 1
    kept = np.unique(np.linspace(0, last, MAX_CURVE_POINTS if last >= 0 else 0).astype(int))
    return {key: points[key][kept].tolist() for key in ("sensitivity", "false_positives_per_image")}
