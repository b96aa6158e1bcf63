"""Each format by a hand-made file, by a foreign writer (globox), and by its bad rows."""

import json
import zipfile

import pandas as pd
import pytest

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.formats.write import Export
from d2_cxr.labels.formats.write import write as export_to
from d2_cxr.labels.label_table import CORNERS


@pytest.fixture
def write(tmp_path):
    """Write text, or a value as JSON, below tmp_path and return its path."""

    def _write(name: str, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return _write


def boxes_of(read) -> list:
    return read.boxes[["image_name", "class_name", "reader_id", *CORNERS]].values.tolist()


COCO = {
    "images": [
        {"id": 7, "file_name": "train/a.png", "width": 400, "height": 300},
        {"id": 9, "file_name": "b.png", "width": 400, "height": 300},
    ],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]}],
    "categories": [{"id": 0, "name": "findings"}, {"id": 3, "name": "Mass"}],
}


def test_coco(write):
    read = read_annotations(write("boxes.json", COCO))
    assert boxes_of(read) == [["a", "Mass", "consensus", 10, 20, 40, 60]]
    assert (read.format_name, read.class_names, read.negative_ids, read.consensus) == ("coco", ("Mass",), ["b"], True)
    assert read.sizes == {"a": (400, 300), "b": (400, 300)}


def test_coco_with_polygons_in_place_of_boxes(write):
    polygon = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[10, 20, 40, 25, 30, 60]]}
    assert boxes_of(read_annotations(write("a.json", COCO | {"annotations": [polygon]})))[0][3:] == [10, 20, 40, 60]


