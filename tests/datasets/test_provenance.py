import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets import loading, provenance
from d2_cxr.datasets.builtin import register_prepared
from d2_cxr.datasets.named_sets import named_set


@pytest.fixture
def folder(tmp_path, write_set):
    root = write_set(tmp_path / "own", num_images=6)
    files = {"stratified/train.json": artifacts.read_json(root / "annotations/stratified/train.json")}
    values = artifacts.read_json(root / "dataset.json")
    values |= {"format_version": 2, "annotations_fingerprint": artifacts.sha256_json(files)}
    artifacts.write_json(root / "dataset.json", values)
    register_prepared("own", root)
    return root


def test_a_set_that_is_as_it_was_prepared_is_loaded(folder):
    assert len(loading.load(named_set("own_train"))) == 6
    assert provenance.images_fingerprint(folder) == artifacts.read_json(folder / "dataset.json")["images_fingerprint"]
    provenance.require_same_pixels(loading.prepared_images([named_set("own_train")]), -1)


def test_an_annotation_that_was_added_is_noticed_when_the_set_is_loaded(folder):
    loading.load(named_set("own_train"))
    path = folder / "annotations/stratified/train.json"
    content = artifacts.read_json(path)
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    artifacts.write_json(path, {**content, "annotations": [box]})
    with pytest.raises(ValueError, match=r"own/annotations: the files are not those that the set was prepared with"):
        loading.load(named_set("own_train"))


def test_a_manifest_that_was_changed_has_no_fingerprint(folder):
    text = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text("\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"manifest\.csv does not fit images_fingerprint"):
        provenance.images_fingerprint(folder)


def test_pixels_that_were_changed_are_found_where_all_are_compared(folder):
    images = loading.prepared_images([named_set("own_train")])
    changed = images[3]["file_name"]
    cv2.imwrite(changed, np.zeros((64, 64), np.uint8))
    provenance.require_same_pixels(images, 0)
    provenance.require_same_pixels(images, 1)  # the first alone
    with pytest.raises(ValueError, match=rf"{changed} is not the image that manifest\.csv lists"):
        provenance.require_same_pixels(images, -1)
    with pytest.raises(ValueError, match="is not the image"):
        provenance.require_same_pixels(images, 2)  # the first and the fourth
