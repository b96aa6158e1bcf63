"""The real label files of RSNA and NIH, which need nothing but a layout and a card."""

import pytest

from d2_cxr.labels import nih_bbox
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.statistics import label_statistics


@pytest.fixture(scope="module")
def label_files(vinbigdata_csv):
    return vinbigdata_csv.parent


def test_rsna(label_files):
    read = read_annotations(label_files / "kaggle_stage_2_train_labels.csv.zip")
    assert (read.format_name, read.consensus) == ("rsna", True)
    assert (len(read.image_names), len(read.negative_ids), len(read.boxes)) == (26684, 20672, 9555)
    assert not any(read.problems.values())


def test_nih_with_its_patients(label_files):
    read = read_annotations(
        label_files / "BBox_List_2017.csv.gz", patients_csv=label_files / "Data_Entry_2017_v2020.csv.gz"
    )
    assert (read.format_name, read.class_names) == ("nih", nih_bbox.CLASS_NAMES)
    assert (len(read.image_names), len(read.boxes)) == (880, 984)
    found = label_statistics(read, "stratified")
    assert found["images"]["patients"] == 726
    assert {name: entry["fused_boxes"] for name, entry in found["classes"].items()} == {
        "Atelectasis": 180,
        "Cardiomegaly": 146,
        "Effusion": 153,
        "Infiltrate": 123,
        "Mass": 85,
        "Nodule": 79,
        "Pneumonia": 120,
        "Pneumothorax": 98,
    }
