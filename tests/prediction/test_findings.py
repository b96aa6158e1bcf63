import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.dicom.image_files import decode_image
from d2_cxr.dicom.preprocess import prepare_image
from d2_cxr.evaluation.thresholds import check_thresholds
from d2_cxr.prediction import findings
from d2_cxr.prediction.findings import Findings, limits_of


@pytest.fixture
def image(tmp_path):
    """Three findings on an image of 200 x 100 pixels, the last below its threshold."""
    image = np.random.default_rng(0).integers(0, 255, (100, 200)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    return Findings(
        file=str(tmp_path / "a.png"),
        image_name="a",
        width=200,
        height=100,
        pixel_spacing_mm=(0.14, 0.15),
        spacing_tag="ImagerPixelSpacing",
        class_names=("Disc", "Square", "Disc"),
        class_ids=np.array([0, 1, 0]),
        scores=np.array([0.9, 0.5, 0.1]),
        boxes_xyxy=np.array([[10.0, 20.0, 60.0, 70.0], [100.0, 10.0, 180.0, 90.0], [0.0, 0.0, 5.0, 5.0]]),
        is_reported=np.array([True, True, False]),
        lowest_threshold=0.29,
    )


def empty(image):
    nothing = {"class_names": (), "class_ids": np.zeros(0, int), "scores": np.zeros(0)}
    nothing |= {"boxes_xyxy": np.zeros((0, 4)), "is_reported": np.zeros(0, bool)}
    return Findings(**{**image.__dict__, **nothing, "pixel_spacing_mm": None})


def test_json_has_one_entry_an_image(image, tmp_path):
    findings.write_json(tmp_path / "findings.json", [image, empty(image)])
    first, second = json.loads((tmp_path / "findings.json").read_text())
    assert first["image_score"] == 0.9 and first["pixel_spacing_mm"] == [0.14, 0.15]
    assert first["findings"][1] == {
        "class": "Square",
        "score": 0.5,
        "box_xyxy": [100.0, 10.0, 180.0, 90.0],
        "reported": True,
    }
    assert second["findings"] == [] and second["image_score"] == 0.0 and second["pixel_spacing_mm"] is None


def test_csv_has_a_row_a_finding_and_one_for_an_image_without(image, tmp_path):
    findings.write_csv(tmp_path / "findings.csv", [image, empty(image)])
    rows = artifacts.read_csv(tmp_path / "findings.csv")
    assert [row["class"] for row in rows] == ["Disc", "Square", "Disc", ""]
    assert (rows[0]["x_min"], rows[0]["y_max"], rows[2]["reported"]) == ("10.0", "70.0", "False")


def test_reported_findings_are_those_above_their_threshold(image):
    assert image.reported.class_names == ("Disc", "Square") and len(image) == 3
    assert image.reported.boxes_xyxy.tolist() == [[10, 20, 60, 70], [100, 10, 180, 90]]
    assert str(image) == "Disc 0.90 at 10, 20, 60, 70; Square 0.50 at 100, 10, 180, 90"


def test_an_image_without_reported_findings_says_above_which_score(image):
    assert str(empty(image)) == "nothing above 0.29"
    low = Findings(**{**image.__dict__, "is_reported": np.zeros(3, bool)})
    assert str(low) == "nothing above 0.29" and len(low.reported) == 0
    assert str(Findings(**{**empty(image).__dict__, "lowest_threshold": None})) == "nothing"


def test_limits_are_of_each_class_and_null_reports_nothing():
    document = {"thresholds": {"Disc": 0.5, "Square": None}}
    assert limits_of(("Disc", "Square"), document).tolist() == [0.5, np.inf]
    assert limits_of(("Disc", "Square"), None).tolist() == [0.3, 0.3]


@pytest.mark.parametrize(
    "document, reason",
    [
        ([0.5], "is not a thresholds.json"),
        ({"thresholds": [0.5]}, "is not a thresholds.json"),
        ({"thresholds": {"Disc": 0.5}}, "no threshold for Square"),
        ({"thresholds": {"Disc": "0.5", "Square": None}}, "threshold of Disc is '0.5'"),
        ({"thresholds": {"Disc": 0.5, "Square": float("nan")}}, "threshold of Square is nan"),
        ({"thresholds": {"Disc": 50, "Square": None}}, "threshold of Disc is 50; give a score from 0 to 1"),
        ({"thresholds": {"Disc": True, "Square": None}}, "threshold of Disc is True"),
    ],
)
def test_malformed_thresholds_are_refused_in_one_line(document, reason):
    with pytest.raises(ValueError, match=f"t.json.*{reason}"):
        check_thresholds(document, ("Disc", "Square"), "t.json")


def overlay(image):
    stored = decode_image(Path(image.file).read_bytes(), findings.SHOWN.size)
    return findings.draw(image, prepare_image(stored, findings.SHOWN)[0])


def test_the_overlay_has_the_image_s_shape_and_the_reported_boxes(image):
    drawn = overlay(image)
    assert drawn.shape == (512, 1024, 3)  # 200 x 100 enlarged
    changed = (drawn != overlay(empty(image))).any(axis=2)
    assert changed[110:350, 51].mean() > 0.9  # left edge of the first box, 10 * 5.12
    assert not changed[:20, :20].any()  # the last one is not reported


def test_a_tall_image_is_shown_tall(image, tmp_path):
    cv2.imwrite(str(tmp_path / "tall.png"), np.random.default_rng(1).integers(0, 255, (3000, 1500)).astype(np.uint8))
    tall = Findings(**{**empty(image).__dict__, "file": str(tmp_path / "tall.png"), "width": 1500, "height": 3000})
    assert overlay(tall).shape == (1024, 512, 3)
