"""Real open images come out as a radiologist would see them; D2_CXR_IMAGES names their folder (docs/real_data.md)."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from d2_cxr.projects.phantom_cxr.dicom_writer import wrap

from d2_cxr import artifacts
from d2_cxr.dicom import reading
from d2_cxr.dicom.image_files import read_image
from d2_cxr.dicom.preprocess import Preprocess, prepare_image
from d2_cxr.dicom.stored_image import to_display
from d2_cxr.labels.formats.write import write
from d2_cxr.preparation.export_boxes import export_of_labels
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.prepare import prepare

if not os.environ.get("D2_CXR_IMAGES"):
    pytest.skip("real open images are missing: set D2_CXR_IMAGES to their folder", allow_module_level=True)
IMAGES = Path(os.environ["D2_CXR_IMAGES"])


@pytest.mark.parametrize("name", ["RG1_J2KR.dcm", "RG1_J2KI.dcm", "nih_gcp_dx_110503645592.dcm"])
def test_bone_is_brighter_than_lung(name):
    gray = to_display(reading.read(IMAGES / "dicom" / name, min_size=256))
    height, width = gray.shape
    rows = slice(height // 3, height // 2)
    spine = gray[rows, int(0.45 * width) : int(0.55 * width)].mean()
    assert spine > gray[rows, int(0.2 * width) : int(0.3 * width)].mean() + 0.1


@pytest.mark.parametrize("name", ["RG1_J2KR.dcm", "RG1_J2KI.dcm"])
@pytest.mark.parametrize("size", [512, 256])
def test_a_reduced_decode_is_within_half_a_gray_level(name, size):
    path = IMAGES / "dicom" / name
    full, _ = prepare_image(reading.read(path), Preprocess(size))
    reduced = reading.read(path, min_size=size)
    small, _ = prepare_image(reduced, Preprocess(size))
    assert reduced.pixels.shape[0] < reduced.source_height
    assert np.abs(full.astype(int) - small).mean() <= 0.5


@pytest.mark.parametrize("syntax", ["explicit", "jpeg2000", "jpeg_lossless"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_an_image_wrapped_as_dicom_comes_out_like_its_png(tmp_path, syntax, photometric):
    source = sorted((IMAGES / "images").glob("nih_*.png"))[0]
    gray = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE).astype(np.float64) / 255
    stored = np.rint(200 + (1 - gray if photometric == "MONOCHROME1" else gray) * 3600).astype(np.uint16)
    windows = [(2000.5, 3601)]  # 200 is black, 3800 white
    wrap(tmp_path / "image.dicom", stored, syntax, photometric, bits_stored=12, windows=windows)
    plain, _ = prepare_image(read_image(source), Preprocess(512))
    wrapped, _ = prepare_image(read_image(tmp_path / "image.dicom"), Preprocess(512))
    assert np.abs(plain.astype(int) - wrapped).mean() < 0.3


@pytest.mark.slow
def test_labels_in_five_formats_give_one_set(tmp_path):
    """The readers' boxes of all images with boxes, through COCO, YOLO, VOC, CVAT and Label Studio and back."""
    table = IMAGES / "annotations_opacity.csv"
    export = export_of_labels(table, IMAGES / "images", class_names="from-csv")
    sources: dict[str, Path] = {"csv": table}
    for name in ("coco", "yolo", "voc", "cvat", "label_studio"):
        write(export, name, tmp_path / f"to_{name}")
        sources[name] = tmp_path / f"to_{name}"
    found = {}
    for name, source in sources.items():
        options = {"annotations": source, "name": name, "classes": "from-csv", "patients": IMAGES / "images.csv"}
        options |= {
            "preprocess": Preprocess(512),
            "progress": False,
        }  # half of 1024: no corner lies between roundings
        prepare(PrepareOptions(IMAGES / "images", tmp_path / name, **options))
        values = artifacts.read_json(tmp_path / name / "dataset.json")
        found[name] = [values[key] for key in ("images_fingerprint", "annotations_fingerprint", "class_names")]
    assert found == dict.fromkeys(sources, found["csv"])
