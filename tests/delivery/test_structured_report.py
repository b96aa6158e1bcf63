import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.boxes import BoxMap
from d2_cxr.delivery.source import ScoredBox, read_source, to_bytes
from d2_cxr.delivery.structured_report import structured_report
from d2_cxr.dicom.image_files import read_image
from d2_cxr.dicom.preprocess import Preprocess, prepare_image

GROUP = ("125007", "DCM")


def name(item):
    code = item.ConceptNameCodeSequence[0]
    return code.CodeValue, code.CodingSchemeDesignator


def groups(report):
    measurements = next(item for item in report.ContentSequence if name(item) == ("126010", "DCM"))
    return [item for item in measurements.ContentSequence if name(item) == GROUP]


def child(group, value, scheme="DCM"):
    found = [item for item in group.ContentSequence if name(item) == (value, scheme)]
    assert len(found) == 1, (value, found)
    return found[0]


def texts(item):
    found = [item.TextValue] if item.get("ValueType") == "TEXT" else []
    return found + [text for one in item.get("ContentSequence", []) for text in texts(one)]


@pytest.fixture
def report(make_source, boxes, thresholds, algorithm):
    return structured_report(make_source(), boxes, thresholds, algorithm)


def test_identity_comes_from_the_source_and_nothing_is_invented(report):
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
    assert (report.PatientName, report.PatientID, report.StudyDate) == ("Doe^Jane", "P-7", "20240506")
    assert (report.StudyInstanceUID, report.AccessionNumber) == ("2.25.13", "A-9")
    assert report.SeriesInstanceUID not in ("2.25.12", "") and report.Modality == "SR"
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.SeriesInstanceUID == "2.25.12"
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.11"


def test_what_the_source_lacks_stays_empty(make_source, boxes, thresholds, algorithm):
    source = make_source(PatientName=None, PatientID=None, PatientBirthDate=None, PatientSex=None, StudyDate=None)
    report = structured_report(source, boxes, thresholds, algorithm)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate"):
        assert not report[keyword].value


def test_a_finding_is_a_closed_region_and_the_same_one_inside_its_score(report):
    group = groups(report)[0]
    points = [40, 20, 60, 20, 60, 30, 40, 30, 40, 20]
    region = child(group, "111030")
    assert (region.GraphicType, list(region.GraphicData)) == ("POLYLINE", points)
    assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.11"
    measurements = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    assert name(measurements[0]) == ("score", "99D2CXR")
    value = measurements[0].MeasuredValueSequence[0]
    assert value.NumericValue == 0.912346
    assert value.MeasurementUnitsCodeSequence[0].CodeValue == "{0:1}"  # viewers print it: "0.91 1" reads as 0.911
    inside = measurements[0].ContentSequence[0]
    assert (inside.ValueType, list(inside.GraphicData)) == ("SCOORD", points)
    assert inside.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.11"


def test_a_finding_has_its_class_its_purpose_and_a_tracking_uid_of_its_own(report):
    first, second = groups(report)
    code = child(first, "121071").ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("8186001", "SCT", "Cardiomegaly")
    assert child(first, "130400").ConceptCodeSequence[0].CodeValue == "75958009"
    assert child(first, "112039").TextValue == "Cardiomegaly 1"
    assert child(first, "112040").UID != child(second, "112040").UID


def test_algorithm_weights_and_threshold_are_named(report):
    group = groups(report)[1]
    assert child(group, "111001").TextValue == "d2_cxr"
    assert child(group, "111003").TextValue == f"0.1.0, weights sha256 {'ab' * 32}"
    assert child(group, "111002").TextValue == "threshold Pneumothorax: 0.45"
    assert "Research only, not for diagnosis." in texts(report)


