"""Tables whose numbers, ids or names cannot be right: refused by one line where many rows are wrong, else counted."""

import pytest

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.fusion import fuse_annotations

HEADER = "image_id,class_name,rad_id,x_min,y_min,x_max,y_max"
GOOD = [f"g{i},mass,R1,{200 + i},300,400,{500 + i}" for i in range(20)]


@pytest.fixture
def table(tmp_path):
    def write(*lines: str, header: str = HEADER, name: str = "boxes.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def counts(path, **options):
    return {kind: n for kind, n in read_annotations(path, "from-csv", **options).problems.items() if n}


@pytest.mark.parametrize(
    "corners, reason",
    [
        ("0.2,0.3,0.5,0.8", "fractions of the side"),
        ('"20,5","30,5","70,5","90,5"', r"decimal commas; write 20.5 for 20,5 \(first in line 2: '20,5 30,5"),
        ("a,b,c,d", "these are no numbers.*line 2: 'a b c d'"),
        ("200,300,60,80", "look like x, y, width, height"),
        ("200,300,200,380", "no width or no height"),
        ("-90,300,-30,380", "another size"),
    ],
)
@pytest.mark.parametrize("good", [0, 9])
def test_many_boxes_of_one_fault_are_refused_with_the_likely_reason(table, corners, reason, good):
    path = table(*(f"b{i},mass,R1,{corners}" for i in range(5)), *GOOD[:good])
    with pytest.raises(ValueError, match=f"5 of {5 + good} boxes cannot be used: .*{reason}") as refusal:
        read_annotations(path, "from-csv")
    assert "\n" not in str(refusal.value)


def test_decimal_commas_without_quotes_do_not_shift_the_columns(table):
    with pytest.raises(ValueError, match="rows have more cells than the header; is there a comma in a number"):
        read_annotations(table("a,mass,R1,20,5,30,5,70,5,90,5"), "from-csv")


def test_a_few_boxes_of_one_fault_are_counted(table, caplog):
    path = table(*GOOD, "b,mass,R1,0.2,0.3,0.5,0.8", 'c,mass,R1,"1,5",2,3,4')
    assert counts(path) == {"share_of_side": 1, "not_a_number": 1}
    assert "1 x not_a_number" in caplog.text and "first in line 23: '1,5 2 3 4'" in caplog.text


def test_findings_without_a_place_are_no_unreadable_boxes(table):
    assert counts(table(*GOOD[:3], *(f"b{i},mass,R1,,,," for i in range(9)))) == {"not_a_number": 9}
    with pytest.raises(ValueError, match="none of 9 findings has a box"):
        read_annotations(table(*(f"b{i},mass,R1,,,," for i in range(9))), ["mass"])


def test_boxes_of_another_size_are_refused_where_the_table_gives_sizes(table):
    header = f"{HEADER},width,height"
    with pytest.raises(ValueError, match=r"20 of 20 boxes reach beyond the image: .*another size"):
        read_annotations(table(*(f"{row},250,320" for row in GOOD), header=header), "from-csv")
    percent = [f"p{i},mass,R1,20,{30 + i},60,{60 + i},1000,900" for i in range(20)]
    with pytest.raises(ValueError, match="upper left 6% by 9% of their images: these look like percent"):
        read_annotations(table(*percent, header=header), "from-csv")


def test_corners_in_columns_of_width_and_height_are_refused(table):
    rows = [f"p{i},600,{500 + i},900,{800 + i},1" for i in range(6)]
    from d2_cxr.labels.box_rules import check_extent

    read = read_annotations(table(*rows, header="patientId,x,y,width,height,Target"))
    with pytest.raises(ValueError, match="6 of 6 boxes reach beyond the image: these look like corners"):
        check_extent(read.boxes, dict.fromkeys(read.image_names, (1024, 1024)), "boxes.csv")


def test_class_ids_that_contradict_the_names_are_refused_or_counted(table):
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    agree = [f"a{i},ILD,5,R1,1,2,30,{40 + i}" for i in range(20)]
    some = [f"b{i},ILD,7,R1,1,2,30,{40 + i}" for i in range(2)]
    read = read_annotations(table(*agree, *some, header=header))
    assert (read.problems["class_id_disagrees"], len(read.boxes)) == (2, 22)
    many = [f"b{i},ILD,7,R1,1,2,30,{40 + i}" for i in range(9)]
    for classes in ("card", "from-csv"):
        with pytest.raises(ValueError, match="disagree in 9 of 29 rows, first in line 22: 'ILD' has the id 7"):
            read_annotations(table(*agree, *many, header=header), classes)


def test_a_numbering_of_the_tables_own_is_no_contradiction(table):
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    rows = [f"a{i},{name},R1,1,2,30,40" for i in range(5) for name in ("Cardiomegaly,1", "ILD,2", "No finding,0")]
    assert read_annotations(table(*rows, header=header)).problems["class_id_disagrees"] == 0


@pytest.mark.parametrize("corners", [",,,", "0,0,0,0", "0,0,1,1"])
@pytest.mark.parametrize("name", ["Normal", "Healthy", "None", "清晰"])
def test_a_name_that_never_has_a_box_is_asked_for(table, name, corners):
    path = table(*GOOD, *(f"n{i},{name},R1,{corners}" for i in range(4)))
    with pytest.raises(ValueError, match=f"none of 4 rows '{name}' has a box .first in line 22.; --negative-names"):
        read_annotations(path, "from-csv")
    read = read_annotations(path, "from-csv", negative_names=[name.upper()])
    assert (read.class_names, read.negative_ids) == (("mass",), ["n0", "n1", "n2", "n3"])
    assert not any(read.problems.values())


def test_a_negative_name_with_a_box_is_refused(table):
    with pytest.raises(ValueError, match="'Mass' cannot mean 'No finding': line 2 has a box"):
        read_annotations(table(*GOOD), "from-csv", negative_names=["Mass"])


def test_a_class_of_which_every_box_is_bad_is_no_class(table, caplog):
    read = read_annotations(table(*GOOD, "b,nodule,R1,9,9,3,3"), "from-csv")
    assert (read.class_names, read.problems["reversed"]) == (("mass",), 1)
    assert "no usable box of 'nodule'" in caplog.text


def test_a_repeated_header_is_no_class_image_or_reader(table):
    read = read_annotations(table(*GOOD[:2], HEADER.upper(), *GOOD[2:]), "from-csv")
    assert read.problems["repeated_header"] == 1
    assert read.class_names == ("mass",)
    assert "image_id" not in read.image_names and set(read.readings["reader_id"]) == {"R1"}


def test_one_reader_in_two_spellings_is_one(table):
    rows = [f"a,mass,{reader},{10 + i},20,60,80" for i, reader in enumerate(("7", "7.0", "07", "8"))]
    read = read_annotations(table(*rows), "from-csv")
    assert read.readings["reader_id"].tolist() == ["7", "8"]
    assert read.problems["respelled"] == 2
    assert fuse_annotations(read.boxes)["num_readers"].tolist() == [2]


def test_one_patient_in_two_spellings_is_one(table):
    rows = [f"{image},mass,R1,1,2,30,40,{patient}" for image, patient in (("a", "P 5"), ("b", "p5"), ("c", "6"))]
    read = read_annotations(table(*rows, header=f"{HEADER},patient_id"), "from-csv")
    assert read.patients == {"a": "P 5", "b": "P 5", "c": "6"}
    second = table("a,3", "b,3.0", "c,03", header="image_id,patient_id", name="patients.csv")
    assert set(read_annotations(table(*GOOD[:1]), "from-csv", second).patients.values()) == {"3"}


def test_patients_of_images_that_lost_their_zeros_are_refused_with_the_pair(table):
    second = table("7,p1", header="image_id,patient_id", name="patients.csv")
    with pytest.raises(ValueError, match=r"no patient for image '0007' of .*, but for '7': leading zeros"):
        read_annotations(table("0007,mass,R1,1,2,30,40"), "from-csv", second)


def test_an_image_in_nfd_or_with_its_suffix_is_the_same_image(table):
    read = read_annotations(table("é1.png,mass,R1,1,2,30,40", "e\u03011,mass,R2,1,2,30,40"), "from-csv")
    assert read.image_names == ["é1"]


def test_two_images_of_one_name_in_two_folders_are_not_merged(table):
    with pytest.raises(ValueError, match=r"the images p1/view.png and p2/view.png have the same name"):
        read_annotations(table("p1/view.png,mass,R1,1,2,30,40", "p2/view.png,mass,R1,1,2,30,40"), "from-csv")
    by_path = read_annotations(
        table("p1/view.png,mass,R1,1,2,30,40", "p2/view.png,mass,R1,1,2,30,40"),
        "from-csv",
        name_of=lambda text: text.replace("/", "_"),
    )
    assert by_path.image_names == ["p1_view.png", "p2_view.png"]
