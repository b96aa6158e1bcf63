"""What a prepared set holds, counted from its COCO dicts: classes, readers, patients, box sizes, images to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

PARTS = ("train", "val", "test")
Files = Mapping[str, Mapping]  # path below annotations/ -> COCO dict


def split_of(files: Files) -> str:
    """Return the split that NAME_train means: "published" where it was written, else "stratified"."""
    return "published" if "published/train.json" in files else "stratified"


def names(set_name: str, files: Files) -> list[tuple[str, int, int]]:
    """Return what can be typed as a data-set name: (name, images, boxes) of the parts that hold an image."""
    split = split_of(files)
    paths = {f"{prefix}{part}": f"{split}/{prefix}{part}.json" for prefix in ("", "negative_") for part in PARTS}
    paths |= {"unlabeled": "unlabeled.json", "official_test": "official_test.json"}
    found = [(f"{set_name}_{ending}", files[path]) for ending, path in paths.items() if path in files]
    return [(name, len(coco["images"]), len(coco["annotations"])) for name, coco in found if coco["images"]]


def classes(files: Files) -> list[tuple]:
    """Return a row per class, the commonest first.

    Returns:
        (class, boxes, images with it in train, in val, in test, median box side in percent of the image's side,
        5 % and 95 % quantile of the same as text); a box's side is the root of its area over that of the image.
    """
    parts = [_part(files, part) for part in PARTS]
    names_of = {category["id"]: category["name"] for part in parts for category in part["categories"]}
    boxes: Counter[int] = Counter()
    images: dict[int, list[set]] = defaultdict(lambda: [set(), set(), set()])
    sides: dict[int, list[float]] = defaultdict(list)
    for place, part in enumerate(parts):
        areas = {image["id"]: image["width"] * image["height"] for image in part["images"]}
        for box in part["annotations"]:
            boxes[box["category_id"]] += 1
            images[box["category_id"]][place].add(box["image_id"])
            sides[box["category_id"]].append(100 * (box["area"] / areas[box["image_id"]]) ** 0.5)
    rows = []
    for index in sorted(names_of, key=lambda index: (-boxes[index], index)):
        low, middle, high = np.quantile(sides[index], [0.05, 0.5, 0.95]) if boxes[index] else (0, 0, 0)
        size = (f"{middle:.0f} %", f"{low:.0f} to {high:.0f} %") if boxes[index] else ("–", "–")
        rows.append((names_of[index], boxes[index], *map(len, images[index]), *size))
    return rows


def readers(files: Files) -> list[tuple]:
    """Return (reader, images read, images on which the reader drew, boxes), who read most first; [] without readers."""
    coco = files.get("readers.json")
    if coco is None:
        return []
    read = Counter(str(reader) for image in coco["images"] for reader in image.get("readers", []))
    boxes = Counter(str(box["reader"]) for box in coco["annotations"])
    drew = Counter(reader for reader, _ in {(str(box["reader"]), box["image_id"]) for box in coco["annotations"]})
    order = sorted({*read, *boxes}, key=lambda reader: (-read[reader], reader))
    return [(reader, read[reader], drew[reader], boxes[reader]) for reader in order]


def patients(files: Files) -> list[tuple]:
    """Return (part, patients, images with a known patient, most images of one); [] where no patient is known."""
    split, rows = split_of(files), []
    for part in PARTS:
        lists = [files[path]["images"] for p in ("", "negative_") if (path := f"{split}/{p}{part}.json") in files]
        known = Counter(image["patient"] for images in lists for image in images if image.get("patient") is not None)
        if known:
            rows.append((part, len(known), sum(known.values()), max(known.values())))
    return rows


def examples(
    files: Files, each: int, most: int
) -> list[tuple[str, list[tuple[Mapping, list[tuple[int, str, Mapping]]]]]]:
    """Draw images to look at, the same at each call: some of every class, then some without findings.

    Args:
        each: images per class.
        most: images in all, shared by the classes; at least one per class.

    Returns:
        (class or "no finding", [(image row, [(class index, class, annotation), ...]), ...]); every box of an image is
        listed. A set without boxes gives unlabeled images.
    """
    found, own, named = _with_boxes(files)
    indices = sorted(named)
    number = max(1, min(each, most // max(1, len(indices) + 1)))
    groups = []
    for place, index in enumerate(indices):
        having = [image for image in found if any(box["category_id"] == index for box in own[image])]
        boxes = lambda image: [(indices.index(b["category_id"]), named[b["category_id"]], b) for b in own[image]]  # noqa: E731
        groups.append((named[index], [(found[image], boxes(image)) for image in _draw(having, number, place)]))
    split = split_of(files)
    negative = [image for part in PARTS for image in files.get(f"{split}/negative_{part}.json", _EMPTY)["images"]]
    title = "no finding" if negative else "unlabeled"
    rest = negative or ([] if found else files.get("unlabeled.json", _EMPTY)["images"])
    groups.append((title, [(image, []) for image in _draw(rest, number, len(indices))]))
    return [group for group in groups if group[1]]


_EMPTY: Mapping = {"images": [], "annotations": [], "categories": []}


def _part(files: Files, part: str) -> Mapping:
    return files.get(f"{split_of(files)}/{part}.json", _EMPTY)


def _with_boxes(files: Files) -> tuple[dict[int, Mapping], dict[int, list[Mapping]], dict[int, str]]:
    """Return images with findings by id, their boxes by image id, and class names by category id."""
    images: dict[int, Mapping] = {}
    named: dict[int, str] = {}
    boxes: dict[int, list[Mapping]] = defaultdict(list)
    for coco in (_part(files, part) for part in PARTS):
        images |= {image["id"]: image for image in coco["images"]}
        named |= {category["id"]: category["name"] for category in coco["categories"]}
        for box in coco["annotations"]:
            boxes[box["image_id"]].append(box)
    return images, boxes, named


def _draw(values: Sequence, number: int, seed: int) -> list:
    order = np.random.default_rng(seed).permutation(len(values))[:number]
    return [values[place] for place in sorted(order)]
