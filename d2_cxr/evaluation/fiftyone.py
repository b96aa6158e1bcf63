"""A set and a detector's results on it as files for FiftyOne (docs/fiftyone.md); nothing of FiftyOne is imported.

The layout is its `COCODetectionDataset`, https://docs.voxel51.com/user_guide/dataset_creation/datasets.html , with one
more file of COCO annotations per label field.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr import boxes as box_math
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.evaluation.coco_arrays import CocoArrays
from d2_cxr.evaluation.matching import Matches
from d2_cxr.evaluation.mistakes import kinds, read_matched


def write_fiftyone(
    dataset: str, results: str | os.PathLike, output: str | os.PathLike, root: str | os.PathLike | None = None
) -> Path:
    """Write `data/`, `labels.json` (truth), `predictions.json` and, where known, `readers.json`; return the folder.

    Each prediction has `kind`: hit, or what is wrong with it (`mistakes.KINDS`). Negative images are included where
    there are results on them.

    Args:
        dataset: a data-set name.
        results: COCO results on it; those on negative images are read from the file beside it, if it exists.
        output: folder.
        root: folder of prepared sets; default: the registered ones.

    Raises:
        FileNotFoundError, ValueError: unknown set, missing file or image, or results that do not fit.
    """
    truth, arrays, matches = read_matched(dataset, results, root)
    images, folder, source = truth.images, Path(output), named_set(dataset).image_root
    for image in images:
        path = source / image["file_name"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; prepare the set again")
        artifacts.write_with(folder / "data" / image["file_name"], functools.partial(shutil.copyfile, path))
    artifacts.write_json(folder / "labels.json", {**truth.truth, "images": images})
    artifacts.write_json(folder / "predictions.json", _predictions(arrays, matches, truth.truth["categories"]))
    if truth.readers:
        shown = {image["id"] for image in images}
        drawn = [box for box in truth.readers["annotations"] if box["image_id"] in shown]
        artifacts.write_json(folder / "readers.json", {"annotations": drawn, "categories": truth.readers["categories"]})
    return folder


def _predictions(arrays: CocoArrays, matches: Matches, categories: list[Mapping]) -> dict:
    ids = [category["id"] for category in sorted(categories, key=lambda category: category["id"])]
    boxes = box_math.xyxy_to_xywh(arrays.dt_boxes).round(3).tolist()
    rows = zip(matches.dt_image, arrays.dt_class, boxes, arrays.dt_score, kinds(matches), strict=True)
    found = [
        {
            "id": number,
            "image_id": int(matches.image_ids[image]),
            "category_id": ids[index],
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": float(score),
            "kind": str(kind),
        }
        for number, (image, index, box, score, kind) in enumerate(rows, 1)
    ]
    return {"annotations": found, "categories": list(categories)}
