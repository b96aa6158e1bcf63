"""Damaged label files of every format: each is read into labels that make sense, or refused in one line by name."""

import csv
import io
import json
import random
import zipfile
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.class_names import NO_FINDING

SIZE = (400, 300)

COCO = {
    "images": [{"id": i, "file_name": f"f{i}.png", "width": 400, "height": 300} for i in range(1, 6)],
    "annotations": [
        {"id": i, "image_id": 1 + i % 4, "category_id": 1 + i % 2, "bbox": [10 * i, 20, 60, 50], "iscrowd": 0}
        for i in range(1, 7)
    ]
    + [{"id": 9, "image_id": 4, "category_id": 2, "segmentation": [[10, 20, 40, 25, 30, 60]], "reader": "anna"}],
    "categories": [{"id": 1, "name": "Mass"}, {"id": 2, "name": "Nodule"}],
}
TASKS = [
    {
        "id": i,
        "data": {"image": f"/data/upload/1/0123abcd-f{i}.png"},
        "annotations": [
            {
                "completed_by": {"id": i % 2, "email": f"r{i % 2}@x.org"},
                "result": [
                    {
                        "id": "a",
                        "type": "rectanglelabels",
                        "original_width": 400,
                        "original_height": 300,
                        "value": {
                            "x": 10,
                            "y": 20.5,
                            "width": 15,
                            "height": 12,
                            "rotation": 30 * (i % 2),
                            "rectanglelabels": ["Mass"],
                        },
                    },
                    {
                        "original_width": 400,
                        "original_height": 300,
                        "value": {"points": [[1, 2], [30, 4], [9, 40]], "polygonlabels": ["Nodule"]},
                    },
                ],
            },
            {"completed_by": 7, "result": []},
        ],
    }
    for i in range(1, 5)
]
LABELME = {
    "imagePath": "..\\x\\f1.png",
    "imageWidth": 400,
    "imageHeight": 300,
    "flags": {"Mass": False, "Edema": True},
    "shapes": [
        {"label": "Mass", "shape_type": "rectangle", "points": [[10, 20], [60.5, 70]]},
        {"label": "Nodule", "shape_type": "circle", "points": [[100, 100], [110, 100]]},
        {"label": "Nodule", "shape_type": "polygon", "points": [[1, 2], [40, 3], [20, 50]]},
    ],
}
VOC = """<annotation><filename>f1.jpg</filename><size><width>400</width><height>300</height><depth>1</depth></size>
<object><name>Mass</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object>
<object><name>Nodule</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>400</xmax><ymax>300</ymax></bndbox></object>
</annotation>"""
CVAT = """<?xml version="1.0"?><annotations><version>1.1</version>
<meta><task><labels><label><name>Nodule</name></label><label><name>Mass</name></label></labels></task></meta>
<image id="0" name="x/f1.png" width="400" height="300">
<box label="Mass" xtl="10" ytl="20" xbr="40.5" ybr="60" rotation="20"><attribute name="reader">anna</attribute></box>
<polygon label="Nodule" points="1.5,2;90,4;5,120"><attribute name="reader">bo</attribute></polygon>
<ellipse label="Mass" cx="100" cy="100" rx="20" ry="9"/></image>
<image id="1" name="f2.png" width="400" height="300">
<tag label="No finding"><attribute name="reader">bo</attribute></tag></image>
<image id="2" name="f3.png" width="400" height="300"/></annotations>"""
TABLE = [
    ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max", "width", "height"],
    *(["f1", "Mass", "0", "R1", str(10 + i), "20", "60", "70.5", "400", "300"] for i in range(4)),
    *(["f2", "Nodule", "1", f"R{i}", "100", "120", "160", "170", "400", "300"] for i in range(3)),
    ["f3", "No finding", "14", "R1", "", "", "", "", "400", "300"],
]
RSNA = [
    ["patientId", "x", "y", "width", "height", "Target"],
    *([f"f{i}", "10", "20", "60", "70.5", "1"] for i in range(1, 5)),
    ["f5", "", "", "", "", "0"],
]


def csv_text(rows: list) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([row if isinstance(row, list) else [row] for row in rows])
    return text.getvalue()


