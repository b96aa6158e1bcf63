import numpy as np
import pydicom
import pytest

from d2_cxr.delivery.source import DeliveryError, ScoredBox, identified_copy, image_names, read_source


def test_a_bare_file_is_refused_in_one_line_that_names_what_is_missing(make_source):
    with pytest.raises(DeliveryError) as refusal:
        make_source(SOPClassUID=None, SOPInstanceUID=None, SeriesInstanceUID=None, StudyInstanceUID=None)
    message = str(refusal.value)
    for tag in ("(0008,0016)", "(0008,0018)", "(0020,000E)", "(0020,000D)", "--assume-uids"):
        assert tag in message
    assert "\n" not in message


def test_an_empty_study_is_a_missing_one(make_source):
    with pytest.raises(DeliveryError, match=r"lacks Study Instance UID \(0020,000D\)"):
        make_source(StudyInstanceUID="")


def test_assumed_uids_are_those_of_the_files_bytes(make_dicom):
    pixels = np.arange(12).reshape(3, 4)
    first, again = make_dicom(pixels, name="a.dcm"), make_dicom(pixels, name="b.dcm")
    other = make_dicom(pixels + 1, name="c.dcm")
    uids = [read_source(path, assume_uids=True).dataset.SOPInstanceUID for path in (first, again, other)]
    assert uids[0] == uids[1] != uids[2]
    assert uids[0].startswith("2.25.") and uids[0].is_valid
    source = read_source(first, assume_uids=True)
    assert source.assumed
    distinct = {source.dataset[key].value for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}
    assert len(distinct) == 3


def test_uids_that_are_there_are_kept_and_only_the_missing_ones_assumed(make_dicom):
    path = make_dicom(np.zeros((3, 4)), SOPClassUID="1.2.840.10008.5.1.4.1.1.1", SOPInstanceUID="2.25.5")
    source = read_source(path, assume_uids=True)
    assert source.dataset.SOPInstanceUID == "2.25.5" and source.dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1"
    assert source.dataset.StudyInstanceUID.startswith("2.25.")


def test_a_copy_with_assumed_uids_differs_in_nothing_but_the_identity(make_dicom):
    path = make_dicom(np.arange(12).reshape(3, 4), WindowCenter=5, WindowWidth=9)
    source = read_source(path, assume_uids=True)
    copy = path.with_name("copy.dcm")
    copy.write_bytes(identified_copy(source))
    same = read_source(copy)
    assert not same.assumed and same.dataset.SOPInstanceUID == source.dataset.SOPInstanceUID
    before, after = pydicom.dcmread(path), pydicom.dcmread(copy)
    assert before.PixelData == after.PixelData and after.WindowCenter == 5
    assert after.file_meta.MediaStorageSOPInstanceUID == source.dataset.SOPInstanceUID


@pytest.mark.parametrize(
    "elements, message",
    [
        ({"NumberOfFrames": 2}, r"Number of Frames \(0028,0008\) is 2"),
        ({"Modality": "CT"}, r"Modality \(0008,0060\) is CT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}, r"is not an image class of DICOM"),
        ({"SOPInstanceUID": "0" * 70}, r"lacks SOP Instance UID"),
        ({"Rows": None}, r"lacks Rows \(0028,0010\)"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_a_source_is_refused_by_tag(make_source, elements, message):
    with pytest.raises(DeliveryError, match=message):
        make_source(**elements)


def test_a_picture_is_no_source(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 200)
    with pytest.raises(DeliveryError, match="is not a DICOM file"):
        read_source(tmp_path / "image.png")


def test_spacing_is_named_by_its_tag_and_zero_is_none(make_source):
    patient = make_source(PixelSpacing=[0.2, 0.1], ImagerPixelSpacing=[0.3, 0.3])
    assert (patient.spacing_mm, patient.spacing_tag) == ((0.2, 0.1), "PixelSpacing")
    detector = make_source(ImagerPixelSpacing=[0.3, 0.3])
    assert (detector.spacing_mm, detector.spacing_tag) == ((0.3, 0.3), "ImagerPixelSpacing")
    assert make_source(PixelSpacing=[0, 0]).spacing_mm is None


@pytest.mark.parametrize("box", [(0, 0, 101, 80), (-1, 0, 5, 5), (5, 5, 5, 9), (0, 0, 100, float("nan"))])
def test_a_box_outside_the_image_or_without_area_is_refused(make_source, box):
    with pytest.raises(DeliveryError, match="of Mass is not a box within 100 x 80 pixels"):
        make_source().check([ScoredBox("Mass", 0.5, box)])


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_outside_its_range_is_refused(make_source, score):
    with pytest.raises(DeliveryError, match=r"of Mass is not in \[0, 1\]"):
        make_source().check([ScoredBox("Mass", score, (1, 2, 3, 4))])


def test_image_names_are_found_by_uid_whether_written_or_assumed(make_source, make_dicom, tmp_path):
    make_source(name="images/one.dcm")
    bare = make_dicom(np.zeros((3, 4)), name="images/two.dicom")
    (tmp_path / "images" / "note.txt").write_text("no image")
    names = image_names(tmp_path / "images")
    assert names == {"2.25.11": "one", read_source(bare, assume_uids=True).dataset.SOPInstanceUID: "two"}
    make_source(name="images/three.dcm")
    with pytest.raises(DeliveryError, match="has the SOP Instance UID of another image"):
        image_names(tmp_path / "images")
