"""The page of the images to label next: each picture with the boxes that the detector reports on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from d2_cxr.audit import pages
from d2_cxr.boxes import xyxy_to_xywh
from d2_cxr.datasets import image_array
from d2_cxr.drawing import class_color, encode_png
from d2_cxr.prediction.predictor import Predictor
from d2_cxr.prediction.prepared_predictions import Predictions
from d2_cxr.prediction.work_list import Candidate, WorkList

_SIDE = 384  # pixels of an image on the page


def write(
    path: Path,
    rows: Sequence[Mapping],
    images: Sequence[Candidate],
    seen: Predictions,
    predictor: Predictor,
    work: WorkList,
    strategy: str,
) -> None:
    """Write the page; it needs no other file.

    Args:
        path: of the page.
        rows: of label_next.csv.
        images: the same images.
        seen: what the detector found on them.
        predictor: the detector.
        work: the list; its text is above the pictures.
        strategy: by which the images were picked.
    """
    figures = [
        {
            **row,
            "source": pages.data_url(encode_png(image_array.read_for_page(image.png, _SIDE))),
            **_boxes(seen, index, predictor.class_names, predictor.limits),
        }
        for index, (row, image) in enumerate(zip(rows, images, strict=True))
    ]
    context = {"figures": figures, "size": predictor.preprocess.size, "words": str(work), "strategy": strategy}
    pages.write_page(path, "label_next.html.j2", Path(__file__).parent / "templates", **context)


def _boxes(seen: Predictions, index: int, class_names: Sequence[str], limits: np.ndarray) -> dict:
    """Describe the reported boxes of an image in prepared pixels."""
    boxes, scores, classes = seen.of(index)
    reported = scores >= limits[classes]
    found = zip(xyxy_to_xywh(boxes[reported]), scores[reported], classes[reported], strict=True)
    described = []
    for (x, y, width, height), score, place in found:
        color = "#{:02x}{:02x}{:02x}".format(*class_color(int(place)))
        sides = {"x": x, "y": y, "width": width, "height": height}
        box = {key: round(float(value), 1) for key, value in sides.items()}
        described.append(box | {"color": color, "text": f"{class_names[place]} {score:.2f}"})
    return {"drawn": described}
