"""VinDr-CXR's readers against each other, on the published test split of the real annotation file (docs/paper.md)."""

from __future__ import annotations

import pytest

from d2_cxr.evaluation.readers import compare_with_readers
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.coco import readers_to_coco
from d2_cxr.labels.splits import published_split

BY_READER = {  # images, boxes that the others' fuse to, how many of these are found, false positives
    "R8": (809, 2212, 1020, 284),
    "R9": (809, 1825, 1047, 689),
    "R10": (809, 2089, 1045, 418),
}
INTERVALS = {  # of sensitivity and of false positives per image
    "R8": ([0.440, 0.484], [0.300, 0.403]),
    "R9": ([0.550, 0.602], [0.765, 0.931]),
    "R10": ([0.478, 0.525], [0.459, 0.573]),
}


@pytest.fixture(scope="module")
def table(vinbigdata_csv):
    """Return the comparison in source pixels; IoU and mean fusion stay the same when an image is squashed."""
    annotations = read_annotations(vinbigdata_csv)
    test = published_split(annotations.boxes["image_name"].tolist())["test"]
    images = [{"id": n, "file_name": f"{image}.png", "width": 1, "height": 1} for n, image in enumerate(test, start=1)]
    readers = readers_to_coco(images, annotations.boxes, annotations.readings, annotations.class_names)
    return compare_with_readers({**readers, "annotations": []}, [], readers)


def test_three_readers_read_every_test_image(table):
    assert table["pooled"]["num_images"] == 3 * 879
    images = {name: entry["num_images"] for name, entry in table["by_reader"].items()}
    assert sum(images.values()) == 3 * 879
    assert {name: number for name, number in images.items() if number > 100} == {"R8": 809, "R9": 809, "R10": 809}


@pytest.mark.parametrize("reader", BY_READER)
def test_readers_against_the_others(table, reader):
    images, boxes, found, false = BY_READER[reader]
    entry = table["by_reader"][reader]["reader"]
    assert (entry["sensitivity"]["n"], entry["false_positives_per_image"]["n"]) == (boxes, images)
    assert entry["sensitivity"]["value"] == pytest.approx(found / boxes, abs=1e-12)
    assert entry["false_positives_per_image"]["value"] == pytest.approx(false / images, abs=1e-12)
    for key, expected in zip(("sensitivity", "false_positives_per_image"), INTERVALS[reader], strict=True):
        assert entry[key]["interval"] == pytest.approx(expected, abs=0.003)  # another random generator may draw others


def test_the_pooled_point(table):
    entry = table["pooled"]["reader"]
    assert entry["sensitivity"]["value"] == pytest.approx(0.4925, abs=5e-5)
    assert entry["false_positives_per_image"]["value"] == pytest.approx(0.5920, abs=5e-5)
    assert entry["sensitivity"]["interval"] == pytest.approx([0.475, 0.513], abs=0.003)
    assert entry["false_positives_per_image"]["interval"] == pytest.approx([0.549, 0.631], abs=0.003)
