"""tools/prepare_vindr_cxr.py: what it writes, what it ends with."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from forked_worker import forked_workers  # noqa: F401
from PIL import Image

from d2_cxr import artifacts


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("prepare_vindr_cxr").main


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(10):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 30)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (folder / f"f{index}.png").write_bytes(buffer.getvalue())
    rows = [f"f{index},Mass,0,R1,1,2,{10 + index},20" for index in range(6)]
    rows += [f"f{index},No finding,1,R1,,,," for index in range(6, 10)]
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    (tmp_path / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def arguments(images: Path, *more: str) -> list[str]:
    root = images.parent
    always = ["--dicom-dir", images, "--annotations", root / "boxes.csv", "--output", root / "set", "--name", "own_cxr"]
    return [*map(str, always), "--size", "32", "--jobs", "1", "--classes", "from-csv", *more]


def test_png_folders_are_prepared_with_the_tables_own_classes(main, images, capsys):
    assert main(arguments(images, "--array", "--resize", "letterbox")) == 0
    output = images.parent / "set"
    assert artifacts.read_json(output / "dataset.json")["class_names"] == ["Mass"]
    assert np.load(output / "images.npy").shape == (10, 32, 32)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"10 images are prepared in {output}; see {output}/data_quality.html"
    assert lines[1] == "Classes (fused boxes): Mass 6" and lines[2].endswith("; unlabeled 0")
    assert any(line.startswith("No patient ids: ") for line in lines)
    assert lines[-2].startswith("Names: own_cxr_train, own_cxr_val, own_cxr_test;")
    assert lines[-1].endswith(f"d2cxr train --set own_cxr={output} --output output/own_cxr")


def test_names_that_begin_with_patients_are_offered_as_patients(main, images, caplog):
    table = images.parent / "boxes.csv"
    for index in range(10):
        (images / f"f{index}.png").rename(images / f"p{index // 2}_{index}.png")
    text = table.read_text()
    for index in range(10):
        text = text.replace(f"f{index},", f"p{index // 2}_{index},")
    table.write_text(text)
    assert main(arguments(images)) == 0
    assert "image names look like PATIENT_IMAGE (p0_0): 5 patients on 10 images" in caplog.text
    assert "image names look like PATIENT_IMAGE" in (images.parent / "set/data_quality.html").read_text()
    caplog.clear()
    other = str(images.parent / "other")
    assert main([*arguments(images, "--patients", "names"), "--output", other]) == 0
    assert "PATIENT_IMAGE" not in caplog.text
    assert artifacts.read_json(f"{other}/dataset.json")["split"]["by_patient"]


def test_the_counts_are_json_where_asked(main, images, capsys):
    assert main(arguments(images, "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["output"] == str(images.parent / "set") and result["counts"]["prepared"] == 10


def test_without_classes_an_own_set_has_the_classes_of_its_table(main, images):
    own = [word for word in arguments(images) if word not in ("--classes", "from-csv")]
    assert main(own) == 0
    assert artifacts.read_json(images.parent / "set/dataset.json")["class_names"] == ["Mass"]


def test_strict_ends_with_1_where_something_is_wrong(main, images):
    (images / "f0.png").write_bytes((images / "f0.png").read_bytes()[:200])
    assert main(arguments(images)) == 0
    assert main(arguments(images, "--strict")) == 1


def test_shards_say_how_to_finish(main, images, capsys):
    assert main(arguments(images, "--shard", "1/2")) == 0
    assert "run without --shard to finish" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--shard 1 is not i/n"):
        main(arguments(images, "--shard", "1"))


def test_a_file_with_class_names_is_obeyed(main, images):
    (images.parent / "classes.txt").write_text("Nodule\nMass\n")
    assert main([*arguments(images), "--classes", str(images.parent / "classes.txt")]) == 0
    assert artifacts.read_json(images.parent / "set/dataset.json")["class_names"] == ["Nodule", "Mass"]


@pytest.mark.parametrize(
    "header, message",
    [("image,label\nf0,Mass\n", "missing x_min"), ("", "not a CSV table"), ("image_id,class_name\n", "no row")],
)
def test_a_wrong_table_is_one_line(main, images, header, message):
    (images.parent / "boxes.csv").write_text(header)
    with pytest.raises(ValueError, match=message) as error:
        main(arguments(images))
    assert "boxes.csv" in str(error.value) and "\n" not in str(error.value)
    assert not (images.parent / "set").exists()


def test_help_shows_an_example(main, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "vindr/train.csv --output datasets/vindr_cxr" in capsys.readouterr().out


def test_images_that_coco_lists_without_a_box_are_counted_as_negative(main, images, capsys):
    listed = [{"id": index, "file_name": f"f{index}.png", "width": 30, "height": 40} for index in range(10)]
    boxes = [{"id": index, "image_id": index, "category_id": 1, "bbox": [1, 2, 20, 18]} for index in range(6)]
    coco = {"images": listed, "annotations": boxes, "categories": [{"id": 1, "name": "Mass"}]}
    artifacts.write_json(images.parent / "instances.json", coco)
    assert main(arguments(images, "--annotations", str(images.parent / "instances.json"))) == 0
    assert "4 images are listed without an annotation (in COCO: negative)." in capsys.readouterr().out
