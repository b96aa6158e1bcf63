"""COCO JSON: what other tools read, and the way back."""

import pandas as pd
import pytest

from d2_cxr.labels.coco import from_coco, reader_order, readers_to_coco, to_coco
from d2_cxr.labels.fusion import fuse_annotations

CORNERS = ["x_min", "y_min", "x_max", "y_max"]
NAMES = ("ILD", "Edema")


def image(number: int, name: str, **more) -> dict:
    return {
        "id": number,
        "file_name": f"{name}.png",
        "width": 512,
        "height": 512,
        "source_width": 2000,
        "source_height": 2500,
        **more,
    }


def boxes(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_name", "class_name", "reader_id", *CORNERS])


def test_fused_boxes_become_coco_annotations():
    fused = fuse_annotations(
        boxes(("b", "Edema", "R1", 10, 20, 30, 60), ("a", "ILD", "R1", 0, 0, 9, 9), ("a", "ILD", "R2", 0, 0, 9, 9))
    )
    coco = to_coco([image(7, "a", patient=3, junk=1), image(2, "b", patient=None)], fused, NAMES)
    assert coco["images"] == [image(7, "a", patient=3), image(2, "b")]
    assert coco["categories"] == [{"id": 1, "name": "ILD"}, {"id": 2, "name": "Edema"}]
    assert coco["annotations"] == [
        {
            "id": 1,  # pycocotools takes a ground-truth box of id 0 for a missed one
            "image_id": 7,
            "category_id": 1,
            "bbox": [0.0, 0.0, 9.0, 9.0],
            "area": 81.0,
            "iscrowd": 0,
            "num_readers": 2,
            "reader_ious": {"R1": 1.0, "R2": 1.0},
        },
        {
            "id": 2,
            "image_id": 2,
            "category_id": 2,
            "bbox": [10.0, 20.0, 20.0, 40.0],
            "area": 800.0,
            "iscrowd": 0,
            "num_readers": 1,
            "reader_ious": {"R1": 1.0},
        },
    ]


def test_boxes_of_other_images_are_passed_over_and_images_without_boxes_kept():
    fused = fuse_annotations(boxes(("z", "ILD", "R1", 0, 0, 9, 9)))
    coco = to_coco([image(1, "a")], fused, NAMES)
    assert (len(coco["images"]), coco["annotations"]) == (1, [])


def test_corners_keep_a_thousandth_of_a_pixel():
    fused = fuse_annotations(boxes(("a", "ILD", "R1", 0.12345, 1 / 3, 10.5, 20.1)))
    assert to_coco([image(1, "a")], fused, NAMES)["annotations"][0]["bbox"] == [0.123, 0.333, 10.377, 19.767]


def test_single_readers_boxes_name_their_reader_and_images_who_read_them():
    readings = pd.DataFrame([("a", "R10"), ("a", "R8"), ("b", "R8")], columns=["image_name", "reader_id"])
    coco = readers_to_coco([image(1, "a"), image(2, "b")], boxes(("a", "ILD", "R10", 1, 2, 3, 4)), readings, NAMES)
    assert [image["readers"] for image in coco["images"]] == [["R8", "R10"], ["R8"]]
    assert [(box["reader"], box["bbox"]) for box in coco["annotations"]] == [("R10", [1.0, 2.0, 2.0, 2.0])]


def test_the_way_back_gives_the_boxes_again():
    rows = boxes(("a", "ILD", "R1", 1, 2, 3, 4), ("b", "Edema", "R2", 5.5, 6, 7, 8.25))
    images = [image(1, "a"), image(2, "b")]
    back = from_coco(readers_to_coco(images, rows, rows[["image_name", "reader_id"]], NAMES))
    pd.testing.assert_frame_equal(back[rows.columns].astype(object), rows.astype(object))
    fused = fuse_annotations(rows)
    again = from_coco(to_coco(images, fused, NAMES))
    assert again[CORNERS].values.tolist() == fused[CORNERS].values.tolist()
    assert again["reader_ious"].tolist() == [{"R1": 1.0}, {"R2": 1.0}]
    assert len(from_coco(to_coco(images, fused.iloc[:0], NAMES))) == 0


def test_a_class_without_a_category_and_a_repeated_id_are_refused():
    fused = fuse_annotations(boxes(("a", "Heart", "R1", 0, 0, 9, 9)))
    with pytest.raises(ValueError, match="Heart"):
        to_coco([image(1, "a")], fused, NAMES)
    with pytest.raises(ValueError, match="same id"):
        to_coco([image(1, "a"), image(1, "b")], fused.iloc[:0], NAMES)


def test_readers_sort_by_number():
    assert sorted(["R10", "R8", "gblock", "R9", "7"], key=reader_order) == ["7", "R8", "R9", "R10", "gblock"]