def test_an_image_without_findings_gets_a_report_that_says_so(make_source, thresholds, algorithm):
    report = structured_report(make_source(), [], thresholds, algorithm)
    (group,) = groups(report)
    assert child(group, "outcome", "99D2CXR").ConceptCodeSequence[0].CodeMeaning == (
        "No finding at or above its threshold"
    )
    assert [text for text in texts(group) if text.startswith("threshold")] == [
        "threshold Cardiomegaly: 0.3",
        "threshold Nodule/Mass: not reported",
        "threshold Pneumothorax: 0.45",
    ]
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    assert images[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.11"


def test_assumed_uids_are_said_inside(make_dicom, boxes, thresholds, algorithm):
    source = read_source(make_dicom(np.zeros((80, 100))), assume_uids=True)
    report = structured_report(source, boxes, thresholds, algorithm)
    assert any("derived from its sha256" in text for text in texts(report))


@pytest.mark.parametrize(
    "spacing, expected, where",
    [
        ({"PixelSpacing": [0.5, 0.2]}, [4.0, 5.0], None),  # 20 columns of 0.2 mm, 10 rows of 0.5 mm
        ({"PixelSpacing": [0.5, 0.2], "ImagerPixelSpacing": [0.6, 0.3]}, [4.0, 5.0], None),
        ({"PixelSpacing": [0.5, 0.2], "ImagerPixelSpacing": [0.5, 0.2]}, [4.0, 5.0], "At the detector"),
        ({"ImagerPixelSpacing": [0.5, 0.2]}, [4.0, 5.0], "At the detector"),
        ({"NominalScannedPixelSpacing": [0.5, 0.2]}, [4.0, 5.0], "On the scanned film"),
        ({}, [], None),
        ({"PixelSpacing": [0, 0]}, [], None),
    ],
)
def test_millimeters_only_where_there_is_a_spacing_and_where_they_were_measured(
    make_source, boxes, thresholds, algorithm, spacing, expected, where
):
    report = structured_report(make_source(**spacing), boxes, thresholds, algorithm)
    sides = [item for item in groups(report)[0].ContentSequence if item.ValueType == "NUM"][1:]
    assert [float(item.MeasuredValueSequence[0].NumericValue) for item in sides] == expected
    methods = [one.ConceptCodeSequence[0].CodeMeaning for item in sides for one in item.get("ContentSequence", [])]
    assert methods == ([f"{where}, magnified against the patient"] * 2 if where else [])


def test_the_corners_enclose_the_centers_of_just_the_pixels_that_were_drawn(make_source, thresholds, algorithm):
    """The convention: (0, 0) is the outer corner of the first pixel, and its center is (0.5, 0.5)."""
    pixels = np.zeros((80, 100))
    pixels[20:30, 40:60] = 4095
    report = structured_report(
        make_source(pixels), [ScoredBox("Mass", 0.9, (40, 20, 60, 30))], {"Mass": 0.3}, algorithm
    )
    data = np.array(child(groups(report)[0], "111030").GraphicData).reshape(-1, 2)
    (x0, y0), (x1, y1) = data.min(axis=0), data.max(axis=0)
    rows, columns = np.mgrid[:80, :100] + 0.5
    inside = (x0 < columns) & (columns < x1) & (y0 < rows) & (rows < y1)
    assert np.array_equal(inside, pixels > 0)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("windows", [{}, {"WindowCenter": [2048, 900], "WindowWidth": [4096, 300]}])
@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("shape", [(400, 300), (200, 400)])
def test_a_mark_found_in_the_networks_image_comes_back_on_the_same_pixels(
    make_source, algorithm, photometric, windows, resize, shape
):
    pixels = np.full(shape, 600)
    pixels[100:140, 200:280] = 3600  # bright, where high values are
    pixels = 4095 - pixels if photometric == "MONOCHROME1" else pixels
    source = make_source(pixels, PhotometricInterpretation=photometric, **windows)
    rules = Preprocess(size=256, resize=resize, equalize="none")
    image, to_image = prepare_image(read_image(source.path), rules)
    ys, xs = np.nonzero(image > 128)
    seen = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]  # as a detector would give it
    assert isinstance(to_image, BoxMap)
    box = ScoredBox("Mass", 0.9, tuple(to_image.inverse(seen)[0]))
    report = structured_report(source, [box], {"Mass": 0.3}, algorithm)
    data = np.array(child(groups(report)[0], "111030").GraphicData).reshape(-1, 2)
    a_pixel = max(shape) / 256
    assert np.allclose([*data.min(axis=0), *data.max(axis=0)], [200, 100, 280, 140], atol=a_pixel)


def test_names_of_any_script_survive(make_source, thresholds, algorithm, tmp_path):
    source = make_source(SpecificCharacterSet="ISO_IR 100", PatientName="Bück^Jérôme")
    report = structured_report(source, [ScoredBox("結節", 0.9, (1, 2, 3, 4))], {"結節": 0.3}, algorithm)
    (tmp_path / "report.dcm").write_bytes(to_bytes(report))
    read = pydicom.dcmread(tmp_path / "report.dcm")
    assert read.PatientName == "Bück^Jérôme" and read.SpecificCharacterSet == "ISO_IR 192"
    assert child(groups(read)[0], "121071").ConceptCodeSequence[0].CodeMeaning == "結節"
