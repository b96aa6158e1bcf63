"""The prepared set: what is written, that a killed run ends with the same bytes, and what is refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from d2_cxr import artifacts
from d2_cxr.datasets import image_array, leakage, manifest
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.prepare import prepare

RULES = Preprocess(32)
CLASSES = ["Cardiomegaly", "Nodule/Mass"]


@pytest.fixture
def archive(tmp_path, make_dicom):
    """Write 24 images, 14 with findings, 6 negative, 4 without any row, and their table; return both paths."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(24):
        image = f"image{index:02d}"
        pixels = cv2.resize(rng.integers(0, 4000, (6, 5)).astype(np.uint16), (50, 100), interpolation=cv2.INTER_LINEAR)
        make_dicom(pixels, name=f"images/{image}.dicom")
        if index < 14:
            for reader, shift in (("R1", 0), ("R2", 2), ("R3", 40)):
                box = [5 + shift, 10, 25 + shift, 50]
                rows.append([image, CLASSES[index % 2], index % 2, reader, *(min(value, 50) for value in box)])
        elif index < 20:
            rows += [[image, "No finding", 14, reader, "", "", "", ""] for reader in ("R1", "R2", "R3")]
    return tmp_path / "images", write_table(tmp_path / "train.csv", rows)


def write_table(path: Path, rows) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"])
        writer.writerows(rows)
    return path


def run(archive, output, **more) -> dict:
    images, table = archive
    settings = {"name": "own_cxr", "preprocess": RULES, "jobs": 1, "progress": False, **more}
    return prepare(PrepareOptions(images, output, annotations=table, **settings))


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop("timings.csv")
    return files


def images_of(folder: Path, part: str) -> list[str]:
    return [image["file_name"] for image in artifacts.read_json(folder / f"annotations/{part}.json")["images"]]


def test_a_prepared_set_holds_every_image_once(archive, tmp_path):
    counts = run(archive, tmp_path / "set", array=True)
    output = tmp_path / "set"
    assert counts["prepared"] == 24 and counts["problems"] == 0 and counts["unlabeled"] == 4
    parts = [f"stratified/{prefix}{part}" for prefix in ("", "negative_") for part in ("train", "val", "test")]
    listed = [name for part in [*parts, "unlabeled"] for name in images_of(output, part)]
    assert sorted(listed) == sorted(path.name for path in (output / "images").iterdir()) and len(listed) == 24
    assert not (output / "annotations/published").exists()  # an own set has none
    assert not (output / ".preparing").exists()


def test_the_same_image_has_the_same_number_in_every_list(archive, tmp_path):
    run(archive, tmp_path / "set")
    numbers = {}
    for path in (tmp_path / "set/annotations").rglob("*.json"):
        for image in artifacts.read_json(path)["images"]:
            assert numbers.setdefault(image["file_name"], image["id"]) == image["id"] >= 1
    assert sorted(numbers.values()) == list(range(1, 25))


def test_boxes_are_fused_and_move_to_prepared_pixels(archive, tmp_path):
    run(archive, tmp_path / "set")
    for part in ("train", "val", "test"):
        for box in artifacts.read_json(tmp_path / f"set/annotations/stratified/{part}.json")["annotations"]:
            # two readers' boxes 5..25 and 7..27 of 50 columns, 10..50 of 100 rows become 6..26; the third stays alone
            if box["num_readers"] == 2:
                assert box["bbox"] == [pytest.approx(6 * 0.64), pytest.approx(3.2), pytest.approx(12.8), 12.8]
            else:
                assert box["num_readers"] == 1 and box["bbox"][0] == pytest.approx(45 * 0.64)
    readers = artifacts.read_json(tmp_path / "set/annotations/readers.json")
    assert len(readers["annotations"]) == 42 and {len(image["readers"]) for image in readers["images"]} == {3}


def test_pngs_are_gray_and_carry_no_metadata(archive, tmp_path):
    run(archive, tmp_path / "set")
    content = (tmp_path / "set/images/image00.png").read_bytes()
    kinds, position = [], 8
    while position < len(content):  # PNG: length, kind, data, checksum
        kinds.append(content[position + 4 : position + 8])
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
    assert cv2.imread(str(tmp_path / "set/images/image00.png"), cv2.IMREAD_UNCHANGED).shape == (32, 32)


