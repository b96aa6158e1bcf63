import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr import artifacts
from d2_cxr.delivery.read_back import COLUMNS, read_reports
from d2_cxr.delivery.source import DeliveryError, ScoredBox, to_bytes
from d2_cxr.delivery.structured_report import structured_report
from d2_cxr.labels.annotations import read_annotations


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def item(kind, name, **elements):
    content = Dataset()
    content.ValueType = kind
    content.ConceptNameCodeSequence = [code(*name)]
    content.RelationshipType = "CONTAINS"
    for keyword, value in elements.items():
        setattr(content, keyword, value)
    return content


def region(points, uid="2.25.11", kind="POLYLINE"):
    image = item("IMAGE", ("121324", "DCM", "Source image"))
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", uid
    image.ReferencedSOPSequence = [reference]
    data = [value for point in points for value in point]
    return item(
        "SCOORD", ("111030", "DCM", "Image Region"), GraphicType=kind, GraphicData=data, ContentSequence=[image]
    )


def group(points, finding="Mass", label=None, tracking="x", nested=False, **options):
    content = [item("TEXT", ("112039", "DCM", "Tracking Identifier"), TextValue=tracking)]
    if finding:
        meaning = [code("1", "99X", finding)]
        content.append(item("CODE", ("121071", "DCM", "Finding"), ConceptCodeSequence=meaning))
    if label:
        content.append(item("TEXT", ("121106", "DCM", "Comment"), TextValue=label))
    where = region(points, **options)
    content.append(item("NUM", ("1", "99X", "Area"), ContentSequence=[where]) if nested else where)
    return item("CONTAINER", ("125007", "DCM", "Measurement Group"), ContentSequence=content)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a radiologist's report; without groups it was read and nothing was found."""

    def write(groups, name="report.dcm", reader="Roe^Rita", time="120000", evidence="2.25.11"):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.22", "2.25.99"
        dataset.ContentDate, dataset.ContentTime = "20250101", time
        template = Dataset()
        template.TemplateIdentifier, template.MappingResource = "1500", "DCMR"
        dataset.ContentTemplateSequence = [template]
        measurements = item("CONTAINER", ("126010", "DCM", "Imaging Measurements"), ContentSequence=groups)
        observer = item("PNAME", ("121008", "DCM", "Person Observer Name"), PersonName=reader)
        dataset.ContentSequence = [observer, measurements] if reader else [measurements]
        series, instance, study = Dataset(), Dataset(), Dataset()
        instance.ReferencedSOPInstanceUID = evidence
        series.ReferencedSOPSequence, study.ReferencedSeriesSequence = [instance], [series]
        dataset.CurrentRequestedProcedureEvidenceSequence = [study]
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path

    return write


def found(rows):
    return [(row["class_name"], row["x_min"], row["y_min"], row["x_max"], row["y_max"]) for row in rows]


def test_a_round_trip_is_exact_to_a_hundredth_of_a_pixel(make_source, algorithm, tmp_path):
    chance = np.random.default_rng(0)
    source = make_source(np.zeros((3000, 2500)))
    corners = np.sort(chance.uniform(0, 1, (40, 2, 2)), axis=1) * [2500, 3000]
    boxes = [ScoredBox("Nodule/Mass", 0.5, tuple(pair.ravel())) for pair in corners]
    report = structured_report(source, boxes, {"Nodule/Mass": 0.3}, algorithm)
    (tmp_path / "report.dcm").write_bytes(to_bytes(report))
    rows, problems = read_reports(tmp_path / "report.dcm")
    assert not any(problems.values()) and {row["rad_id"] for row in rows} == {"d2_cxr"}
    assert {row["class_name"] for row in rows} == {"Nodule/Mass"}
    back = np.array([row[1:] for row in found(rows)], float)
    assert np.abs(back - [box.box_xyxy for box in boxes]).max() < 0.01


SQUARE = [(10, 20), (30, 20), (30, 50), (10, 50)]


@pytest.mark.parametrize("points", [SQUARE, [*SQUARE, SQUARE[0]], SQUARE[::-1], [*SQUARE[2:], *SQUARE[:2]]])
@pytest.mark.parametrize("nested", [True, False])
def test_rectangles_of_four_or_five_points_are_read_wherever_they_begin(write, points, nested):
    rows, _ = read_reports(write([group(points, nested=nested)]))
    assert found(rows) == [("Mass", 10, 20, 30, 50)]
    assert (rows[0]["rad_id"], rows[0]["sop_instance_uid"], rows[0]["image_id"]) == ("Roe^Rita", "2.25.11", "2.25.11")


@pytest.mark.parametrize(
    "other",
    [
        group([(10, 20), (30, 20), (30, 50)]),
        group([(20, 10), (30, 20), (20, 30), (10, 20)]),  # a square on its corner
        group([(10, 20), (30, 50), (30, 20), (10, 50)]),  # an hourglass
        group([*SQUARE, (11, 22)]),  # not closed
        group([(10, 20), (30, 50)], kind="ELLIPSE"),
    ],
)
def test_what_is_no_rectangle_is_counted_and_its_image_is_not_negative(write, other):
    rows, problems = read_reports(write([other]))
    assert rows == [] and problems["no_rectangle"] == 1
    rows, problems = read_reports(write([other, group(SQUARE)]))
    assert found(rows) == [("Mass", 10, 20, 30, 50)] and problems["no_rectangle"] == 1


