"""The page of a detector's mistakes: hit, missed and false boxes on each image, worst images first."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from d2_cxr import boxes as box_math
from d2_cxr.audit import pages
from d2_cxr.datasets import image_array
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.evaluation import errors, froc
from d2_cxr.evaluation.coco_arrays import CocoArrays, to_arrays
from d2_cxr.evaluation.files import read_truth_and_results
from d2_cxr.evaluation.ground_truth import GroundTruth
from d2_cxr.evaluation.matching import HIT_RULES, Matches, match_arrays, ranked
from d2_cxr.evaluation.stratified_sensitivity import best_pointing_score

KINDS = {  # of a box on the page; the last four as TIDE names them
    "hit": "a detection that finds a truth box",
    "miss": "a truth box that no detection finds",
    "Dupe": "a detection of a truth box that a better-scored one has found",
    "Cls": f"a false detection, IoU >= {errors.FOREGROUND} with a truth box of another class",
    "Loc": f"a false detection, IoU >= {errors.BACKGROUND} with a truth box of its class",
    "Both": f"a false detection, IoU >= {errors.BACKGROUND} with a truth box of another class only",
    "Bkg": f"a false detection, IoU < {errors.BACKGROUND} with every truth box",
    "reader": "a box of a single reader",
}
PAGE_SIDE = 384  # pixels of an image on the page


def write_mistakes(
    dataset: str,
    results: str | os.PathLike,
    output: str | os.PathLike,
    number: int = 48,
    score: float | None = None,
    root: str | os.PathLike | None = None,
) -> Path:
    """Write `mistakes.html` with the images that have most errors; it needs no other file.

    Args:
        dataset: a data-set name.
        results: COCO results on it; those on negative images are read from the file next to it, if it exists.
        number: of images.
        score: where the score slider begins; default: the score with 1 false positive per image.
        root: folder of prepared sets; default: the registered ones.

    Raises:
        FileNotFoundError, ValueError: unknown set, missing file, or results that do not fit.
    """
    truth, arrays, matches = read_matched(dataset, results, root)
    score = errors.working_score(matches) if score is None else score
    images = {image["id"]: image for image in truth.images}
    worst = [row["image"] for row in errors.worst_images(matches, number, score)]
    context = {
        "name": dataset,
        "figures": _figures(arrays, matches, worst, images, truth.readers, named_set(dataset).image_root),
        "classes": matches.class_names,
        "kinds": KINDS,
        "rule": HIT_RULES["iou"],
        "score": round(score or 0.0, 2),
        "num_images": matches.num_images,
    }
    path = Path(output) / "mistakes.html"
    pages.write_page(path, "mistakes.html.j2", Path(__file__).parent / "templates", **context)
    return path


def read_matched(
    dataset: str, results: str | os.PathLike, root: str | os.PathLike | None = None
) -> tuple[GroundTruth, CocoArrays, Matches]:
    """Read a set and results on it, match them, and return truth, boxes (ranked by score) and matches.

    The truth's `negative` is None where there are no results on negative images.

    Raises:
        FileNotFoundError, ValueError: unknown set, missing file, or results that do not fit.
    """
    truth, rows = read_truth_and_results(dataset, Path(results), root=root)
    arrays = ranked(to_arrays(truth.truth, rows, truth.negative))
    return truth, arrays, match_arrays(arrays)


def kinds(matches: Matches) -> np.ndarray:
    """Return the kind of each detection, (D,) str: a key of KINDS, by froc's hit rule."""
    same, other = matches.dt_iou_same, matches.dt_iou_other
    near, far = errors.FOREGROUND, errors.BACKGROUND
    false = np.select([other >= near, same >= far, other >= far], ["Cls", "Loc", "Both"], default="Bkg")
    marks = froc.marks(matches)
    return np.select([marks.finds, ~marks.false], ["hit", "Dupe"], default=false)


def _figures(
    arrays: CocoArrays,
    matches: Matches,
    names: Sequence[str],
    images: Mapping[int, Mapping],
    readers: Mapping | None,
    folder: Path,
) -> list[dict]:
    """Describe each image: name, whether it is negative, picture as a data URL, sides, and its boxes."""
    place = {name: index for index, name in enumerate(matches.image_names.tolist())}
    boxes = _boxes_by_image(arrays, matches)
    figures = []
    for index in (place[name] for name in names):
        image = images[int(matches.image_ids[index])]
        figures.append(
            {
                "name": str(matches.image_names[index]),
                "negative": bool(matches.image_negative[index]),
                "source": pages.jpeg_url(image_array.read_for_page(folder / image["file_name"], PAGE_SIDE)),
                "width": image["width"],
                "height": image["height"],
                "boxes": [*_reader_boxes(readers, image["id"]), *boxes[index]],
            }
        )
    return figures


def _boxes_by_image(arrays: CocoArrays, matches: Matches) -> dict[int, list[dict]]:
    """Describe truth boxes, with the score at which each is found, and detections of every image."""
    kind, found_at = kinds(matches), best_pointing_score(matches)
    truth = zip(matches.gt_image, ["miss"] * len(found_at), arrays.gt_boxes, arrays.gt_class, found_at, strict=True)
    found = zip(matches.dt_image, kind, arrays.dt_boxes, arrays.dt_class, arrays.dt_score, strict=True)
    boxes: dict[int, list[dict]] = defaultdict(list)
    for image, name, xyxy, index, score in (*truth, *found):
        boxes[int(image)].append(_box(str(name), xyxy, matches.class_names[index], float(score)))
    return boxes


def _box(kind: str, xyxy: np.ndarray, class_name: str, score: float | None, reader: str = "") -> dict:
    x, y, width, height = (round(float(value), 1) for value in box_math.xyxy_to_xywh(xyxy[None])[0])
    score = None if score is None else round(max(score, -1.0), 3)  # -1: found by no detection
    sides = {"x": x, "y": y, "width": width, "height": height}
    return {"kind": kind, "class_name": class_name, "score": score, "reader": reader, **sides}


def _reader_boxes(readers: Mapping | None, image: int) -> list[dict]:
    if readers is None:
        return []
    names = {category["id"]: category["name"] for category in readers["categories"]}
    own = [box for box in readers["annotations"] if box["image_id"] == image]
    corners = box_math.xywh_to_xyxy([box["bbox"] for box in own])
    return [
        _box("reader", xyxy, names[box["category_id"]], None, str(box["reader"]))
        for box, xyxy in zip(own, corners, strict=True)
    ]
