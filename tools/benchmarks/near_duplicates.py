"""Measure how far copies of images and other images lie apart (d2_cxr/audit/near_duplicates.py), on a prepared set.

python tools/benchmark.py near_duplicates --set data/vindr_cxr --copies 200

Copies are made of the first images in a random order: encoded anew as JPEG of quality 50, resized to 40 %, cropped by
up to 10 % a side, mirrored, and both. Images that are known to be copies (equal pixels) are taken once.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from benchmarks import _record


def main(argv: list[str] | None = None) -> int:
    parser = _record.parser("near_duplicates", __doc__)
    parser.add_argument("--set", type=Path, required=True, help="folder of a prepared set")
    parser.add_argument("--copies", type=int, default=200, help="images of which copies are made")
    args = parser.parse_args(argv)
    from d2_cxr.audit import near_duplicates
    from d2_cxr.datasets import manifest

    rows = [row for row in manifest.read(args.set / "manifest.csv") if row["outcome"] == "prepared"]
    radiographs = list({row["image_sha256"]: row["image_name"] for row in rows}.values())
    paths = [args.set / "images" / f"{name}.png" for name in radiographs]
    small = near_duplicates.read_small(paths)
    start = time.perf_counter()
    among = near_duplicates.find_near_duplicates(small)
    seconds = time.perf_counter() - start
    numbers = {
        "images": len(radiographs),
        "pairs": len(radiographs) * (len(radiographs) - 1) // 2,
        "seconds": round(seconds, 1),
        "taken_for_one_image": [[radiographs[c.first], radiographs[c.second], c.how, c.correlation] for c in among],
        "most_alike_of_the_others": round(_most_alike(small, among), 3),
        "copies": {},
    }
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(radiographs))[: args.copies]
    images = [cv2.imread(str(paths[number]), cv2.IMREAD_GRAYSCALE) for number in chosen]
    for name, change in CHANGES.items():
        copies = np.stack([near_duplicates.small_copy(change(image, rng)) for image in images])
        found = near_duplicates.find_near_duplicates(np.concatenate([small, copies]))
        pairs = {(min(copy.first, copy.second), max(copy.first, copy.second)): copy for copy in found}
        wanted = [pairs.get((int(number), len(small) + n)) for n, number in enumerate(chosen)]
        values = [copy.correlation for copy in wanted if copy]
        numbers["copies"][name] = {"made": len(chosen), "found": len(values)}
        if values:
            numbers["copies"][name] |= {"lowest": round(min(values), 3), "median": round(float(np.median(values)), 3)}
    return _record.finish("near_duplicates", numbers, argv, args.json)


def _most_alike(small: np.ndarray, among) -> float:
    """Return the highest correlation of pairs that were not taken for one image."""
    from d2_cxr.audit import near_duplicates

    kept, near_duplicates.SAME_IMAGE = near_duplicates.SAME_IMAGE, 0.0
    known = {(copy.first, copy.second) for copy in among} | {(copy.second, copy.first) for copy in among}
    try:
        others = [
            c.correlation for c in near_duplicates.find_near_duplicates(small) if (c.first, c.second) not in known
        ]
    finally:
        near_duplicates.SAME_IMAGE = kept
    return max(others, default=0.0)


def _encoded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


def _resized(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    small = cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_CUBIC)


def _cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut, resize and equalize again, as preparation would."""
    from d2_cxr.dicom.preprocess import equalization_curve

    height, width = image.shape
    left, right, top, bottom = rng.uniform(0, 0.10, 4)
    cut = image[int(top * height) : int((1 - bottom) * height), int(left * width) : int((1 - right) * width)]
    cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR)
    levels = cut.astype(np.uint16) * 257
    return equalization_curve(levels)[levels].round().astype(np.uint8)


def _mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


CHANGES = {
    "encoded anew": _encoded,
    "resized": _resized,
    "mirrored": _mirrored,
    "cropped": _cropped,
    "cropped, mirrored, encoded anew": lambda image, rng: _encoded(_mirrored(_cropped(image, rng), rng), rng),
}
