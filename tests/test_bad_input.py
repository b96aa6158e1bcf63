"""Bad input on the way: each ends a tool in one line that names the file and the way out, and leaves nothing behind."""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from d2_cxr import artifacts
from d2_cxr.cli import run_tool

ROOT = Path(__file__).resolve().parents[1]
HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
ROWS = [f"image{number},Cardiomegaly,3,R{reader},2,3,20,30" for number in range(6) for reader in (1, 2, 3)]


@pytest.fixture
def refused(load_tool, monkeypatch, capsys):
    """Return a function: tool's name and arguments -> the one line with which it ends, after checking that it does."""

    def call(tool, *argv) -> str:
        module = load_tool(tool)
        monkeypatch.setattr(sys, "argv", [f"tools/{tool}.py"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_tool(lambda: module.main([str(part) for part in argv]))
        lines = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
        assert stop.value.code == 2 and len(lines) == 1 and "Traceback" not in lines[0]
        return lines[0].removeprefix(f"{tool}.py: error: ")

    return call


@pytest.fixture
def archive(tmp_path):
    """Six small images with the boxes of three readers: the folder, the table, and where the set would lie."""
    for number in range(6):
        write_dicom(tmp_path / "images" / f"image{number}.dicom", seed=number)
    (tmp_path / "train.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    return tmp_path / "images", tmp_path / "train.csv", tmp_path / "set"


def write_dicom(path, seed):
    dataset = pydicom.Dataset()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 40, 30, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.random.default_rng(seed).integers(0, 4095, (40, 30), dtype=np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{seed + 1}"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def preparation(archive):
    images, table, output = archive
    always = ["--dicom-dir", images, "--annotations", table, "--output", output, "--name", "own_cxr"]
    return ["prepare_vindr_cxr", *always, "--size", "32", "--jobs", "1"]


def test_files_that_are_not_dicom(refused, archive):
    for path in archive[0].iterdir():
        path.write_text("<html>sign in first</html>")  # what a download without a password leaves
    line = refused(*preparation(archive))
    assert "none of 6 files could be prepared; image0.dicom: neither DICOM nor PNG nor JPEG" in line
    assert not archive[2].exists()


def test_images_that_are_cut_short(refused, archive):
    for path in archive[0].iterdir():
        path.write_bytes(path.read_bytes()[:900])
    line = refused(*preparation(archive))
    assert "image0.dicom" in line and "cut short" in line
    assert not archive[2].exists()


def test_a_table_with_unknown_columns(refused, archive):
    archive[1].write_text(archive[1].read_text().replace("image_id", "bild").replace("x_min", "links"))
    line = refused(*preparation(archive))
    assert "train.csv" in line and "missing image_id" in line
    assert not archive[2].exists()
    line = refused("label_statistics", archive[1], "--json", archive[2] / "labels.json")
    assert "train.csv" in line and "missing image_id" in line
    assert not archive[2].exists()


def test_a_folder_without_the_tables_images(refused, archive):
    for path in list(archive[0].iterdir()):
        path.rename(path.with_name(f"other_{path.name}"))
    line = refused(*preparation(archive))
    assert "no image of" in line and "train.csv" in line and str(archive[0]) in line
    assert not archive[2].exists()


def test_prepared_images_that_are_gone(refused, tmp_path):
    pytest.importorskip("omegaconf", reason="omegaconf is not installed: make setup")
    root = write_set(tmp_path / "set")
    (root / "images/image1.png").unlink()
    arguments = ["--config", ROOT / "configs/pretraining/simclr_R_18_test.yaml", "--output", tmp_path / "run"]
    line = refused("pretrain_simclr", *arguments, f"sets=[[own,{root}]]", "datasets=[own_train_unlabeled]")
    assert "1 prepared image is missing" in line and "image1.png; prepare the set again" in line
    assert not (tmp_path / "run").exists()


def test_a_set_that_is_not_prepared(refused, tmp_path, monkeypatch):
    pytest.importorskip("omegaconf", reason="omegaconf is not installed: make setup")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    arguments = ["--config", ROOT / "configs/pretraining/simclr_R_18_test.yaml", "--output", tmp_path / "run"]
    root = tmp_path / "nowhere"
    line = refused("pretrain_simclr", *arguments, f"sets=[[own,{root}]]", "datasets=[own_train_unlabeled]")
    assert "train.json is missing" in line and "python tools/prepare_vindr_cxr.py --dicom-dir DIR" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "is empty"), (b"PK\x03\x04 cut", "was it cut short?"), (b"<html>", "")],
)
def test_wrong_weights(refused, archive, tmp_path, content, reason):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed: make setup")
    weights, output = tmp_path / "last.pth", tmp_path / "out"
    weights.write_bytes(content)
    calls = [
        ("convert_simclr_to_d2", weights, output / "w.pth"),
        ("predict", archive[0], "--weights", weights, "--output", output),
    ]
    for call in calls:
        line = refused(*call)
        assert str(weights) in line and reason in line
        assert not output.exists()


def test_a_backbone_in_place_of_a_detector_and_the_other_way_round(refused, archive, tmp_path):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed: make setup")
    import torch

    weights, output = tmp_path / "w.pth", tmp_path / "out"
    torch.save({"model": {"backbone.bottom_up.stem.conv1.weight": torch.zeros(1)}, "card": {"depth": 18}}, weights)
    line = refused("predict", archive[0], "--weights", weights, "--output", output)
    assert "holds a backbone, not a detector; give a run's model_final.pth" in line
    line = refused("convert_simclr_to_d2", weights, output / "w.pth")
    assert str(weights) in line and "already has Detectron2's names; use it directly as MODEL.WEIGHTS" in line
    assert not output.exists()


def write_set(root):
    """Write a prepared set (docs/formats.md, 1) of three images."""
    import cv2

    images, rows = [], []
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 255, (32, 32)).astype(np.uint8)
        path = root / "images" / f"image{number}.png"
        artifacts.write_bytes(path, cv2.imencode(".png", image)[1].tobytes())
        images.append({"id": number + 1, "file_name": path.name, "width": 32, "height": 32})
        hashes = {"source_sha256": artifacts.sha256_file(path), "image_sha256": artifacts.sha256_bytes(image.tobytes())}
        rows.append({"image_name": path.stem, "outcome": "prepared", **hashes})
    artifacts.write_csv(root / "manifest.csv", rows, list(rows[0]))
    coco = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "Mass"}]}
    artifacts.write_text(root / "annotations/stratified/train.json", json.dumps(coco))
    artifacts.write_json(root / "dataset.json", {"format_version": 2, "name": "own", "class_names": ["Mass"]})
    return root
