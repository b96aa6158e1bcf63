"""audit/data_quality_page.py: what the page shows, and how large it is."""

import cv2
import numpy as np
import pytest

from d2_cxr.audit import data_quality_page
from d2_cxr.datasets import manifest
from d2_cxr.dicom.image_files import preview

COUNTS = {"prepared": 70, "fused_boxes": 140, "unlabeled": 0}
COUNTS |= {f"stratified_{part}": number for part, number in (("train", 60), ("val", 0), ("test", 10))}
COUNTS |= {f"stratified_{part}_boxes": 0 for part in ("train", "val", "test")}
COUNTS |= {f"stratified_negative_{part}": 0 for part in ("train", "val", "test")}
DESCRIPTION = {
    "name": "clinic",
    "counts": COUNTS,
    "notes": [],
    "annotation_problems": {},
    "class_names": ["Mass", "<b>Nodule</b>"],
    "preprocess": {"size": 256, "resize": "squash", "equalize": "none", "window": "file"},
    "fusion": {"rule": "mean"},
}


@pytest.fixture
def page(tmp_path):
    """The page of 70 images of noise, the worst there is for a JPEG, with two boxes each, and one missing image."""
    (tmp_path / "images").mkdir()
    images, boxes, rows = [], [], []
    for number in range(1, 71):
        pixels = np.random.default_rng(number).integers(0, 256, (256, 256), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"images/i{number}.png"), pixels)
        images.append({"id": number, "file_name": f"i{number}.png", "width": 256, "height": 256, "patient": None})
        for category in (1, 2):
            boxes.append({"image_id": number, "category_id": category, "bbox": [9, 9, 64, 64], "area": 4096})
        rows.append({"image_name": f"i{number}", "outcome": "prepared", "reason": "odd", "file": f"i{number}.dcm"})
    rows.append({"image_name": "gone", "outcome": "missing", "reason": "", "file": ""})
    categories = [{"id": 1, "name": "Mass"}, {"id": 2, "name": "<b>Nodule</b>"}]
    files = {"stratified/train.json": {"images": images, "annotations": boxes, "categories": categories}}
    rows = [dict.fromkeys(manifest.COLUMNS, "") | row for row in rows]
    data_quality_page.write(tmp_path, DESCRIPTION, rows, {}, files=files)
    return (tmp_path / "data_quality.html").read_text()


def test_a_page_with_pictures_stays_below_two_megabytes(page):
    assert page.count("<image ") == 24 and page.count("<img ") == 40
    assert len(page) < 2_000_000


def test_boxes_are_drawn_over_the_images_with_their_class(page):
    assert page.count("<title>Mass</title>") == page.count("<rect ") / 2 > 0
    assert "&lt;b&gt;Nodule" in page and "<b>Nodule" not in page


def test_names_and_lights_come_first_and_missing_images_are_folded(page):
    assert page.index("Labels (red)") < page.index("clinic_train") < page.index("<svg")
    assert "<summary>Labels without images (1)</summary>" in page


@pytest.mark.parametrize("background", [(30, 30, 200), (40, 40, 40)])
def test_the_preview_of_a_colored_picture_is_not_black(background):
    pixels = np.full((400, 400, 3), background, np.uint8)
    assert preview(cv2.imencode(".png", pixels)[1].tobytes()).mean() > 100


def test_one_bright_label_does_not_make_a_preview_black():
    pixels = np.random.default_rng(0).integers(0, 60, (400, 400, 3), dtype=np.uint8)
    pixels[:16, :16] = 255
    assert preview(cv2.imencode(".png", pixels)[1].tobytes()).mean() > 90