def test_a_rectangle_without_a_class_is_counted(write):
    rows, problems = read_reports(write([group(SQUARE, finding=None)]))
    assert rows == [] and problems["no_class"] == 1


def test_in_a_report_of_ohif_the_label_is_the_class_elsewhere_the_finding(write):
    tool = "Cornerstone3DTools@^0.1.0:RectangleROI"
    groups = [
        group(SQUARE, finding="Pleural effusion", label="Pneumothorax", tracking=tool),
        group(SQUARE, finding="Mass", label="Mass 0.76, research only", tracking=tool),
        group(SQUARE, finding=None, label="ILD", tracking=tool),
        group(SQUARE, finding="Cardiomegaly", label="please compare", tracking="17"),
    ]
    rows, _ = read_reports(write(groups))
    assert [row["class_name"] for row in rows] == ["Pneumothorax", "Mass", "ILD", "Cardiomegaly"]


def test_a_report_without_a_group_says_that_nothing_was_found(write):
    rows, _ = read_reports(write([]))
    assert found(rows) == [("No finding", None, None, None, None)] and rows[0]["sop_instance_uid"] == "2.25.11"


def test_our_own_report_without_findings_says_so_too(make_source, thresholds, algorithm, tmp_path):
    report = structured_report(make_source(), [], thresholds, algorithm)
    (tmp_path / "report.dcm").write_bytes(to_bytes(report))
    rows, problems = read_reports(tmp_path / "report.dcm")
    assert found(rows) == [("No finding", None, None, None, None)] and not any(problems.values())


def test_a_later_report_of_the_same_reader_replaces_an_earlier_one(write):
    write([group(SQUARE), group([(1, 2), (3, 2), (3, 4), (1, 4)])], "a.dcm", time="120001.5")
    write([group([(5, 6), (7, 6), (7, 9), (5, 9)])], "b.dcm", time="120000")  # named later, made earlier
    write([group(SQUARE)], "c.dcm", reader="Poe^Paul", time="110000")
    folder = write([group(SQUARE, uid="2.25.12")], "d.dcm", time="110000")
    rows, problems = read_reports(folder)
    assert [(row["report"], row["rad_id"]) for row in rows] == [
        ("a.dcm", "Roe^Rita"),
        ("a.dcm", "Roe^Rita"),
        ("c.dcm", "Poe^Paul"),
        ("d.dcm", "Roe^Rita"),
    ]
    assert problems["superseded"] == 1


def test_a_reader_who_is_not_named_has_to_be(write):
    folder = write([group(SQUARE)], reader="unknown^unknown")
    with pytest.raises(DeliveryError, match=r"report\.dcm names no reader; give --reader NAME"):
        read_reports(folder)
    rows, _ = read_reports(folder, reader="R1")
    assert rows[0]["rad_id"] == "R1"


def test_other_files_are_counted_and_a_folder_of_none_is_refused(write, make_source, tmp_path):
    make_source(name="only/image.dcm")
    with pytest.raises(DeliveryError, match=r"only holds no structured report with TID 1500 \(1 file read\)"):
        read_reports(tmp_path / "only")
    _, problems = read_reports(write([group(SQUARE)]))
    assert problems["no_report"] == 1
    with pytest.raises(FileNotFoundError):
        read_reports(tmp_path / "absent")


def test_the_table_is_one_more_reader_for_everything_that_reads_annotations(write, load_tool, make_source, tmp_path):
    make_source(name="images/img7.dcm")
    make_source(name="images/img8.dicom", SOPInstanceUID="2.25.18")
    groups = [group(SQUARE, finding="Cardiomegaly"), group([(1, 2), (3, 2), (3, 4), (1, 4)], finding="ILD")]
    (tmp_path / "reports").mkdir()
    write(groups, "reports/a.dcm")
    write([], "reports/b.dcm", evidence="2.25.18")
    arguments = [str(tmp_path / "reports"), "--output", str(tmp_path / "boxes.csv")]
    assert load_tool("read_sr").main([*arguments, "--images", str(tmp_path / "images"), "--reader", "R9"]) == 0
    rows = artifacts.read_csv(tmp_path / "boxes.csv")
    assert list(rows[0]) == list(COLUMNS)
    table = read_annotations(tmp_path / "boxes.csv")
    assert table.boxes["class_name"].tolist() == ["Cardiomegaly", "ILD"]
    assert table.boxes[["x_min", "y_min", "x_max", "y_max"]].to_numpy().tolist() == [[10, 20, 30, 50], [1, 2, 3, 4]]
    assert [row["image_id"] for row in rows] == ["img7", "img7", "img8"] and table.negative_ids == ["img8"]
    assert set(table.boxes["reader_id"]) == {"R9"}