def test_the_array_holds_the_pngs(archive, tmp_path):
    run(archive, tmp_path / "set", array=True)
    array = np.load(tmp_path / "set/images.npy", mmap_mode="r")
    images = [row["image_name"] for row in artifacts.read_csv(tmp_path / "set" / image_array.INDEX)]
    assert array.shape == (24, 32, 32) and images == sorted(images)
    picture = cv2.imread(str(tmp_path / f"set/images/{images[7]}.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(array[7], picture)


def test_the_manifest_tells_hashes_and_no_header_text(archive, tmp_path, make_dicom):
    images, _ = archive
    make_dicom([[0, 9], [4, 5]], name="images/named.dicom", PatientName="Doe^Jane", StudyDescription="Secret")
    run(archive, tmp_path / "set")
    rows = {row["image_name"]: row for row in manifest.read(tmp_path / "set/manifest.csv")}
    row = rows["image03"]
    assert row["source_sha256"] == artifacts.sha256_file(images / "image03.dicom")
    pixels = cv2.imread(str(tmp_path / "set/images/image03.png"), cv2.IMREAD_GRAYSCALE)
    assert row["image_sha256"] == artifacts.sha256_bytes(pixels.tobytes())
    assert (row["file"], row["rows"], row["columns"], row["bits_stored"]) == ("image03.dicom", "100", "50", "12")
    everything = b"".join(contents(tmp_path / "set").values())
    for text in (b"Doe", b"Secret", str(tmp_path).encode()):
        assert text not in everything


def test_a_second_run_does_nothing(archive, tmp_path):
    run(archive, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    counts = run(archive, tmp_path / "set")
    assert counts["reused"] == 24 and counts["prepared"] == 24
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == before


def test_number_of_processes_changes_no_byte(archive, tmp_path):
    run(archive, tmp_path / "one", jobs=1)
    run(archive, tmp_path / "three", jobs=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_shards_and_a_last_run_equal_one_run(archive, tmp_path):
    run(archive, tmp_path / "whole")
    for index in (1, 2):
        assert run(archive, tmp_path / "parts", shard=(index, 2)) == {"images": 12, "reused": 0, "problems": 0}
        assert not (tmp_path / "parts/dataset.json").exists()
    assert run(archive, tmp_path / "parts")["reused"] == 24
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_images_added_later_are_prepared_and_the_lists_written_anew(archive, tmp_path, make_dicom):
    run(archive, tmp_path / "set")
    make_dicom([[0, 9], [4, 5]], name="images/later.dicom")
    counts = run(archive, tmp_path / "set")
    assert counts["reused"] == 24 and counts["prepared"] == 25 and counts["unlabeled"] == 5
    run(archive, tmp_path / "at_once")
    assert contents(tmp_path / "set") == contents(tmp_path / "at_once")


def test_a_file_that_was_replaced_by_another_of_its_length_is_prepared_again(archive, tmp_path):
    images, _ = archive
    run(archive, tmp_path / "set")
    before = contents(tmp_path / "set")
    content = bytearray((images / "image03.dicom").read_bytes())
    content[-2000:] = bytes(2000)  # the last rows are black
    (images / "image03.dicom").write_bytes(content)
    (images / "image04.dicom").touch()  # a later time alone makes no new image
    assert run(archive, tmp_path / "set")["reused"] == 23
    changed = {name for name, data in contents(tmp_path / "set").items() if before.get(name) != data}
    assert changed == {"images/image03.png", "manifest.csv", "dataset.json", "data_quality.html"}  # the page shows it


def test_refused_files_are_shown_where_there_is_something_to_see(archive, tmp_path):
    images, _ = archive
    colors = np.zeros((400, 300, 3), np.uint8)
    colors[:200, :, 2] = 255
    cv2.imwrite(str(images / "red.png"), colors)
    (images / "torn.png").write_bytes((images / "red.png").read_bytes()[:60])
    counts = run(archive, tmp_path / "set")
    assert counts["refused"] == 2
    assert [path.name for path in (tmp_path / "set/refused").iterdir()] == ["red.png"]
    seen = cv2.imread(str(tmp_path / "set/refused/red.png"), cv2.IMREAD_UNCHANGED)
    assert seen.shape == (100, 75) and seen[:40].min() == 255 and seen[60:].max() == 0
    page = (tmp_path / "set/data_quality.html").read_text()
    assert page.count('class="refused"') == 1 and "refused, nothing to see" in page
    (images / "red.png").unlink()
    (images / "torn.png").unlink()
    run(archive, tmp_path / "set")
    assert not (tmp_path / "set/refused").exists()


def kill_and_go_on(archive, tmp_path, name: str, after_images: int) -> None:
    """Kill a run and its group once so many images are there; run again and compare with a run that was not killed."""
    images, table = archive
    command = [sys.executable, "-c", _RUN, str(images), str(table), str(tmp_path / name)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if len(list((tmp_path / name / "images").glob("image*.png"))) >= after_images:
            break
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(archive, tmp_path / name)
    if not (tmp_path / "whole").exists():
        run(archive, tmp_path / "whole")
    assert contents(tmp_path / name) == contents(tmp_path / "whole")


_RUN = """
import sys
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.prepare import prepare
from d2_cxr.dicom.preprocess import Preprocess
images, table, output = sys.argv[1:]
options = PrepareOptions(
    images, output, annotations=table, name="own_cxr", preprocess=Preprocess(32), jobs=2, progress=False
)
prepare(options)
"""


@pytest.mark.parametrize("after_images", [5, 24])
def test_a_killed_run_goes_on_to_the_same_bytes(archive, tmp_path, after_images):
    kill_and_go_on(archive, tmp_path, "killed", after_images)


@pytest.mark.slow
def test_twenty_kills_end_in_the_same_bytes(archive, tmp_path):
    for moment in range(20):
        kill_and_go_on(archive, tmp_path, f"killed{moment}", after_images=round(moment * 24 / 19))


def test_what_is_wrong_is_told_and_the_rest_is_prepared(archive, tmp_path, make_dicom):
    images, _ = archive
    (images / "image02.dicom").unlink()
    (images / "image03.dicom").write_bytes((images / "image03.dicom").read_bytes()[:900])
    (images / "readme.txt").write_text("hello")
    (images / "sub").mkdir()
    (images / "sub/image05.dcm").write_bytes((images / "image04.dicom").read_bytes())
    make_dicom([[0, 9], [4, 5]], name="images/odd.dicom", WindowCenter=5, WindowWidth=0)
    counts = run(archive, tmp_path / "set", strict=True)
    rows = {(row["image_name"], row["file"]): row for row in manifest.read(tmp_path / "set/manifest.csv")}
    assert rows["image02", ""]["outcome"] == "missing"
    assert rows["image03", "image03.dicom"]["outcome"] == "refused"
    assert "cut short" in rows["image03", "image03.dicom"]["reason"]
    assert rows["readme.txt", "readme.txt"]["outcome"] == "ignored"
    assert rows["image05", "sub/image05.dcm"]["reason"] == "the same image name as images/image05.dicom"
    assert "Window Width" in rows["odd", "odd.dicom"]["reason"] and counts["odd"] == 1
    assert counts["missing"] == 1 and counts["refused"] == 2 and counts["problems"] == 3
    page = (tmp_path / "set/data_quality.html").read_text()
    assert "image02" in page and "Window Width (0028,1051) is 0" in page and "data:image/jpeg" in page


def test_missing_images_do_not_move_the_others_to_another_part(archive, tmp_path):
    run(archive, tmp_path / "whole")
    (archive[0] / "image02.dicom").unlink()
    run(archive, tmp_path / "less")
    for part in ("train", "val", "test"):
        whole = [name for name in images_of(tmp_path / "whole", f"stratified/{part}") if name != "image02.png"]
        assert images_of(tmp_path / "less", f"stratified/{part}") == whole


def test_without_annotations_every_image_is_unlabeled(archive, tmp_path):
    prepare(PrepareOptions(archive[0], tmp_path / "set", name="own_cxr", preprocess=RULES, jobs=1, progress=False))
    assert len(images_of(tmp_path / "set", "unlabeled")) == 24
    assert [path.name for path in (tmp_path / "set/annotations").iterdir()] == ["unlabeled.json"]


def test_findings_only_prepares_no_other_image(archive, tmp_path):
    counts = run(archive, tmp_path / "set", findings_only=True)
    assert counts["prepared"] == 14 and counts["missing"] == 0 and counts["unlabeled"] == 0


def test_patients_become_numbers_and_stay_in_one_part(archive, tmp_path):
    patients = tmp_path / "patients.csv"
    lines = [f"image{index:02d},Person {index // 3}" for index in range(24)]
    patients.write_text("image_id,patient_id\n" + "\n".join(lines) + "\n")
    run(archive, tmp_path / "set", patients=patients)
    homes = {}
    for part in ("train", "val", "test"):
        for prefix in ("", "negative_"):
            images = artifacts.read_json(tmp_path / f"set/annotations/stratified/{prefix}{part}.json")["images"]
            for image in images:
                assert homes.setdefault(image["patient"], part) == part
    assert b"Person" not in b"".join(contents(tmp_path / "set").values())


def test_unlabeled_images_that_give_test_images_away_are_left_out(archive, tmp_path):
    images, _ = archive
    run(archive, tmp_path / "before")
    test_image = images_of(tmp_path / "before", "stratified/test")[0].removesuffix(".png")
    (images / "copy.dicom").write_bytes((images / f"{test_image}.dicom").read_bytes())
    counts = run(archive, tmp_path / "set")
    assert counts["unlabeled_left_out"] == 1 and "copy.png" not in images_of(tmp_path / "set", "unlabeled")
    assert f"the same pixels as {test_image}" in (tmp_path / "set/data_quality.html").read_text()


def test_a_cropped_copy_of_a_test_image_is_found_shown_and_left_out(archive, tmp_path, make_dicom):
    images, _ = archive
    run(archive, tmp_path / "before", preprocess=Preprocess(96))
    test_image = images_of(tmp_path / "before", "stratified/test")[0].removesuffix(".png")
    pixels = pydicom.dcmread(images / f"{test_image}.dicom").pixel_array
    make_dicom(np.ascontiguousarray(pixels[5:, 2:]), name="images/cut.dicom")
    counts = run(archive, tmp_path / "set", preprocess=Preprocess(96))
    assert counts["near_duplicates"] == 1 and counts["unlabeled_left_out"] == 1
    (pair,) = leakage.read_near_duplicates(tmp_path / "set")
    assert {pair["image_name"], pair["other_image_name"]} == {"cut", test_image} and pair["how"] == "cropped"
    page = (tmp_path / "set/data_quality.html").read_text()
    assert "Near duplicates (1 pair)" in page and f"the same image as {test_image} of val or test (cropped)" in page


def test_vindr_of_another_table_has_no_published_split_and_says_so(archive, tmp_path):
    counts = run(archive, tmp_path / "vindr_cxr", name="vindr_cxr")
    notes = artifacts.read_json(tmp_path / "vindr_cxr/dataset.json")["notes"]
    assert "published split was not written" in notes[0] and counts["stratified_train"] > 0
    assert not (tmp_path / "vindr_cxr/annotations/published").exists()


def test_official_test_images_are_not_fused(archive, tmp_path, make_dicom):
    make_dicom(np.arange(5000).reshape(100, 50) % 4000, name="test_images/t1.dicom")
    table = tmp_path / "annotations_test.csv"
    table.write_text("image_id,class_name,x_min,y_min,x_max,y_max\nt1,Cardiomegaly,5,10,25,50\nt1,Edema,1,1,9,9\n")
    run(archive, tmp_path / "set", test_dicom_dir=tmp_path / "test_images", test_annotations=table)
    test = artifacts.read_json(tmp_path / "set/annotations/official_test.json")
    assert [image["file_name"] for image in test["images"]] == ["t1.png"] and len(test["annotations"]) == 1
    assert test["annotations"][0]["bbox"] == [3.2, 3.2, 12.8, 12.8]


def test_boxes_of_resized_copies_are_scaled_to_the_file(archive, tmp_path):
    images, _ = archive
    table = tmp_path / "sized.csv"
    table.write_text(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max,width,height\n"
        "image00,Cardiomegaly,3,R1,100,200,500,1000,1000,2000\n"
        "image01,Cardiomegaly,3,R1,100,200,500,1000,1000,2000\n"
        "image02,Cardiomegaly,3,R1,100,200,500,1000,1000,2000\n"
    )  # the files are 50 x 100
    run((images, table), tmp_path / "set")
    readers = artifacts.read_json(tmp_path / "set/annotations/readers.json")
    assert readers["annotations"][0]["bbox"] == [3.2, 3.2, 12.8, 12.8]  # 32 px of 1000 x 2000
    assert "not the size in the table" in artifacts.read_json(tmp_path / "set/dataset.json")["notes"][0]


def test_other_settings_need_another_folder(archive, tmp_path):
    run(archive, tmp_path / "set")
    with pytest.raises(ValueError, match="holds a set of other settings \\(fusion\\); choose another output"):
        run(archive, tmp_path / "set", fusion="none")


BAD = [
    ({"fusion": "median"}, "fusion rule 'median'"),
    ({"findings_only": True, "annotations": None}, "--findings-only needs --annotations"),
    ({"classes": "classes.txt"}, "is not one of card"),
    ({"name": "train"}, "cannot name a set"),
    ({"test_annotations": "x.csv"}, "go together; give both"),
    ({"shard": (3, 2)}, "shard 3/2"),
]


@pytest.mark.parametrize("settings, message", BAD)
def test_bad_input_is_one_line_and_writes_nothing(archive, tmp_path, settings, message):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        run_any(archive, tmp_path / "set", settings)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def run_any(archive, output, settings) -> None:
    images, table = archive
    defaults = {"annotations": table, "name": "own_cxr", "preprocess": RULES, "jobs": 1, "progress": False}
    prepare(PrepareOptions(images, output, **{**defaults, **settings}))


def test_a_folder_of_other_images_is_refused(archive, tmp_path, make_dicom):
    make_dicom([[0, 1]], name="others/x.dicom")
    with pytest.raises(ValueError, match=r"no image of .*train.csv is in .*others"):
        run((tmp_path / "others", archive[1]), tmp_path / "set")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run((tmp_path / "nowhere", archive[1]), tmp_path / "set")


def test_where_no_image_can_be_prepared_nothing_stays(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.dcm").write_text("hello")
    with pytest.raises(ValueError, match=r"none of 1 file could be prepared; a.dcm: neither DICOM"):
        options = PrepareOptions(tmp_path / "images", tmp_path / "set", name="own_cxr", preprocess=RULES, jobs=1)
        prepare(options)
    assert not (tmp_path / "set").exists()


def test_two_runs_in_one_folder_are_refused(archive, tmp_path):
    import fcntl

    (tmp_path / "set/.preparing").mkdir(parents=True)
    with open(tmp_path / "set/.preparing/lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another run is preparing"):
            run(archive, tmp_path / "set")


def test_json_is_sorted_and_finite(archive, tmp_path):
    run(archive, tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.json"):
        text = path.read_text()
        assert "NaN" not in text and "Infinity" not in text
        assert list(json.loads(text)) == sorted(json.loads(text))


def png_archive(folder: Path, number: int = 20, size=(64, 80), orientation: int = 1) -> Path:
    """Write PNGs of (width, height) as they lie in the file, with an EXIF orientation."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for index in range(number):
        pixels = cv2.resize(rng.integers(0, 255, (6, 5)).astype(np.uint8), size)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(folder / f"f{index:02d}.png", exif=exif)
    return folder


def own(images: Path, table: Path, output: Path, **more) -> dict:
    return prepare(
        PrepareOptions(
            images, output, table, name="own_cxr", classes="from-csv", preprocess=RULES, jobs=1, progress=False, **more
        )
    )


def test_boxes_of_images_in_another_size_are_refused_with_the_reason(tmp_path):
    boxes = [[f"f{index:02d}", "Opacity", 0, "R1", 40 + index, 60, 100 + index, 150] for index in range(20)]
    table = write_table(tmp_path / "boxes.csv", boxes)
    with pytest.raises(ValueError, match="beyond the image"):
        own(png_archive(tmp_path / "images"), table, tmp_path / "set")


def test_a_few_boxes_outside_are_one_warning_a_problem_and_on_the_page(tmp_path, caplog):
    boxes = [[f"f{index:02d}", "Opacity", 0, "R1", 10 + index, 20, 40 + index, 70] for index in range(20)]
    boxes[3][4:] = [70, 20, 90, 60]
    counts = own(png_archive(tmp_path / "images"), write_table(tmp_path / "boxes.csv", boxes), tmp_path / "set")
    assert counts["boxes_outside"] == 1 and counts["problems"] == 1
    assert sum("1 box left out, wholly outside" in record.getMessage() for record in caplog.records) == 1
    assert "outside" in (tmp_path / "set/data_quality.html").read_text()
    assert artifacts.read_json(tmp_path / "set/dataset.json")["counts"]["boxes_outside"] == 1


def test_boxes_count_in_the_image_as_viewers_turn_it(tmp_path):
    boxes = [[f"f{index:02d}", "Opacity", 0, "R1", 60, 10, 80, 30] for index in range(20)]  # of 80 x 64 when turned
    images = png_archive(tmp_path / "images", orientation=6)
    counts = own(images, write_table(tmp_path / "boxes.csv", boxes), tmp_path / "set")
    assert counts["boxes_outside"] == counts["boxes_partly_outside"] == 0
    listed = artifacts.read_json(tmp_path / "set/annotations/stratified/train.json")
    assert {(image["source_width"], image["source_height"]) for image in listed["images"]} == {(80, 64)}
    assert {tuple(box["bbox"]) for box in listed["annotations"]} == {(24.0, 5.0, 8.0, 10.0)}
    assert "EXIF Orientation is 6" in (tmp_path / "set/manifest.csv").read_text()


def test_a_file_name_that_is_no_utf8_is_refused_and_the_others_are_prepared(tmp_path):
    images = png_archive(tmp_path / "images", 3)
    os.rename(os.fsencode(images / "f01.png"), os.fsencode(images) + b"/M\xfcller.png")
    options = PrepareOptions(images, tmp_path / "set", name="own_cxr", preprocess=RULES, jobs=1, progress=False)
    assert prepare(options)["prepared"] == 2
    (row,) = [row for row in manifest.read(tmp_path / "set/manifest.csv") if row["outcome"] == "refused"]
    assert row["file"] == "M\\xfcller.png" and row["reason"] == "the file name is not UTF-8; rename the file"
    assert prepare(options)["reused"] == 3


def test_lateral_views_and_other_body_parts_are_counted(tmp_path, make_dicom):
    for index, elements in enumerate([{}, {"ViewPosition": "LL"}, {"BodyPartExamined": "HAND"}]):
        make_dicom(np.arange(64).reshape(8, 8) + index, name=f"images/f{index}.dicom", **elements)
    counts = prepare(
        PrepareOptions(tmp_path / "images", tmp_path / "set", name="own_cxr", preprocess=RULES, jobs=1, progress=False)
    )
    assert counts["not_frontal"] == 1 and counts["not_chest"] == 1 and counts["problems"] == 0
    rows = manifest.read(tmp_path / "set/manifest.csv")
    assert [row["view_position"] for row in rows] == ["", "LL", ""]


def test_sigterm_ends_quietly_with_143_and_the_same_command_goes_on(archive, tmp_path, load_tool):
    tool = Path(__file__).parents[2] / "tools/prepare_vindr_cxr.py"
    command = [sys.executable, str(tool), "--dicom-dir", str(archive[0]), "--annotations", str(archive[1])]
    command += ["--name", "own_cxr", "--size", "32", "--jobs", "1", "--output", str(tmp_path / "set")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(list((tmp_path / "set/images").glob("image*.png"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143 and "Traceback" not in errors
    assert load_tool("prepare_vindr_cxr").main(command[2:]) == 0
    run(archive, tmp_path / "whole", classes="from-csv")  # as the tool does for an own set
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
