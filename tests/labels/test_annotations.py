"""Every layout and every kind of bad row, with tables small enough to check by hand."""

import gzip

import pytest

from d2_cxr.labels import nih_bbox, rsna_pneumonia, vindr_cxr
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.box_rules import cut_to_images
from d2_cxr.labels.patients import read_patients
from d2_cxr.labels.problems import PROBLEMS

KAGGLE = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


@pytest.fixture
def table(tmp_path):
    """Write lines as a CSV and return its path."""

    def write(*lines: str, name: str = "train.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def counts(annotations) -> dict:
    return {kind: count for kind, count in annotations.problems.items() if count}


def test_kaggle_rows_become_boxes_readings_and_negative_images(table):
    read = read_annotations(
        table(
            KAGGLE,
            "b,No finding,14,R1,,,,",
            "a,Cardiomegaly,3,R10,691,1375,1653,1831",
            "a,No finding,14,R2,,,,",
            "a,Lung Opacity,7,R10,1,2,3,5",
        )
    )
    assert read.format_name == "kaggle"
    assert read.boxes.to_dict("list") == {
        "image_name": ["a", "a"],
        "class_name": ["Cardiomegaly", "Lung Opacity"],
        "reader_id": ["R10", "R10"],
        "x_min": [691.0, 1.0],
        "y_min": [1375.0, 2.0],
        "x_max": [1653.0, 3.0],
        "y_max": [1831.0, 5.0],
        "row": [1, 3],
    }
    assert read.readings.values.tolist() == [["b", "R1"], ["a", "R10"], ["a", "R2"]]
    assert (read.image_names, read.negative_ids, read.finding_ids) == (["b", "a"], ["b"], ["a"])
    assert read.class_names == vindr_cxr.CLASS_NAMES
    assert (read.consensus, read.sizes, read.patients, counts(read)) == (False, None, None, {})


def test_columns_go_by_name_not_by_place(table):
    read = read_annotations(table("y_max,x_max,rad_ID,x_min,Class_Name,y_min,image_id", "40,30,R1,10,ILD,20,a"))
    assert read.format_name == "physionet_train"
    assert read.boxes[["x_min", "y_min", "x_max", "y_max"]].values.tolist() == [[10, 20, 30, 40]]


def test_a_table_without_readers_is_a_consensus(table):
    read = read_annotations(table("image_id,class_name,x_min,y_min,x_max,y_max", "a,ILD,1,2,3,4", "b,No finding,,,,"))
    assert (read.format_name, read.consensus) == ("physionet_test", True)
    assert read.boxes["reader_id"].tolist() == ["consensus"]


def test_rsna_rows_are_width_and_height_with_a_target(table):
    read = read_annotations(table("patientId,x,y,width,height,Target", "p,,,,,0", "q,264,152,213,379,1"))
    assert (read.format_name, read.class_names) == ("rsna", rsna_pneumonia.CLASS_NAMES)
    assert read.boxes.iloc[0].to_dict() == {
        "image_name": "q",
        "class_name": "Lung Opacity",
        "reader_id": "consensus",
        "x_min": 264.0,
        "y_min": 152.0,
        "x_max": 477.0,
        "y_max": 531.0,
        "row": 1,
    }
    assert (read.negative_ids, read.sizes) == (["p"], None)


def test_a_target_that_is_neither_0_nor_1_is_refused(table):
    with pytest.raises(ValueError, match="line 2: the class name is empty or not understood"):
        read_annotations(table("patientId,x,y,width,height,Target", "p,1,1,1,1,maybe"))


def test_nih_header_has_more_cells_than_its_rows(table):
    read = read_annotations(
        table("Image Index,Finding Label,Bbox [x,y,w,h],,,", "00013118_008.png,Atelectasis,225,547,86,79")
    )
    assert (read.format_name, read.class_names) == ("nih", nih_bbox.CLASS_NAMES)
    assert read.boxes["image_name"].tolist() == ["00013118_008"]
    assert read.boxes[["x_min", "y_min", "x_max", "y_max"]].values.tolist() == [[225, 547, 311, 626]]


def test_compressed_tables_and_byte_order_marks_are_read(tmp_path):
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(f"\ufeff{KAGGLE}\na,ILD,5,R1,1,2,3,4\n".encode()))
    assert read_annotations(path).image_names == ["a"]


