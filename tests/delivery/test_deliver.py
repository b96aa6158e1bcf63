import importlib.util
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.delivery.deliver import KINDS, deliver_image
from d2_cxr.delivery.source import IDENTITY, DeliveryError, ScoredBox, read_source

PLANTED = {  # elements that no report needs
    "InstitutionName": "PLANTED Hospital",
    "InstitutionAddress": "PLANTED Street 1",
    "StationName": "PLANTED",
    "Manufacturer": "PLANTED Works",
    "DeviceSerialNumber": "PLANTED-1",
    "OperatorsName": "PLANTED^Olga",
    "PerformingPhysicianName": "PLANTED^Paul",
    "PatientAddress": "PLANTED Lane",
    "PatientTelephoneNumbers": "PLANTED 555",
    "PatientComments": "PLANTED comment",
    "PatientMotherBirthName": "PLANTED^Maria",
    "OtherPatientIDs": "PLANTED-2",
    "PatientAge": "061Y",
    "StudyDescription": "PLANTED study",
    "SeriesDescription": "PLANTED series",
    "ProtocolName": "PLANTED protocol",
    "ImageComments": "PLANTED image",
    "RequestingPhysician": "PLANTED^Rita",
    "WindowCenter": [2000, 1000],
    "WindowWidth": [4000, 100],
    "WindowCenterWidthExplanation": ["PLANTED", "PLANTED"],
}


def deliver(source, boxes, thresholds, algorithm, tmp_path, **options):
    options = {"kinds": KINDS, **options}
    return deliver_image(source.path, boxes, thresholds, algorithm, tmp_path / "out", "name", **options)


def test_a_folder_a_kind(make_source, boxes, thresholds, algorithm, tmp_path):
    paths = deliver(make_source(), boxes, thresholds, algorithm, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [f"out/{kind}/name.dcm" for kind in KINDS]
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in paths}
    series = {pydicom.dcmread(path).SeriesInstanceUID for path in paths}
    assert len(uids) == len(series) == 3


def test_nothing_of_the_header_travels_but_the_identity_that_archives_file_by(
    make_source, boxes, thresholds, algorithm, tmp_path
):
    source = make_source(**PLANTED, IssuerOfPatientID="Ward 3")
    dataset = pydicom.dcmread(source.path)
    dataset.private_block(0x0011, "PLANTED", create=True).add_new(1, "LO", "PLANTED private")
    dataset.save_as(source.path)
    assert b"PLANTED" in source.path.read_bytes()
    for path in deliver(source, boxes, thresholds, algorithm, tmp_path):
        assert b"PLANTED" not in path.read_bytes(), path
        written = pydicom.dcmread(path)
        for keyword in IDENTITY:
            assert written[keyword].value == dataset[keyword].value, (path, keyword)
        from_source = {element.keyword for element in written if element.tag.group == 0x0010}
        assert from_source == {keyword for keyword in IDENTITY if "Patient" in keyword}


def test_nothing_is_written_where_one_of_the_objects_cannot_be(make_source, thresholds, algorithm, tmp_path):
    outside = [ScoredBox("Mass", 0.9, (0, 0, 500, 5))]
    with pytest.raises(DeliveryError, match="is not a box within"):
        deliver(make_source(), outside, {"Mass": 0.3}, algorithm, tmp_path)
    flat = make_source(np.full((80, 100), 7))
    with pytest.raises(DeliveryError, match=r"image\.dcm: every pixel has the value 7"):
        deliver(flat, [], thresholds, algorithm, tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_image_without_uids_comes_with_a_copy_that_has_them(make_dicom, boxes, thresholds, algorithm, tmp_path):
    bare = read_source(make_dicom(np.arange(8000).reshape(80, 100) % 4096), assume_uids=True)
    report, image = deliver(bare, boxes, thresholds, algorithm, tmp_path, kinds=("sr",), assume_uids=True)
    evidence = pydicom.dcmread(report).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert image == tmp_path / "out/images/name.dcm"
    assert pydicom.dcmread(image).SOPInstanceUID == evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID


def packaged_files() -> list[Path]:
    """Every DICOM file that pydicom and pydicom-data bring: all transfer syntaxes, many odd headers."""
    folders = [Path(pydicom.__file__).parent / "data"]
    extra = importlib.util.find_spec("data_store")
    folders += [Path(folder) for folder in extra.submodule_search_locations] if extra else []
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if path.suffix not in (".py", ".pyc")]


@pytest.mark.filterwarnings("ignore")
def test_every_file_that_pydicom_packages_is_delivered_for_or_refused_in_one_line(algorithm, tmp_path):
    delivered, refused = [], 0
    for path in packaged_files():
        try:
            source = read_source(path)
            box = ScoredBox("Mass", 0.5, (0.25 * source.width, 0, 0.5 * source.width, source.height))
            deliver_image(path, [box], {"Mass": 0.3}, algorithm, tmp_path, path.name, KINDS)
            delivered.append(path.name)
        except DeliveryError as refusal:
            assert path.name in str(refusal) and "\n" not in str(refusal)
            refused += 1
    assert refused > 50 and len(delivered) >= (20 if importlib.util.find_spec("data_store") else 1)
    for name in delivered:
        if name == "chrGreek.dcm":
            assert pydicom.dcmread(tmp_path / "sr" / f"{name}.dcm").PatientName == "Διονυσιος"
