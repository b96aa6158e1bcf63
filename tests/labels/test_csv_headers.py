"""Tables as other people write them."""

import pandas as pd
import pytest

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.csv_headers import read_columns, with_our_headers
from d2_cxr.labels.patients import read_patients


def written(tmp_path, *lines: str, name: str = "boxes.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def corners(annotations) -> list[float]:
    return annotations.boxes[["x_min", "y_min", "x_max", "y_max"]].to_numpy().tolist()[0]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate_cells(tmp_path, separator):
    rows = ["filename,label,xmin,ymin,xmax,ymax", "a.png,Mass,1,2,30,40"]
    path = written(tmp_path, *(row.replace(",", separator) for row in rows))
    found = read_annotations(path, "from-csv")
    assert (found.class_names, found.finding_ids, corners(found)) == (("Mass",), ["a"], [1, 2, 30, 40])


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path):
    path = written(tmp_path, "image_id;class_name;x_min;y_min;x_max;y_max", "a;Mass, left;1,5;2;30,25;40")
    found = read_annotations(path, "from-csv")
    assert corners(found) == [1.5, 2, 30.25, 40]
    assert found.class_names == ("Mass, left",)


def test_columns_say_what_other_columns_mean(tmp_path):
    path = written(tmp_path, "bild,befund,x1,y1,x2,y2", "a,Mass,1,2,30,40")
    found = read_annotations(path, "from-csv", columns=read_columns("bild=image_id, befund=class_name"))
    assert (found.class_names, found.finding_ids) == (("Mass",), ["a"])


def test_a_given_column_comes_before_one_that_has_our_name(tmp_path):
    path = written(tmp_path, "image_id,class_name,coarse,x_min,y_min,x_max,y_max", "a,Mass,Opacity,1,2,30,40")
    assert read_annotations(path, "from-csv", columns={"coarse": "class_name"}).class_names == ("Opacity",)


@pytest.mark.parametrize(
    "columns, message",
    [
        ("label", "--columns label: give THEIRS=OURS"),
        ("label=klass", "OURS is one of image_id, class_name"),
    ],
)
def test_a_wrong_entry_is_named(columns, message):
    with pytest.raises(ValueError, match=message):
        read_columns(columns)


def test_what_is_not_there_or_has_two_meanings_is_named():
    table = pd.DataFrame({"file": ["a"], "filename": ["a"], "label": ["Mass"]})
    with pytest.raises(
        ValueError, match=r"t\.csv: filename and file may both be image_id; say which: --columns filename"
    ):
        with_our_headers(table, "t.csv")
    with pytest.raises(ValueError, match=r"t\.csv has no column 'bild'; it has file, filename, label"):
        with_our_headers(table, "t.csv", {"bild": "image_id"})


def test_a_table_of_patients_may_call_them_otherwise(tmp_path):
    path = written(tmp_path, "filename;subject", "a.png;7")
    assert read_patients(path) == {"a": "7"}
    path = written(tmp_path, "bild,nummer", "a.png,7")
    columns = {"bild": "image_id", "nummer": "patient_id", "befund": "class_name"}
    assert read_patients(path, columns=columns) == {"a": "7"}