def test_files_that_label_the_same_images_are_readers_and_others_are_parts(write, tmp_path):
    write("two/anna.json", COCO)
    write("two/bo.json", COCO | {"annotations": [{"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}]})
    read = read_annotations(tmp_path / "two")
    assert [row[:3] for row in boxes_of(read)] == [["a", "Mass", "anna"], ["b", "Mass", "bo"]]
    assert read.readings.values.tolist() == [["a", "anna"], ["a", "bo"], ["b", "anna"], ["b", "bo"]]
    write("parts/train.json", COCO)
    other = [{"id": 7, "file_name": "c.png", "width": 400, "height": 300}]
    write("parts/val.json", COCO | {"images": other})
    read = read_annotations(tmp_path / "parts")
    assert (read.consensus, [row[0] for row in boxes_of(read)]) == (True, ["a", "c"])


def coco_of(image: str, box: bool = True) -> dict:
    own = {"images": [{"id": 7, "file_name": image, "width": 400, "height": 300}]}
    return COCO | own | ({} if box else {"annotations": []})


def test_a_coco_file_per_part_is_a_split_and_no_reader(write, tmp_path):
    write("a/instances_train2017.json", coco_of("a.png"))
    write("a/instances_val2017.json", coco_of("b.png"))
    read = read_annotations(tmp_path / "a")
    assert (read.parts, read.consensus) == ({"a": "train", "b": "val"}, True)
    for part, image in (("train", "a"), ("valid", "b"), ("test", "c")):
        write(f"roboflow/{part}/_annotations.coco.json", coco_of(f"{image}.png"))
    assert read_annotations(tmp_path / "roboflow").parts == {"a": "train", "b": "val", "c": "test"}
    assert read_annotations(tmp_path / "a/instances_train2017.json").parts is None  # one file says nothing of a split


def test_parts_of_two_readers_stay_two_readers(write, tmp_path):
    for reader in ("anna", "bo"):
        write(f"set/{reader}/train.json", coco_of("a.png"))
        write(f"set/{reader}/val.json", coco_of("b.png"))
    read = read_annotations(tmp_path / "set")
    assert read.readings.values.tolist() == [["a", "anna"], ["a", "bo"], ["b", "anna"], ["b", "bo"]]
    assert read.parts == {"a": "train", "b": "val"}


def test_an_image_in_two_parts_is_refused_by_name(write, tmp_path):
    write("set/train.json", coco_of("a.png"))
    write("set/test.json", coco_of("a.png"))
    with pytest.raises(ValueError, match="image a is in test and in train; an image belongs to one part"):
        read_annotations(tmp_path / "set")


@pytest.mark.parametrize("folder", ["labels/{}", "{}/labels"])
def test_yolo_folders_per_part_are_a_split(write, tmp_path, folder):
    write("set/data.yaml", "names: [Mass]\n")
    for part, image in (("train", "a"), ("valid", "b"), ("test", "c")):
        write(f"set/{folder.format(part)}/{image}.txt", "0 0.5 0.5 0.25 0.5\n")
    read = read_annotations(tmp_path / "set", size_of=lambda image: (400, 200))
    assert (read.parts, read.consensus) == ({"a": "train", "b": "val", "c": "test"}, True)


def test_yolo_data_yaml_says_which_folder_is_which_part(write, tmp_path):
    text = "names: [Mass]\npath: /elsewhere\ntrain: [images/ward, ../images/clinic]\nval: images/2020\n"
    write("set/data.yaml", text)
    for folder, image in (("ward", "a"), ("clinic", "b"), ("2020", "c")):
        write(f"set/labels/{folder}/{image}.txt", "0 0.5 0.5 0.25 0.5\n")
    assert read_annotations(tmp_path / "set", size_of=lambda image: (400, 200)).parts == {
        "a": "train",
        "b": "train",
        "c": "val",
    }
    write("set/data.yaml", text + "test: images/2020\n")  # which of the two is it?
    assert read_annotations(tmp_path / "set", size_of=lambda image: (400, 200)).parts is None


def test_yolo_needs_names_and_sizes(write, tmp_path):
    write("set/labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.4\n")
    write("set/labels/val/b.txt", "")
    with pytest.raises(ValueError, match="holds no labels of a known format"):
        read_annotations(tmp_path / "set")
    write("set/data.yaml", "names: {0: Nodule, 1: Mass}\n")
    with pytest.raises(ValueError, match="the images are needed for their sizes"):
        read_annotations(tmp_path / "set")
    read = read_annotations(tmp_path / "set", size_of=lambda image: (400, 200))
    assert boxes_of(read) == [
        ["a", "Mass", "consensus", 150, 50, 250, 150],
        ["a", "Nodule", "consensus", 40, 20, 120, 80],
    ]
    assert (read.class_names, read.negative_ids) == (("Nodule", "Mass"), ["b"])


def test_yolo_in_pixels_or_of_missing_images_is_not_read_as_shares(write, tmp_path):
    write("set/classes.txt", "Mass\n")
    write("set/a.txt", "0 150 50 250 150\n0 20 30 50 60\n0 30 30 9 9\n")
    with pytest.raises(ValueError, match=r"3 of 3 boxes cannot be used: .*not fractions of the side"):
        read_annotations(tmp_path / "set", size_of=lambda image: (400, 200))
    with pytest.raises(ValueError, match="no image of this name"):
        read_annotations(tmp_path / "set", size_of=lambda image: None)
    write("set/a.txt", "4 0.5 0.5 0.2 0.2\n")
    with pytest.raises(ValueError, match=r"a.txt, line 1: '4' is not a class number from 0 to 0"):
        read_annotations(tmp_path / "set", size_of=lambda image: (400, 200))


@pytest.mark.parametrize("names", ["{0: Mass, 2: Nodule}", "{a: Mass}", "{1: Mass}"])
def test_yolo_names_without_a_number_each_are_refused(write, tmp_path, names):
    write("set/a.txt", "0 0.5 0.5 0.2 0.2\n")
    write("set/data.yaml", f"names: {names}\n")
    with pytest.raises(ValueError, match="the keys of names are not 0 to"):
        read_annotations(tmp_path / "set", size_of=lambda image: (400, 200))


VOC = """<annotation><filename>a.jpg</filename><size><width>400</width><height>300</height><depth>1</depth></size>
<object><name>Mass</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object>
</annotation>"""


def test_voc_counts_pixels_from_1(write, tmp_path):
    write("voc/a.xml", VOC)
    write("voc/b.xml", "<annotation><filename>b.jpg</filename></annotation>")
    read = read_annotations(tmp_path / "voc")
    assert boxes_of(read) == [["a", "Mass", "consensus", 10, 20, 40, 60]]
    assert (read.format_name, read.negative_ids, read.sizes) == ("voc", ["b"], {"a": (400, 300)})


CVAT = """<?xml version="1.0"?><annotations><version>1.1</version>
<meta><task><labels><label><name>Nodule</name></label><label><name>Mass</name></label></labels></task></meta>
<image id="0" name="x/a.png" width="400" height="300">
<box label="Mass" xtl="10" ytl="20" xbr="40.5" ybr="60"><attribute name="reader">anna</attribute></box>
<polygon label="Nodule" points="1.5,2;9,4;5,12"><attribute name="reader">bo</attribute></polygon>
<points label="Mass" points="3,4"><attribute name="reader">bo</attribute></points></image>
<image id="1" name="b.png" width="400" height="300">
<tag label="No finding"><attribute name="reader">bo</attribute></tag></image>
<image id="2" name="c.png" width="400" height="300"/></annotations>"""


@pytest.mark.parametrize("zipped", [False, True])
def test_cvat_as_xml_and_zip(write, tmp_path, zipped):
    path = write("annotations.xml", CVAT)
    if zipped:
        path = tmp_path / "task.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations.xml", CVAT)
    read = read_annotations(path)
    assert boxes_of(read) == [["a", "Mass", "anna", 10, 20, 40.5, 60], ["a", "Nodule", "bo", 1.5, 2, 9, 12]]
    assert (read.class_names, read.negative_ids, read.image_names) == (("Nodule", "Mass"), ["b"], ["a", "b"])
    assert read.problems["not_a_number"] == 1


def test_a_turned_cvat_box_gives_the_upright_box_around_it(write):
    turned = CVAT.replace('xbr="40.5" ybr="60"', 'xbr="40" ybr="60" rotation="90"')
    assert boxes_of(read_annotations(write("a.xml", turned)))[0][3:] == pytest.approx([5, 25, 45, 55])


def result(label="Mass", **value):
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": [label]} | value
    return {"type": "rectanglelabels", "original_width": 400, "original_height": 300, "value": box}


def test_label_studio(write):
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/3/0a1b2c3d-a.png"},
            "annotations": [
                {"completed_by": 4, "result": [result()]},
                {"completed_by": {"id": 5, "email": "bo@x.org"}, "result": []},
                {"completed_by": 6, "was_cancelled": True, "result": [result("Nodule")]},
            ],
        },
        {"id": 2, "data": {"image": "/data/local-files/?d=films/b%20c.png"}, "annotations": [{"result": []}]},
        {"id": 3, "data": {"image": "https://host/d.png?sig=1"}, "annotations": [], "predictions": [{"result": []}]},
    ]
    tasks[1]["annotations"][0]["completed_by"] = 4
    read = read_annotations(write("export.json", tasks))
    assert boxes_of(read) == [["a", "Mass", "4", 40, 60, 160, 180]]
    assert read.readings.values.tolist() == [["a", "4"], ["a", "bo@x.org"], ["b c", "4"]]
    assert (read.negative_ids, read.image_names) == (["b c"], ["a", "b c"])


def test_labelme(write, tmp_path):
    shapes = [
        {"label": "Mass", "shape_type": "rectangle", "points": [[40, 60], [10, 20]]},
        {"label": "Nodule", "shape_type": "circle", "points": [[50, 50], [53, 54]]},
        {"label": "Mass", "shape_type": "line", "points": [[1, 2], [3, 4]]},
    ]
    size = {"imageWidth": 400, "imageHeight": 300, "imageData": None}
    write("me/a.json", {"imagePath": "..\\films\\a.png", "shapes": shapes, "flags": {"No finding": False}, **size})
    write("me/b.json", {"imagePath": "b.png", "shapes": [], "flags": {"No finding": True}, **size})
    read = read_annotations(tmp_path / "me")
    assert boxes_of(read) == [
        ["a", "Mass", "consensus", 10, 20, 40, 60],
        ["a", "Nodule", "consensus", 45, 45, 55, 55],
    ]
    assert (read.negative_ids, read.problems["not_a_number"]) == (["b"], 1)


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"images": [', "is not a JSON file"),
        ({"some": "thing"}, "neither COCO"),
        ("[" * 5000, "is not a JSON file"),
        (COCO | {"annotations": []}, "not one annotation"),
        (
            COCO | {"annotations": [{"image_id": 8, "category_id": 3}]},
            "annotation 1: image 8 .* not in the file's lists",
        ),
        (COCO | {"categories": [{"id": 3}]}, "entry 1 of categories lacks id or name"),
        (COCO | {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, None, 2, 3]}]}, "are no numbers"),
        ("<annotations>", "is not valid XML"),
        ("<html></html>", "neither Pascal VOC nor CVAT"),
        ('<!DOCTYPE a [<!ENTITY b "ccc">]><annotation>&b;</annotation>', "declares a document type"),
        ('<annotations><track id="0"/></annotations>', "holds tracks of a video"),
        ([{"data": {"image": 3}}], "names no image"),
        ([{"data": {"image": "a.png"}, "annotations": True}], "annotations is 'True' and not a list"),
        ([{"data": {"image": "a.png"}, "annotations": [{"result": 7}]}], "result is '7' and not a list"),
        ([{"data": {"image": "a.png"}}], "holds no annotation of an image"),
        ({"imagePath": "a.png", "shapes": 2.5}, "shapes is '2.5' and not a list"),
        ([{"data": {"image": "a.png"}, "annotations": [{"result": [result(x="left")]}]}], "are no numbers"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(write, content, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read_annotations(write("labels", content))
    assert "\n" not in str(refusal.value)


def test_a_mixed_folder_needs_the_format(write, tmp_path):
    write("mixed/coco.json", COCO)
    write("mixed/a.xml", VOC)
    write("mixed/notes.json", {"any": "thing"})
    with pytest.raises(ValueError, match="several formats: 1 of voc, 1 of coco; --annotation-format"):
        read_annotations(tmp_path / "mixed")
    assert read_annotations(tmp_path / "mixed", annotation_format="voc").format_name == "voc"
    with pytest.raises(ValueError, match=r"coco.json is coco, not voc"):
        read_annotations(tmp_path / "mixed/coco.json", annotation_format="voc")
    with pytest.raises(ValueError, match="'mine' is not one of csv, coco"):
        read_annotations(tmp_path / "mixed", annotation_format="mine")


def test_bad_boxes_are_counted_by_the_rules_of_tables(write):
    bad = [[10, 20, -5, 40], [10, 20, 0, 40], [500, 20, 9, 9], [390, 20, 13, 40]]
    good = [[10, 20, 30, 40 + i] for i in range(30)]
    entries = [{"id": i, "image_id": 7, "category_id": 3, "bbox": box} for i, box in enumerate([*bad, *good, good[0]])]
    read = read_annotations(write("a.json", COCO | {"annotations": entries}))
    found = {kind: number for kind, number in read.problems.items() if number}
    assert found == {"reversed": 1, "no_area": 1, "outside": 1, "partly_outside": 1, "duplicate": 1}


FOREIGN = [("one", "Mass", (10.0, 20.0, 40.0, 60.0)), ("one", "Nodule", (1.0, 2.0, 30.0, 50.0))]


@pytest.mark.parametrize("name", ["coco", "yolo", "voc", "cvat", "labelme"])
def test_files_of_a_foreign_writer_are_read(name, tmp_path):
    """globox (https://github.com/laclouis5/globox) writes VOC corners from 0, so that its minima are one less here."""
    globox = pytest.importorskip("globox")
    one = globox.Annotation("one.png", (400, 300))
    for _, label, corners in FOREIGN:
        one.add(globox.BoundingBox.create(label=label, coords=corners))
    labels = globox.AnnotationSet([one])
    folder = tmp_path / name
    folder.mkdir()
    if name == "coco":
        labels.save_coco(folder / "a.json", auto_ids=True)
    elif name == "cvat":
        labels.save_cvat(folder / "a.xml")
    elif name == "voc":
        labels.save_pascal_voc(folder)
    elif name == "labelme":
        labels.save_labelme(folder)
    else:
        labels.save_yolo_v5(folder, label_to_id={"Mass": 0, "Nodule": 1})
        (folder / "classes.txt").write_text("Mass\nNodule\n")
    read = read_annotations(folder, size_of=lambda image: (400, 300))
    shift = 1 if name == "voc" else 0
    assert read.format_name == name
    found = {row[1]: row[3:] for row in boxes_of(read)}
    for _, label, (x0, y0, x1, y1) in FOREIGN:
        assert found[label] == pytest.approx([x0 - shift, y0 - shift, x1, y1], abs=1e-3)
    assert read.image_names == ["one"]


def test_a_foreign_reader_reads_what_is_written(tmp_path):
    globox = pytest.importorskip("globox")
    images = pd.DataFrame([{"image_name": "one", "file_name": "one.png", "width": 400, "height": 300}])
    rows = [(image, label, *corners, None, None) for image, label, corners in FOREIGN]
    boxes = pd.DataFrame(rows, columns=["image_name", "class_name", *CORNERS, "reader_id", "score"]).astype(
        {"reader_id": object, "score": object}
    )
    readings = pd.DataFrame([{"image_name": "one", "reader_id": None}])
    export = Export(images, boxes, readings, ("Mass", "Nodule"))
    for name in ("coco", "cvat", "voc"):
        export_to(export, name, tmp_path / name)
    found = {
        "coco": globox.AnnotationSet.from_coco(tmp_path / "coco/instances.json"),
        "cvat": globox.AnnotationSet.from_cvat(tmp_path / "cvat/annotations.xml"),
        "voc": globox.AnnotationSet.from_pascal_voc(tmp_path / "voc"),
    }
    for name, labels in found.items():
        shift = 1 if name == "voc" else 0  # globox counts from 0, the standard from 1
        by_label = {box.label: box.ltrb for box in labels["one.png"].boxes}
        for _, label, (x0, y0, x1, y1) in FOREIGN:
            assert by_label[label] == pytest.approx((x0 + shift, y0 + shift, x1, y1), abs=1e-6), name
