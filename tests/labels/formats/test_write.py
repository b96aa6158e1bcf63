"""What a writer writes, its parser reads back, exactly to rounding; and what the tools find beside the files."""

import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.formats.write import WRITERS, Export, write
from d2_cxr.labels.label_table import CORNERS

CLASSES = ("Mass", "结节", "A+", 'Nodule & "x" <1>')
KEY = ["image_name", "class_name", "reader_id", *CORNERS]


@st.composite
def exports(draw) -> Export:
    """Images of any size, each read by some readers, with boxes anywhere in it; every class has at least one box."""
    readers = draw(st.sampled_from([[None], ["R8", "R10"], ["anna", "bo", "7"]]))
    images, boxes, readings = [], [], []
    for number in range(draw(st.integers(4, 6))):
        width, height = draw(st.integers(20, 4000)), draw(st.integers(20, 4000))
        name = f"im {number}"
        images.append({"image_name": name, "file_name": f"{name}.png", "width": width, "height": height})
        for reader in readers:
            readings.append({"image_name": name, "reader_id": reader})
            count = draw(st.integers(0, 3)) if number >= 4 or reader != readers[0] else 1
            for index in range(count):
                x0 = draw(st.floats(0, width / 2)) + 1
                y0 = draw(st.floats(0, height / 2)) + 1
                x1, y1 = draw(st.floats(x0 + 2, width)), draw(st.floats(y0 + 2, height))
                label = CLASSES[number if number < 4 and index == 0 and reader == readers[0] else index]
                corners = dict(zip(CORNERS, (x0, y0, x1, y1), strict=True))
                boxes.append({"image_name": name, "class_name": label, **corners, "reader_id": reader, "score": None})
    table = pd.DataFrame(boxes).astype({"reader_id": object, "score": object}).drop_duplicates(KEY)
    return Export(pd.DataFrame(images), table, pd.DataFrame(readings).astype(object), CLASSES)


def as_read(export: Export) -> dict:
    boxes = export.boxes.assign(reader_id=export.boxes["reader_id"].fillna("consensus"))
    return {
        "boxes": boxes[KEY],
        "readings": set(export.readings.fillna("consensus").itertuples(index=False, name=None)),
    }


@pytest.mark.parametrize("name", WRITERS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(export=exports())
def test_a_round_trip_is_exact_to_rounding(name, export, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    write(export, name, folder)
    sizes = export.images.set_index("image_name")[["width", "height"]].agg(tuple, axis=1).to_dict()
    read = read_annotations(folder, annotation_format=name, size_of=sizes.get)
    wanted = as_read(export)
    assert read.class_names == CLASSES
    assert set(read.readings.itertuples(index=False, name=None)) == wanted["readings"]
    assert read.consensus == (not export.readers)
    order = ["image_name", "class_name", "reader_id", *CORNERS]
    found = read.boxes[KEY].round(5).sort_values(order).reset_index(drop=True)
    expected = wanted["boxes"].round(5).sort_values(order).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=0, atol=2e-5, check_dtype=False)
    boxed = set(export.boxes["image_name"])
    assert set(read.negative_ids) == set(export.images["image_name"]) - boxed


def predicted() -> Export:
    images = pd.DataFrame([{"image_name": "a", "file_name": "x/a.dcm", "width": 200, "height": 100}])
    rows = [("a", "Mass", 20, 10, 60, 40, None, 0.75), ("a", "结节", 0, 0, 10, 10, None, 0.5)]
    boxes = pd.DataFrame(rows, columns=["image_name", "class_name", *CORNERS, "reader_id", "score"])
    none = pd.DataFrame(columns=["image_name", "reader_id"])
    return Export(images, boxes.astype({"reader_id": object}), none, CLASSES[:2], model_version="run7")


def test_predicted_boxes_are_predictions_that_order_label_studios_queue(tmp_path):
    write(predicted(), "label_studio", tmp_path)
    task = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))[0]
    assert task["data"] == {"image": "/data/local-files/?d=images/x/a.dcm"} and task["annotations"] == []
    prediction = task["predictions"][0]
    assert (prediction["model_version"], prediction["score"]) == ("run7", 0.75)
    value = prediction["result"][0]["value"]
    assert value == {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["Mass"]}
    assert '<Label value="结节"' in (tmp_path / "label_config.xml").read_text(encoding="utf-8")


def test_a_score_is_an_attribute_in_cvat_and_the_sixth_number_in_yolo(tmp_path):
    write(predicted(), "cvat", tmp_path / "cvat")
    text = (tmp_path / "cvat/annotations.xml").read_text(encoding="utf-8")
    assert '<attribute name="score">0.75</attribute>' in text
    labels = json.loads((tmp_path / "cvat/labels.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in labels] == ["Mass", "结节", "No finding"]
    write(predicted(), "yolo", tmp_path / "yolo")
    numbers = (tmp_path / "yolo/labels/a.txt").read_text().splitlines()[0].split()
    assert [float(number) for number in numbers] == pytest.approx([0, 0.2, 0.25, 0.2, 0.3, 0.75])


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'tfrecord' is not one of coco, yolo"):
        write(predicted(), "tfrecord", tmp_path)
