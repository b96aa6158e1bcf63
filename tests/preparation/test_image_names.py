"""Images whose file names repeat are named by their paths, and labels find them by the longest common tail."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets.image_array import read
from d2_cxr.datasets.manifest import Source
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.image_name import image_name, path_name, png_name
from d2_cxr.preparation.image_names import ImageNames, personal_looking
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.prepare import prepare


def sources(*files: str) -> list[Source]:
    return [Source(image_name(file), "images", file, Path(file), 1) for file in files]


VIEWS = sources("p1/s1/view1.png", "p1/s2/view1.png", "p2/s1/view1.png", "p2/s1/view2.png")


@pytest.mark.parametrize("name", ["a", "p1/s1/view1", "50% off", "a%2Fb", "%25", "1.2.840.5"])
def test_a_flat_png_gives_the_name_back(name):
    assert "/" not in png_name(name)
    assert image_name(f"set/images/{png_name(name)}") == name


def test_a_path_name_has_folders_and_no_suffix():
    assert path_name("./p1\\s1/view1.PNG") == path_name("p1/s1/view1.png") == "p1/s1/view1"


def test_names_are_file_names_unless_many_repeat():
    plain = ImageNames.of(sources(*[f"{index // 5}/f{index}.png" for index in range(30)], "copy/f0.png"))
    assert not plain.are_paths and plain.of_text("train/f3.png") == "f3"
    names = ImageNames.of(VIEWS)
    assert names.are_paths
    assert [source.image_name for source in names.name_files(VIEWS)][:2] == ["p1/s1/view1", "p1/s2/view1"]


@pytest.mark.parametrize(
    "text", ["CheXpert/train/p1/s2/view1", "p1/s2/view1.png", "p1/s2/view1.jpg", "elsewhere/p1/s2/view1"]
)
def test_labels_find_the_file_with_the_longest_common_tail(text):
    assert ImageNames.of(VIEWS).of_text(text) == "p1/s2/view1"


def test_a_shorter_id_is_enough_where_one_file_fits():
    names = ImageNames.of(VIEWS)
    assert names.of_text("s2/view1") == "p1/s2/view1" and names.of_text("view2") == "p2/s1/view2"
    assert names.of_text("p9/s9/view9") == "p9/s9/view9"  # no such file: missing under its own name


def test_the_image_of_another_patient_never_fits():
    names = ImageNames.of(sources("top/p1/s1/view1.png", "top/p2/s1/view1.png"))
    assert names.of_text("archive/train/p2/s1/view1.jpg") == "top/p2/s1/view1"
    assert names.of_text("archive/train/p3/s1/view1.jpg") == "archive/train/p3/s1/view1"  # missing


def test_an_id_that_fits_several_files_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"image view1 fits 3 files, such as p1/s1/view1 and p1/s2/view1; write ids"):
        ImageNames.of(VIEWS).of_text("view1")


@pytest.fixture
def archive(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["image_id,class_name,x_min,y_min,x_max,y_max"]
    for index in range(12):
        path = tmp_path / f"films/train/patient{index}/study1/view1_frontal.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 255, (6, 5)).astype(np.uint8), (50, 60)))
        rows.append(f"Archive-v1/train/patient{index}/study1/view1_frontal.jpg,Opacity,{index},5,40,50")
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def options(root: Path, table: str = "boxes.csv", **more) -> PrepareOptions:
    settings = {"classes": "from-csv", "name": "own_cxr", "preprocess": Preprocess(32), "jobs": 1, "progress": False}
    return PrepareOptions(root / "films", root / "set", root / table, **{**settings, **more})


def test_a_set_of_paths_is_prepared_into_flat_pngs(archive):
    counts = prepare(options(archive, array=True))
    assert counts["prepared"] == 12 and counts["problems"] == 0 and counts["fused_boxes"] == 12
    names = {path.name for path in (archive / "set/images").iterdir()}
    assert "train%2Fpatient3%2Fstudy1%2Fview1_frontal.png" in names and len(names) == 12
    listed = artifacts.read_json(archive / "set/annotations/stratified/train.json")["images"][0]
    assert image_name(listed["file_name"]) == listed.get("image_name", image_name(listed["file_name"]))
    assert np.array_equal(
        read(archive / "set/images" / listed["file_name"]),
        cv2.imread(str(archive / "set/images" / listed["file_name"]), cv2.IMREAD_GRAYSCALE),
    )
    assert prepare(options(archive))["reused"] == 12


def test_ids_without_folders_are_refused_where_they_are_ambiguous(archive):
    text = (archive / "boxes.csv").read_text().replace("Archive-v1/train/", "")
    lines = [line.split("/")[-1] for line in text.splitlines()]
    (archive / "plain.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="fits 12 files"):
        prepare(options(archive, "plain.csv"))
    assert not (archive / "set").exists()


@pytest.mark.parametrize(
    "name, kind",
    [
        ("DOE^JANE", "names of people"),
        ("Jane_Doe_pa", "names of people"),
        ("chest_1961-04-12", "dates"),
        ("19610412_pa", "dates"),
        ("12.04.1961", "dates"),
        ("MRN0012345", "record numbers"),
    ],
)
def test_names_that_look_personal_are_counted_by_kind(name, kind):
    assert personal_looking([name]) == {kind: 1}


@pytest.mark.parametrize(
    "name", ["00013118_008", "1.2.840.113619.2.5.176", "CHNCXR_0327_1", "f01", "0123456789abcdef0123456789abcdef"]
)
def test_names_of_public_sets_do_not_look_personal(name):
    assert personal_looking([name]) == {}


def test_a_personal_looking_name_is_warned_of_and_not_shown(archive, caplog):
    (archive / "films/train/patient0/study1/view1_frontal.png").rename(archive / "films/DOE^JANE.png")
    prepare(options(archive))
    (line,) = [record.getMessage() for record in caplog.records if "names of people" in record.getMessage()]
    assert "names of people (1)" in line and "JANE" not in line and "--rename KEYFILE" in line


def everything(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)


def test_pseudonyms_are_stable_and_leave_no_name_in_the_set(archive):
    key, table = archive / "keys/key.txt", archive / "keys/map.csv"
    counts = prepare(options(archive, rename=key, rename_map=table))
    assert counts["prepared"] == 12 and counts["fused_boxes"] == 12 and counts["missing"] == 0
    assert not re.search(rb"patient\d|view1", everything(archive / "set"))
    rows = artifacts.read_csv(table)
    assert len(rows) == 12 and rows[0]["image_name"].startswith("train/patient")
    assert {f"{row['pseudonym']}.png" for row in rows} == {path.name for path in (archive / "set/images").iterdir()}
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    again = prepare(options(archive, rename=key))
    assert again["reused"] == 12
    with pytest.raises(ValueError, match="other settings"):
        prepare(options(archive, rename=archive / "keys/other.txt"))


def test_key_and_map_must_not_lie_in_the_set(archive):
    with pytest.raises(ValueError, match="keep it outside the set"):
        prepare(options(archive, rename=archive / "set/key.txt"))
    with pytest.raises(ValueError, match="keep it outside the set"):
        prepare(options(archive, rename=archive / "key.txt", rename_map=archive / "set/map.csv"))
    (archive / "bad.txt").write_text("hello")
    with pytest.raises(ValueError, match="is not a key file"):
        prepare(options(archive, rename=archive / "bad.txt"))
    assert not (archive / "set").exists()