def mutated_xml(text: str, chance: random.Random, values: list) -> bytes:
    """Change text, attributes or tags of one to three elements, or drop or repeat them."""
    root = ElementTree.fromstring(text)
    for _ in range(chance.randint(1, 3)):
        parents = [element for element in root.iter() if len(element)]
        if not parents:
            break
        parent = chance.choice(parents)
        child = chance.choice(list(parent))
        word = "".join(sign for sign in str(chance.choice(values)) if sign.isprintable())
        way = chance.choice(("text", "text", "attribute", "attribute", "drop", "repeat", "rename", "lose"))
        if way == "attribute" and child.attrib:
            child.set(chance.choice(list(child.attrib)), word)
        elif way == "lose" and child.attrib:
            del child.attrib[chance.choice(list(child.attrib))]
        elif way == "drop":
            parent.remove(child)
        elif way == "repeat":
            parent.append(child)
        elif way == "rename":
            child.tag += "x"
        else:
            child.text = word
    return ElementTree.tostring(root, encoding="utf-8")


def json_of(document) -> bytes:
    return json.dumps(document).encode()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("annotations.xml", content)
    return file.getvalue()


def yolo_text(chance: random.Random, values: list) -> str:
    lines = ["0 0.5 0.5 0.25 0.5", "1 0.1 0.1 0.3 0.1 0.3 0.4", "1 0.2 0.2 0.1 0.1 0.9"]
    for _ in range(chance.randint(1, 3)):
        words = lines[chance.randrange(len(lines))].split() or ["0"]
        words[chance.randrange(len(words))] = str(chance.choice(values))
        lines[chance.randrange(len(lines))] = " ".join(words)
    return "\n".join(lines)


# format -> (good content, function: chance, values, mutated -> damaged content)
FORMATS = {
    "coco.json": (json_of(COCO), lambda c, v, m: json_of(m(COCO, c))),
    "label_studio.json": (json_of(TASKS), lambda c, v, m: json_of(m(TASKS, c))),
    "labelme.json": (json_of(LABELME), lambda c, v, m: json_of(m(LABELME, c))),
    "voc.xml": (VOC.encode(), lambda c, v, m: mutated_xml(VOC, c, v)),
    "cvat.xml": (CVAT.encode(), lambda c, v, m: mutated_xml(CVAT, c, v)),
    "cvat.zip": (zipped(CVAT.encode()), lambda c, v, m: zipped(mutated_xml(CVAT, c, v))),
    "kaggle.csv": (csv_text(TABLE).encode(), lambda c, v, m: csv_text(m(TABLE, c)).encode()),
    "rsna.csv": (csv_text(RSNA).encode(), lambda c, v, m: csv_text(m(RSNA, c)).encode()),
    "yolo.txt": (b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.3 0.1 0.3 0.4\n", lambda c, v, m: yolo_text(c, v).encode()),
}


def check_labels(read) -> None:
    """Fail unless labels are what they promise: finite boxes with an area, of known classes, images and readers."""
    corners = read.boxes[["x_min", "y_min", "x_max", "y_max"]].to_numpy(float)
    assert np.isfinite(corners).all() and (corners[:, :2] < corners[:, 2:]).all()
    assert set(read.boxes["class_name"]) <= set(read.class_names) and NO_FINDING not in read.class_names
    assert set(read.finding_ids) <= set(read.image_names) and not set(read.finding_ids) & set(read.negative_ids)
    pairs = set(zip(read.readings["image_name"], read.readings["reader_id"], strict=True))
    assert set(zip(read.boxes["image_name"], read.boxes["reader_id"], strict=True)) <= pairs
    assert all(width > 0 and height > 0 for width, height in (read.sizes or {}).values())
    assert all(name and name == name.strip() for name in (*read.image_names, *read.class_names))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_labels_make_sense_or_are_refused_in_one_line(tmp_path, fuzz, name):
    good, mutate = FORMATS[name]
    folder = tmp_path / "labels"
    folder.mkdir()
    path, outcomes = folder / name, Counter()
    (folder / "classes.txt").write_text("Mass\nNodule\n")
    target = folder if name == "yolo.txt" else path
    for number in range(fuzz.cases):
        chance = random.Random(f"{fuzz.seed} {name} {number}")
        as_bytes = number % 3 == 0
        content = fuzz.damaged(good, number) if as_bytes else mutate(chance, fuzz.values, fuzz.mutated)
        path.write_bytes(content)
        try:
            check_labels(read_annotations(target, "from-csv", size_of=lambda image: SIZE))
            outcomes["read"] += 1
        except (ValueError, FileNotFoundError) as error:
            fuzz.check_refusal(error, (ValueError, FileNotFoundError), (name, number, content[:1500]))
            assert str(folder) in str(error), (number, str(error))
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError((name, number, content[:1500])) from error
    assert outcomes["read"] and outcomes["refused"], outcomes
