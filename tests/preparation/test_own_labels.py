"""Labels of an annotation tool, a split of one's own and labels that cannot be right, through a whole preparation."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from d2_cxr.datasets import builtin, leakage
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.labels.formats.write import write
from d2_cxr.preparation.export_boxes import export_of_labels, export_of_set
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.prepare import prepare

TABLES = ("images", "boxes", "readings")
HEADER = "image_id,class_name,rad_id,x_min,y_min,x_max,y_max,split"


@pytest.fixture
def clinic(tmp_path):
    """Twelve PNG files of 90 x 60 pixels: nine with boxes of two readers, three without findings."""
    rng, rows = np.random.default_rng(0), [HEADER]
    (tmp_path / "images").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"images/f{number}.png"), rng.integers(0, 255, (60, 90), dtype=np.uint8))
        part = ("train", "val", "test")[number % 3]
        for reader in ("R2", "R10"):
            box = f"{10 + number},{5 + number},{50 + number},{40 + number}.5"
            rows.append(
                f"f{number},{'No finding' if number > 8 else 'mass'},{reader},{'' if number > 8 else box},{part}"
            )
    rows = [row.replace("R2,,", "R2,,,,,").replace("R10,,", "R10,,,,,") for row in rows]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def prepared(clinic, name, annotations, **options):
    given = PrepareOptions(
        clinic / "images",
        clinic / name,
        annotations=annotations,
        name=name,
        classes="from-csv",
        preprocess=Preprocess(size=48),
        jobs=1,
        progress=False,
        **options,
    )
    counts = prepare(given)
    return counts, json.loads((clinic / name / "dataset.json").read_text())


def names_of(clinic, name, file):
    content = json.loads((clinic / name / "annotations" / file).read_text())
    return sorted(image["file_name"].removesuffix(".png") for image in content["images"])


def test_every_format_gives_the_set_that_its_table_gives(clinic):
    export = export_of_labels(clinic / "boxes.csv", clinic / "images", class_names="from-csv")
    _, table = prepared(clinic, "csv", clinic / "boxes.csv", split="stratified")
    for name in ("coco", "yolo", "voc", "cvat", "label_studio"):
        write(export, name, clinic / f"to_{name}")
        _, other = prepared(clinic, name, clinic / f"to_{name}")
        for key in ("images_fingerprint", "annotations_fingerprint", "class_names"):
            assert other[key] == table[key], (name, key)


def test_boxes_of_a_prepared_set_come_back_in_source_pixels(clinic):
    prepared(clinic, "csv", clinic / "boxes.csv")
    export = export_of_set(clinic / "csv")
    assert export.images[["width", "height"]].drop_duplicates().values.tolist() == [[90, 60]]
    first = export.boxes[export.boxes["image_name"] == "f3"].iloc[0]
    assert first[["x_min", "y_min", "x_max", "y_max"]].tolist() == pytest.approx([13, 8, 53, 43.5], abs=2e-3)
    assert set(export.boxes["reader_id"]) == {"R2", "R10"} and len(export.readings) == 24
    fused = export_of_set(clinic / "csv", "fused", "prepared")
    assert len(fused.boxes) == 9 and len(fused.images) == 12
    assert fused.images["width"].unique().tolist() == [48]


def test_a_column_split_is_the_split_of_the_set(clinic):
    _, description = prepared(clinic, "own", clinic / "boxes.csv")
    assert description["split"]["rule"] == "column split"
    assert names_of(clinic, "own", "stratified/val.json") == ["f1", "f4", "f7"]
    assert names_of(clinic, "own", "stratified/negative_test.json") == ["f11"]


def test_a_file_of_labels_per_part_is_the_split_of_the_set(clinic):
    prepared(clinic, "csv", clinic / "boxes.csv")
    export = export_of_labels(clinic / "boxes.csv", clinic / "images", class_names="from-csv")
    for number, part in enumerate(("train", "val", "test")):
        own = {f"f{index}" for index in range(number, 12, 3)}
        keep = {key: getattr(export, key)[getattr(export, key)["image_name"].isin(own)] for key in TABLES}
        write(replace(export, **keep), "coco", clinic / "to_coco" / part)
    _, description = prepared(clinic, "parts", clinic / "to_coco")
    assert description["split"]["rule"] == "files"
    for file in ("train.json", "val.json", "negative_test.json"):
        assert names_of(clinic, "parts", f"stratified/{file}") == names_of(clinic, "csv", f"stratified/{file}") != []
    assert prepared(clinic, "mixed", clinic / "to_coco", split="stratified")[1]["split"]["rule"] == "stratified"


def test_more_labels_leave_the_test_images_of_an_earlier_set_in_place(clinic, caplog):
    lines = (clinic / "boxes.csv").read_text().replace(",split", "").replace(",train", "").replace(",val", "")
    lines = lines.replace(",test", "").splitlines()
    patients = {"patients": with_patients(clinic, "list", "abcdefgahijk")["patients"]}  # f0 and f7 are of one patient
    (clinic / "few.csv").write_text("\n".join(line for line in lines if "f0," not in line and "f1," not in line))
    (clinic / "all.csv").write_text("\n".join(line for line in lines if "f11," not in line))
    (clinic / "split.csv").write_text(
        "image_id,patient_id,split\n"
        + "".join(f"f{n},{'abcdefgahijk'[n]},{'test' if n in (7, 11) else 'train'}\n" for n in range(2, 12))
    )
    prepared(clinic, "first", clinic / "few.csv", patients=clinic / "split.csv")
    assert names_of(clinic, "first", "stratified/test.json") == ["f7"]
    _, description = prepared(clinic, "second", clinic / "all.csv", split_like=clinic / "first", **patients)
    assert description["split"]["rule"].startswith("val and test of first (")
    assert names_of(clinic, "second", "stratified/test.json") == ["f0", "f7"]
    assert names_of(clinic, "second", "stratified/train.json") == ["f1", "f2", "f3", "f4", "f5", "f6", "f8"]
    assert "1 of 2 val and test images of" in caplog.text
    with pytest.raises(ValueError, match="--split-like needs --annotations and replaces"):
        prepared(clinic, "third", clinic / "all.csv", split_like=clinic / "first", split="all-test")
    with pytest.raises(FileNotFoundError, match="no finished prepared set"):
        prepared(clinic, "third", clinic / "all.csv", split_like=clinic / "images")


def with_patients(clinic, name, patients):
    lines = ["image_id,patient_id", *(f"f{number},{patient}" for number, patient in enumerate(patients))]
    (clinic / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return {"patients": clinic / f"{name}.csv", "patient_key": clinic / "key.txt"}


def test_a_test_set_of_another_folder_with_common_patients_is_refused(clinic):
    ours, theirs = [f"MRN-{number:04}" for number in range(12)], [f"other-{number}" for number in range(10)]
    (clinic / "test").mkdir()
    for number in range(12):  # other images: nothing but the patient is the same
        pixels = np.random.default_rng(number + 1).integers(0, 255, (60, 90), dtype=np.uint8)
        cv2.imwrite(str(clinic / f"test/f{number}.png"), pixels)
    prepared(clinic, "ours", clinic / "boxes.csv", split="all-train", **with_patients(clinic, "ours", ours))
    (clinic / "images").rename(clinic / "kept")
    (clinic / "test").rename(clinic / "images")
    spelled = ["mrn-3 ", " MRN-0007", *theirs]
    prepared(clinic, "theirs", clinic / "boxes.csv", split="all-test", **with_patients(clinic, "theirs", spelled))
    for name in ("ours", "theirs"):
        builtin.register_prepared(name, clinic / name)
        assert not any(b"MRN-" in path.read_bytes().upper() for path in (clinic / name).rglob("*.[jch]*"))
    message = "2 images leak held-out images, 2 patients are on both sides .*f3 is of the same patient as f0 of theirs"
    with pytest.raises(leakage.LeakageError, match=message):
        leakage.refuse_leaks([named_set("ours_train")], [named_set("theirs_test")])


def test_pseudonyms_of_patients_need_patients_and_a_key_outside_the_set(clinic):
    with pytest.raises(ValueError, match="--patient-key needs patients; give --patients"):
        prepared(clinic, "own", clinic / "boxes.csv", patient_key=clinic / "key.txt")
    given = with_patients(clinic, "list", "abcdefghijkl") | {"patient_key": clinic / "own/key.txt"}
    with pytest.raises(ValueError, match="keep it outside the set"):
        prepared(clinic, "own", clinic / "boxes.csv", **given)
    assert not (clinic / "own").exists()


def test_all_images_in_train_leave_a_note(clinic):
    _, description = prepared(clinic, "all", clinic / "boxes.csv", split="all-train")
    assert len(names_of(clinic, "all", "stratified/train.json")) == 9
    assert description["notes"] == ["no image with findings is in val, test: you cannot train on it or test with it"]


def test_labels_of_images_in_another_size_are_refused(clinic):
    lines = (clinic / "boxes.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines[1:19]]
    doubled = [",".join([*c[:3], *(str(4 * float(number)) for number in c[3:7]), c[7]]) for c in cells]
    (clinic / "doubled.csv").write_text("\n".join([HEADER, *doubled]) + "\n")
    with pytest.raises(ValueError, match=r"of 18 boxes reach beyond the image: .*another size"):
        prepared(clinic, "doubled", clinic / "doubled.csv")


@pytest.mark.parametrize("options", [{"split": "mine"}, {"split": "all-train", "split_by": "site=B"}])
def test_options_that_contradict_each_other_are_refused(clinic, options):
    with pytest.raises(ValueError, match=r"not one of stratified|--split-by replaces --split"):
        prepared(clinic, "bad", clinic / "boxes.csv", **options)