@pytest.mark.parametrize(
    "spelling, name",
    [
        ("pulmonary FIBROSIS", "Pulmonary fibrosis"),
        ("Nodule-Mass", "Nodule/Mass"),
        ("nodule / mass", "Nodule/Mass"),
        ("Pleural_thickening", "Pleural thickening"),
        ("Interstitial lung disease (ILD)", "ILD"),
    ],
)
def test_class_names_match_without_case_and_spelling_variants(table, spelling, name):
    assert read_annotations(table(KAGGLE, f"a,{spelling},5,R1,1,2,3,4")).boxes["class_name"].tolist() == [name]


def test_an_unknown_class_is_an_error_that_lists_the_known_ones(table):
    with pytest.raises(ValueError, match=r"train.csv: unknown class 'Heart'; known are Aortic enlargement, .*from-csv"):
        read_annotations(table(KAGGLE, "a,Heart,5,R1,1,2,3,4"))


def test_no_finding_is_known_by_name_whatever_its_id(table):
    read = read_annotations(table(KAGGLE, "a,no_finding,1,R1,0,0,1,1", "b,Lung Opacity,0,R1,1,2,3,4"))
    assert (read.negative_ids, len(read.boxes)) == (["a"], 1)


def test_extra_classes_of_the_full_release_are_left_out_unless_asked_for(table):
    path = table("image_id,rad_id,class_name,x_min,y_min,x_max,y_max", "a,R1,Rib fracture,1,2,3,4", "b,R1,ILD,1,2,3,4")
    read = read_annotations(path)
    assert (counts(read), read.finding_ids, read.negative_ids) == ({"extra_class": 1}, ["b"], [])
    extended = read_annotations(path, "extended")
    assert (len(extended.class_names), extended.finding_ids) == (22, ["a", "b"])


def test_own_classes_come_in_the_order_of_their_ids_or_by_alphabet(table):
    rows = ["a,Right Lung,0,x,1,2,3,4", "a,left lung,1,x,1,2,3,4", "b,Left Lung,1,x,1,2,3,4", "c,No finding,2,x,,,,"]
    assert read_annotations(table(KAGGLE, *rows), "from-csv").class_names == ("Right Lung", "left lung")
    clash = [row.replace(",0,", ",1,") for row in rows]
    assert read_annotations(table(KAGGLE, *clash), "from-csv").class_names == ("left lung", "Right Lung")


def test_a_list_of_own_classes_is_a_card(table):
    path = table(KAGGLE, "a,tube,0,x,1,2,3,4")
    assert read_annotations(path, ("Line", "Tube")).boxes["class_name"].tolist() == ["Tube"]
    with pytest.raises(ValueError, match="unknown class 'tube'; known are Line and"):
        read_annotations(path, ["Line"])
    with pytest.raises(ValueError, match="'mine' is not one of"):
        read_annotations(path, "mine")


@pytest.mark.parametrize(
    "kind, row",
    [
        ("not_a_number", "a,ILD,5,R1,1,2,,4"),
        ("not_a_number", "a,ILD,5,R1,1,2,three,4"),
        ("not_a_number", "a,ILD,5,R1,1,2,inf,4"),
        ("reversed", "a,ILD,5,R1,3,2,1,4"),
        ("no_area", "a,ILD,5,R1,1,2,1,4"),
        ("outside", "a,ILD,5,R1,-9,2,-3,4"),
        ("no_reader", "a,ILD,5,,1,2,3,4"),
    ],
)
def test_a_bad_row_is_left_out_and_counted_once(table, kind, row):
    read = read_annotations(table(KAGGLE, row, "b,ILD,5,R1,1,2,3,4"))
    assert counts(read) == {kind: 1}
    assert read.boxes["image_name"].tolist() == ["b"]
    assert read.negative_ids == []  # something was found on image a; it is not negative because the box is unusable


def test_a_duplicated_row_is_counted_and_the_first_is_kept(table):
    row = "a,ILD,5,R1,1,2,3,4"
    read = read_annotations(table(KAGGLE, row, "a,ILD,5,R2,1,2,3,4", row))
    assert (counts(read), read.boxes["row"].tolist()) == ({"duplicate": 1}, [0, 1])


def test_a_reader_who_says_both_is_counted_and_the_box_kept(table):
    read = read_annotations(table(KAGGLE, "a,ILD,5,R1,1,2,3,4", "a,No finding,14,R1,,,,", "a,No finding,14,R2,,,,"))
    assert (counts(read), len(read.boxes), read.negative_ids) == ({"contradiction": 1}, 1, [])


