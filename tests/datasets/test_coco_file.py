import json

import pytest

from d2_cxr.datasets.coco_file import check_coco_file

IMAGE = {"id": 1, "file_name": "a.png", "width": 64, "height": 64}
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
GOOD = {"images": [IMAGE], "annotations": [BOX], "categories": [{"id": 1, "name": "Nodule"}]}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_a_good_file_passes(tmp_path):
    check_coco_file(write(tmp_path / "a.json", GOOD))
    check_coco_file(write(tmp_path / "b.json", {**GOOD, "annotations": []}))


@pytest.mark.parametrize(
    "change, reason",
    [
        ([1], "holds a list, not an object"),
        ({"images": None}, "no list 'images'"),
        ({"images": ["a.png"]}, "entry 1 of 'images' is not an object"),
        ({"images": [{**IMAGE, "id": "1"}]}, "entry 1 of 'images' has id '1', expected a whole number"),
        ({"images": [IMAGE, IMAGE]}, "entry 2 of 'images' has the id 1 of an earlier one"),
        ({"images": [{**IMAGE, "file_name": 7}]}, "file_name 7, expected text"),
        ({"images": [{**IMAGE, "width": float("nan")}]}, "has the size"),
        ({"annotations": [{**BOX, "bbox": [1, 2, float("nan"), 4]}]}, "entry 1 of 'annotations' has bbox"),
        ({"annotations": [{**BOX, "bbox": "1 2 3 4"}]}, "expected four finite numbers"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3]}]}, "expected four finite numbers"),
        ({"annotations": [{**BOX, "bbox": [1, 2, -3, 4]}]}, "whose width or height is negative"),
        ({"annotations": [{**BOX, "image_id": 9}]}, "annotation 1 has image_id 9, which is not an image"),
        ({"annotations": [{**BOX, "category_id": None}]}, "has category_id None"),
        ({"categories": [{"id": 1, "name": 4}]}, "entry 1 of 'categories' has name 4"),
    ],
)
def test_a_malformed_file_is_refused_by_entry(tmp_path, change, reason):
    content = change if isinstance(change, list) else {**GOOD, **change}
    with pytest.raises(ValueError, match=reason) as error:
        check_coco_file(write(tmp_path / "a.json", content))
    assert "a.json" in str(error.value) and "\n" not in str(error.value)
