"""tools/export_labels.py by calling its main."""

import json

import pytest


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("export_labels").main


def test_findings_become_label_studio_tasks(main, tmp_path, capsys):
    finding = {"class": "Mass", "score": 0.75, "box_xyxy": [20, 10, 60, 40], "reported": True}
    image = {"file": "a.dcm", "image_name": "a", "width": 200, "height": 100, "findings": [finding]}
    (tmp_path / "findings.json").write_text(
        json.dumps([image, image | {"file": "b.dcm", "image_name": "b", "findings": []}])
    )
    output = tmp_path / "out"
    assert main([str(tmp_path / "findings.json"), "--format", "label_studio", "--output", str(output)]) == 0
    assert ": 1 box of 2 images as" in capsys.readouterr().out
    tasks = json.loads((output / "tasks.json").read_text())
    assert [task["data"]["image"].rsplit("=", 1)[1] for task in tasks] == ["images/a.dcm", "images/b.dcm"]
    assert tasks[0]["predictions"][0]["score"] == 0.75


def test_labels_are_converted(main, tmp_path):
    rows = ["image_id,class_name,rad_id,x_min,y_min,x_max,y_max,width,height", "a,Mass,R1,20,10,60,40,200,100"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    arguments = [str(tmp_path / "boxes.csv"), "--classes", "from-csv", "--output", str(tmp_path / "coco")]
    assert main([*arguments, "--format", "coco"]) == 0
    box = json.loads((tmp_path / "coco/instances.json").read_text())["annotations"][0]
    assert (box["bbox"], box["reader"]) == ([20, 10, 40, 30], "R1")


def test_labels_without_sizes_need_the_images(main, tmp_path):
    rows = ["image_id,class_name,rad_id,x_min,y_min,x_max,y_max", "a,Mass,R1,20,10,60,40"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    arguments = [str(tmp_path / "boxes.csv"), "--classes", "from-csv", "--output", str(tmp_path / "coco")]
    with pytest.raises(ValueError, match="the size of image a is not known; --images"):
        main([*arguments, "--format", "coco"])