def test_a_box_beyond_its_image_is_cut_and_one_outside_left_out(table):
    header = f"{KAGGLE},width,height"
    read = read_annotations(
        table(header, "a,ILD,5,R1,-1,2,101,50,100,50", "a,ILD,5,R1,100,2,130,4,100,50", "a,ILD,5,R1,0,0,100,50,100,50")
    )
    assert counts(read) == {"outside": 1, "partly_outside": 1}
    assert read.boxes[["x_min", "y_min", "x_max", "y_max"]].values.tolist() == [[0, 2, 100, 50], [0, 0, 100, 50]]
    assert read.sizes == {"a": (100.0, 50.0)}


def test_dim0_is_the_height(table):
    header = f"{KAGGLE},dim0,dim1"
    rows = [f"{image},ILD,5,R1,10,150,90,190,200,100" for image in "abc"]
    assert read_annotations(table(header, *rows)).sizes["a"] == (100.0, 200.0)  # width, height


def test_swapped_sizes_are_said(table):
    swapped = [f"{image},ILD,5,R1,10,150,90,190,100,200" for image in "abc"]
    with pytest.raises(
        ValueError, match="3 of 3 boxes reach beyond the image, and 3 of these fit when width and height"
    ):
        read_annotations(table(f"{KAGGLE},dim0,dim1", *swapped))


def test_boxes_a_pixel_beyond_the_shorter_side_are_rounding_not_swapped_sizes(table):
    rows = [f"{image},ILD,5,R1,10,150,101,190,200,100" for image in "abcd"]
    assert counts(read_annotations(table(f"{KAGGLE},dim0,dim1", *rows))) == {"partly_outside": 4}


def test_sizes_known_later_cut_boxes_by_the_same_rule(table):
    boxes = read_annotations(table(KAGGLE, "a,ILD,5,R1,1,2,30,40", "b,ILD,5,R1,50,2,60,4")).boxes
    cut, found = cut_to_images(boxes, {"a": (20, 40), "b": (50, 50)})
    assert found == {"outside": 1, "partly_outside": 1}
    assert cut[["image_name", "x_max"]].values.tolist() == [["a", 20.0]]


def test_patients_come_from_the_table_or_from_a_second_one(table):
    own = read_annotations(table(f"{KAGGLE},patient_id", "a,ILD,5,R1,1,2,3,4,007", "b,ILD,5,R1,1,2,3,4,"))
    assert (own.patients, counts(own)) == ({"a": "007"}, {"without_patient": 1})
    second = table("Image Index,Patient ID", "a.png,1", "c.png,2", name="patients.csv")
    both = read_annotations(table(KAGGLE, "a,ILD,5,R1,1,2,3,4"), patients_csv=second)
    assert both.patients == {"a": "1", "c": "2"} == read_patients(second)


def test_an_image_of_two_patients_is_refused(table):
    with pytest.raises(ValueError, match="image a belongs to two patients"):
        read_annotations(table(f"{KAGGLE},patient_id", "a,ILD,5,R1,1,2,3,4,1", "a,ILD,5,R2,1,2,3,4,2"))


@pytest.mark.parametrize(
    "lines, message",
    [
        (["image,label", "a,ILD"], "has the columns image, label; missing x_min, y_min"),
        ([KAGGLE], "has a header but no row"),
        ([KAGGLE, ",ILD,5,R1,1,2,3,4"], "line 2: the image id is empty"),
        ([KAGGLE, "a,ILD,5,R1,1,2,3,4", "a,,5,R1,1,2,3,4"], "line 3: the class name is empty"),
        ([f"{KAGGLE},X_MIN", "a,ILD,5,R1,1,2,3,4,5"], "two columns 'x_min'"),
        ([""], "is not a CSV table"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(table, lines, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read_annotations(table(*lines))
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv does not exist"):
        read_annotations(tmp_path / "nowhere.csv")
    for name in ("cut.csv.gz", "image.csv"):
        path = tmp_path / name
        path.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe\x00")
        with pytest.raises(ValueError, match="is not a CSV table that can be read"):
            read_annotations(path)


def test_every_kind_of_problem_has_its_rule_and_its_count(table):
    read = read_annotations(table(KAGGLE, "a,ILD,5,R1,1,2,3,4"))
    assert read.problems.keys() == PROBLEMS.keys()
