"""tools/label_statistics.py by calling its main."""

import json

import pytest


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("label_statistics").main


@pytest.fixture
def table(tmp_path):
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for image in range(12):
        rows += [f"f{image},Cardiomegaly,3,R{reader},0,0,{10 + reader},10" for reader in (8, 10)]
    rows += ["n,No finding,14,R8,,,,", "f0,ILD,5,R8,9,9,1,1"]
    path = tmp_path / "train.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_table_is_printed_and_json_and_page_are_written(main, table, tmp_path, capsys):
    found, page = tmp_path / "out/labels.json", tmp_path / "labels.html"
    assert main([str(table), "--json", str(found), "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert f"Wrote {found} and {page}" in printed
    assert "R8–R10" in printed
    found = json.loads(found.read_text())
    assert found["images"] == {"total": 13, "with_finding": 12, "train": 8, "val": 2, "test": 2, "negative": 1}
    assert found["boxes"] == {"read": 24, "fused": 12}
    assert found["problems"]["reversed"] == 1
    assert found["split"] == {"rule": "published", "seed": None, "is_the_papers": False}
    assert found["agreement"][0]["readers"] == ["R8", "R10"]
    assert found["agreement"][1]["pairs_all"]["mean"] == pytest.approx(18 / 20)
    assert set(found["audits"]) == {"density_by_position", "reader_shift", "readers_predict_findings", "box_f1"}
    text = page.read_text()
    assert text.count("<svg") == 6
    for expected in ("a maximum lies before its minimum", "python tools/label_statistics.py", "Cardiomegaly"):
        assert expected in text
    assert "http" not in text.replace("http://www.w3.org", "").replace("http://creativecommons.org", "").replace(
        "http://purl.org", ""
    )


def test_two_equal_runs_write_equal_files(main, table, tmp_path):
    for name in ("one", "two"):
        main([str(table), "--split", "stratified", "--seed", "3", "--json", str(tmp_path / name)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_own_classes_can_be_listed(main, table, tmp_path):
    main([str(table), "--classes", "ILD,Cardiomegaly", "--json", str(tmp_path / "out.json")])
    assert list(json.loads((tmp_path / "out.json").read_text())["classes"]) == ["Cardiomegaly", "ILD"]
    (tmp_path / "names.txt").write_text("ILD\nCardiomegaly\n\n")
    main([str(table), "--classes", str(tmp_path / "names.txt"), "--json", str(tmp_path / "same.json")])
    assert (tmp_path / "same.json").read_bytes() == (tmp_path / "out.json").read_bytes()
    with pytest.raises(ValueError, match="classes 'all' is not one of card"):
        main([str(table), "--classes", "all"])


@pytest.mark.parametrize("content, message", [("a,b\n1,2\n", "missing image_id"), ("", "is not a CSV table")])
def test_a_wrong_table_is_one_line_and_nothing_is_written(main, tmp_path, content, message):
    path = tmp_path / "wrong.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        main([str(path), "--json", str(tmp_path / "out.json")])
    assert not (tmp_path / "out.json").exists()


def test_help_shows_an_example(main, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "example: python tools/label_statistics.py train.csv" in capsys.readouterr().out


def test_real_open_images_go_through_with_their_patients(main, open_images, tmp_path):
    for name, classes, images, patients in (
        ("annotations.csv", 12, 153, 184),
        ("annotations_opacity.csv", 1, 136, 234),
        ("annotations_lungs.csv", 2, 76, 39),
    ):
        arguments = [str(open_images / name), "--classes", "from-csv", "--patients", str(open_images / "images.csv")]
        main([*arguments, "--split", "stratified", "--json", str(tmp_path / "out.json")])
        found = json.loads((tmp_path / "out.json").read_text())
        assert (len(found["classes"]), found["images"]["with_finding"]) == (classes, images)
        assert found["images"]["patients"] == patients
        assert sum(found["images"][part] for part in ("train", "val", "test")) == images
