"""Phantom sets on disk: the files, going on after a stop, growing, and refusing to mix."""

import csv
import json

import cv2
import numpy as np
import pydicom
import pytest
from d2_cxr.projects.phantom_cxr import make_phantoms, render_image
from d2_cxr.projects.phantom_cxr.image import image_name

from d2_cxr.labels.vindr_cxr import CLASS_NAMES
from tools.make_phantom import main

SMALL = {"size": 96, "jobs": 1, "progress": False}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    counts = make_phantoms(folder, 12, **SMALL)
    return folder, counts


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_holds_images_boxes_patients_and_truth(phantoms):
    folder, counts = phantoms
    images = sorted(path.stem for path in (folder / "dicom").iterdir())
    assert len(images) == 12 and all(len(name) == 32 for name in images)
    assert counts["images"] == counts["rendered"] == 12
    truth = json.loads((folder / "truth.json").read_text())
    assert sorted(one["image_name"] for one in truth["images"]) == images
    assert sorted(row["image_id"] for row in rows_of(folder / "patients.csv")) == images


def test_the_csv_has_the_layout_of_kaggle(phantoms):
    folder, _ = phantoms
    text = (folder / "train.csv").read_text()
    assert text.splitlines()[0] == "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    truth = {one["image_name"]: one for one in json.loads((folder / "truth.json").read_text())["images"]}
    rows = rows_of(folder / "train.csv")
    for row in rows:
        image = truth[row["image_id"]]
        if row["class_name"] == "No finding":
            assert row["class_id"] == "14" and row["x_min"] == "" and not image["findings"]
        else:
            assert CLASS_NAMES[int(row["class_id"])] == row["class_name"] and image["findings"]
            assert 0 <= float(row["x_min"]) < float(row["x_max"]) <= image["width"]
            assert 0 <= float(row["y_min"]) < float(row["y_max"]) <= image["height"]
    for name in truth:
        assert len({row["rad_id"] for row in rows if row["image_id"] == name}) == 3
    ids = [row["image_id"] for row in rows]
    assert len({i for i in range(1, len(ids)) if ids[i] != ids[i - 1]}) > len(truth)  # shuffled, as the real file is


def test_the_truth_is_the_renderers(phantoms):
    folder, _ = phantoms
    image = next(
        one
        for one in json.loads((folder / "truth.json").read_text())["images"]
        if one["image_name"] == image_name(0, 3)
    )
    again = render_image(0, 3, 96)
    assert [(one["class_name"], tuple(one["box_xyxy"])) for one in image["findings"]] == again.findings
    dataset = pydicom.dcmread(folder / "dicom" / f"{image_name(0, 3)}.dicom")
    assert (dataset.Rows, dataset.Columns) == again.pixels.shape == (image["height"], image["width"])


def test_two_processes_write_the_same_bytes_as_one(phantoms, tmp_path):
    folder, _ = phantoms
    make_phantoms(tmp_path, 12, size=96, jobs=2, progress=False)
    assert contents(tmp_path) == contents(folder)


def test_a_second_call_renders_nothing_and_a_lost_image_comes_back_the_same(phantoms):
    folder, _ = phantoms
    before = contents(folder)
    assert make_phantoms(folder, 12, **SMALL)["rendered"] == 0
    (folder / "dicom" / f"{image_name(0, 4)}.dicom").unlink()  # as after a kill between record and image
    assert make_phantoms(folder, 12, **SMALL)["rendered"] == 1
    assert contents(folder) == before


def test_a_set_grows_without_changing_its_images(tmp_path):
    make_phantoms(tmp_path, 2, **SMALL)
    before = contents(tmp_path)
    assert make_phantoms(tmp_path, 4, **SMALL)["rendered"] == 2
    after = contents(tmp_path)
    assert all(after[path] == data for path, data in before.items() if path.parts[0] in {"dicom", "records"})
    assert len(rows_of(tmp_path / "patients.csv")) == 4


@pytest.mark.parametrize("changed", [{"size": 128}, {"seed": 1}, {"finding_share": 0.5}, {"readers": 2}])
def test_a_set_made_with_other_parameters_is_not_continued(phantoms, changed):
    folder, _ = phantoms
    before = contents(folder)
    ((key, value),) = changed.items()
    with pytest.raises(ValueError, match=f"was made with {key} .*, not {value}"):
        make_phantoms(folder, 12, **{**SMALL, **changed})
    assert contents(folder) == before


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--num-images", "0"], "at least one image, got 0"),
        (["--num-images", "2", "--size", "20"], "size 20 is too small"),
        (["--num-images", "2", "--finding-share", "2"], "between 0 and 1"),
        (["--num-images", "2", "--readers", "0"], "1 to 17 readers"),
        (["--num-images", "2", "--seed", "-1"], "must not be negative: -1"),
    ],
)
def test_the_tool_refuses_wrong_numbers_and_writes_nothing(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        main(["--output", str(tmp_path / "set"), *wrong])
    assert not list(tmp_path.iterdir())


def test_the_tool_makes_a_set_and_a_contact_sheet(tmp_path):
    options = ["--num-images", "2", "--size", "96", "--jobs", "1", "--contact-sheet", str(tmp_path / "sheet.png")]
    assert main(["--output", str(tmp_path / "set"), *options]) == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[2] == 3 and np.std(sheet) > 20
    assert len(list((tmp_path / "set/dicom").iterdir())) == 2
