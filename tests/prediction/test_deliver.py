import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr import artifacts
from d2_cxr.delivery.read_back import read_reports
from d2_cxr.delivery.source import read_source
from d2_cxr.prediction.deliver import answer_with_report
from d2_cxr.prediction.predictor import Predictor

UIDS = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": "2.25.11"}
UIDS |= {"SeriesInstanceUID": "2.25.12", "StudyInstanceUID": "2.25.13"}


@pytest.fixture
def images(make_dicom, tmp_path):
    """A radiograph with an identity, one of the same name without, and a picture."""
    pixels = np.random.default_rng(3).integers(0, 4096, (128, 256))
    make_dicom(pixels, name="in/image.dcm", **UIDS)
    make_dicom(pixels, name="in/deeper/image.dicom")
    return tmp_path / "in"


@pytest.fixture
def predict(finished, load_tool, tmp_path):
    """Return a function: arguments of tools/predict.py -> exit code; everything that the detector gives is reported."""
    limits = {"thresholds": {"Disc": 0.0, "Square": 0.0}}
    artifacts.write_json(tmp_path / "limits.json", limits)
    weights = str(finished[2] / "model_final.pth")
    common = ["--weights", weights, "--thresholds", str(tmp_path / "limits.json"), "--no-overlays", "--device", "cpu"]
    return lambda *arguments: load_tool("predict").main([*map(str, arguments), *common])


def test_predict_writes_what_it_reports_as_dicom_objects(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--output", out, "--sr", "--gsps", "--key-image") == 1
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.dcm"))
    assert written == ["gsps/image.dcm", "key_image/image.dcm", "sr/image.dcm"]  # the other is deeper/image
    (failed,) = artifacts.read_csv(out / "not_delivered.csv")
    assert failed["file"].endswith("deeper/image.dicom") and "--assume-uids" in failed["reason"]
    rows, _ = read_reports(out / "sr")
    entries = {entry["file"]: entry for entry in artifacts.read_json(out / "findings.json")}
    found = entries[str(images / "image.dcm")]["findings"]
    assert [row["class_name"] for row in rows] == [one["class"] for one in found] and len(found) > 0
    corners = np.array([[row[key] for key in ("x_min", "y_min", "x_max", "y_max")] for row in rows])
    assert np.abs(corners - [one["box_xyxy"] for one in found]).max() <= 0.01


def test_the_report_names_the_weights_and_the_thresholds(predict, finished, images, tmp_path):
    predict(images / "image.dcm", "--output", tmp_path / "out", "--sr")
    path = tmp_path / "out/sr/image.dcm"
    assert pydicom.dcmread(path).DeviceSerialNumber == artifacts.sha256_file(finished[2] / "model_final.pth")
    assert any(f"threshold {name}: 0".encode() in path.read_bytes() for name in ("Disc", "Square"))


def test_uids_may_be_assumed(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images / "deeper", "--output", out, "--sr", "--assume-uids") == 0
    uid = read_source(out / "images/image.dcm").dataset.SOPInstanceUID
    assert {row["sop_instance_uid"] for row in read_reports(out / "sr")[0]} == {uid}
    assert not (out / "not_delivered.csv").exists()


def test_the_node_answers_with_the_report_that_predict_writes(predict, finished, images, tmp_path):
    predict(images / "image.dcm", "--output", tmp_path / "out", "--sr")
    limits = artifacts.read_json(tmp_path / "limits.json")
    answer = answer_with_report(Predictor(finished[2] / "model_final.pth", "cpu", limits))
    artifacts.write_bytes(tmp_path / "answer/image.dcm", answer(images / "image.dcm"))
    assert read_reports(tmp_path / "answer")[0] == read_reports(tmp_path / "out/sr")[0]
    with pytest.raises(ValueError, match=r"image\.dicom lacks SOP Class UID"):
        answer(images / "deeper" / "image.dicom")


def test_a_wrong_destination_is_named_before_the_weights_are_loaded(load_tool):
    with pytest.raises(ValueError, match="--send-to here:104 is not TITLE@HOST:PORT"):
        load_tool("serve_dicom").main(["--weights", "absent.pth", "--folder", "node", "--send-to", "here:104"])
