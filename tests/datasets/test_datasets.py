"""Names of prepared sets: what they mean, how they are refused, and that other Detectron2 code reads them."""

import os
import pickle
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, loading, named_sets, set_folders
from d2_cxr.labels import class_names, coco, splits, vindr_cxr
from d2_cxr.labels.fusion import fuse_annotations

COLUMNS = ["image_name", "class_name", "reader_id", "x_min", "y_min", "x_max", "y_max"]
CLASSES = ("Left lung", "Right lung")


@pytest.fixture
def registry(monkeypatch):
    """Forget what a test registers, in our table; Detectron2's catalog is overwritten by the next test."""
    monkeypatch.setattr(set_folders, "FOLDERS", dict(set_folders.FOLDERS))
    monkeypatch.setattr(set_folders, "OWN", set(set_folders.OWN))


def image_rows(image_names, patients=None):
    size = {"width": 64, "height": 64, "source_width": 640, "source_height": 320}
    patients = patients or {}
    rows = [
        {"id": n + 1, "image_name": image, "file_name": f"{image}.png", **size}
        for n, image in enumerate(sorted(image_names))
    ]
    return {row["image_name"]: {**row, "patient": patients.get(row["image_name"])} for row in rows}


def write_prepared(folder: Path, split, rows, negative=None, unknown=(), classes=CLASSES, name="stratified") -> Path:
    """Write the JSON, manifest and images of a prepared set whose images have one box of the first class each."""
    boxes = pd.DataFrame([(image, classes[0], "R1", 1, 2, 11, 22) for image in rows], columns=COLUMNS)
    fused = fuse_annotations(boxes)
    for part, images in split.items():
        content = coco.to_coco([rows[image] for image in images], fused, classes)
        artifacts.write_json(folder / f"annotations/{name}/{part}.json", content)
    for part, images in (negative or {}).items():
        content = coco.to_coco([rows[image] for image in images], fused.iloc[:0], classes)
        artifacts.write_json(folder / f"annotations/{name}/negative_{part}.json", content)
    unlabeled = coco.to_coco([rows[image] for image in unknown], fused.iloc[:0], classes)
    artifacts.write_json(folder / "annotations/unlabeled.json", unlabeled)
    artifacts.write_json(
        folder / "dataset.json", {"class_names": list(classes), "format_version": named_sets.FORMAT_VERSION}
    )
    hashes = [{"image_name": image, "source_sha256": f"s{image}", "image_sha256": f"i{image}"} for image in rows]
    artifacts.write_csv(folder / "manifest.csv", hashes, ["image_name", "source_sha256", "image_sha256"])
    return folder


@pytest.fixture
def own_set(tmp_path, registry):
    """An own set "lungs": 20 images of 10 patients with findings, 3 negative ones, 2 unknown."""
    images = [f"f{n:02}" for n in range(20)]
    patients = {image: n // 2 + 1 for n, image in enumerate(images)}
    rows = image_rows([*images, "n0", "n1", "n2", "u0", "u1"], patients)
    split = splits.stratified_split(images, np.ones((20, 1)), 0, patients)
    negative = {"train": ["n0"], "val": ["n1"], "test": ["n2"]}
    folder = write_prepared(tmp_path / "elsewhere", split, rows, negative, ["u0", "u1"])
    builtin.register_prepared("lungs", folder)
    return folder


@pytest.mark.parametrize(
    "name, json_path, kind, percent, seed",
    [
        ("vindr_cxr_train", "published/train.json", "boxes", None, None),
        ("vindr_cxr_test", "published/test.json", "boxes", None, None),
        ("vindr_cxr_train_labeled_60", "published/train.json", "boxes", 60, None),
        ("vindr_cxr_train_unlabeled_40", "published/train.json", "unlabeled", 60, None),
        ("vindr_cxr_train_unlabeled", "published/train.json", "unlabeled", None, None),
        ("vindr_cxr_negative_val", "published/negative_val.json", "negative", None, None),
        ("vindr_cxr_unlabeled", "unlabeled.json", "unlabeled", None, None),
        ("vindr_cxr_official_test", "official_test.json", "boxes", None, None),
        ("vindr_cxr_stratified_val", "stratified/val.json", "boxes", None, None),
        ("vindr_cxr_stratified_train_labeled_30_seed4", "stratified/train.json", "boxes", 30, 4),
        ("vindr_cxr_stratified_negative_train", "stratified/negative_train.json", "negative", None, None),
        ("phantom_cxr_train", "stratified/train.json", "boxes", None, None),
        ("phantom_cxr_train_unlabeled_70_seed0", "stratified/train.json", "unlabeled", 30, 0),
        ("phantom_cxr_train_unlabeled_70_seed0_pool_25_seed0", "stratified/train.json", "unlabeled", 30, 0),
        ("phantom_cxr_negative_train_pool_5_seed1", "stratified/negative_train.json", "negative", None, None),
        ("vindr_cxr_unlabeled_pool_25_seed1", "unlabeled.json", "unlabeled", None, None),
    ],
)
def test_a_name_says_file_kind_and_share(name, json_path, kind, percent, seed):
    named = named_sets.named_set(name)
    assert named.json == named.folder / "annotations" / json_path and named.kind == kind
    assert (named.percent_labeled, named.seed) == (percent, seed)


@pytest.mark.parametrize(
    "name",
    [
        "coco_2017_train",
        "vindr_cxr",
        "vindr_cxr_train_labeled",
        "vindr_cxr_train_labeled_35",
        "vindr_cxr_train_labeled_30_seed10",
        "vindr_cxr_stratified_unlabeled",
        "vindr_cxr_stratified_official_test",
        "phantom_cxr_stratified_train",
        "phantom_cxr_official_test",
        "phantom_cxr_train_pool_25_seed0",
        "phantom_cxr_train_labeled_30_seed0_pool_25_seed0",
        "phantom_cxr_negative_test_pool_25_seed0",
        "phantom_cxr_unlabeled_pool_100_seed0",
        "phantom_cxr_unlabeled_pool_25",
        "phantom_cxr_unlabeled_pool_25_seed0_pool_25_seed0",
    ],
)
def test_a_name_that_means_nothing_is_refused(name):
    for kind in (KeyError, ValueError):  # as Detectron2's catalog says it, and as a user's mistake
        with pytest.raises(kind, match=f"^no data set '{name}'; known sets are"):
            named_sets.named_set(name)


@pytest.mark.parametrize("content", [{"format_version": 2}, {"class_names": "Mass"}, {"class_names": [1]}, ["Mass"]])
def test_a_set_whose_classes_cannot_be_read_is_refused_by_the_file(tmp_path, registry, content):
    artifacts.write_json(tmp_path / "dataset.json", content)
    with pytest.raises(ValueError, match=r"dataset\.json: class_names is not a list of names; prepare the set again"):
        builtin.register_prepared("torn_cxr", tmp_path)
        _ = named_sets.named_set("torn_cxr_train").class_names


def test_a_name_of_an_earlier_version_is_refused_with_the_present_one():
    with pytest.raises(
        ValueError, match="no data set 'vindr_cxr_normal_test'; it is called vindr_cxr_negative_test now"
    ):
        named_sets.named_set("vindr_cxr_normal_test")


def test_a_set_of_an_earlier_version_is_refused_with_the_way_out(own_set):
    builtin.register_prepared("lungs", own_set)
    values = artifacts.read_json(own_set / "dataset.json")
    artifacts.write_json(own_set / "dataset.json", {**values, "format_version": 1})
    with pytest.raises(
        ValueError, match=r"dataset\.json has format 1, .* reads 2; prepare the set again: python tools"
    ):
        named_sets.named_set("lungs_train").images()


def test_a_prepared_set_below_the_root_is_known_without_registering_it(own_set, tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    own_set.rename(tmp_path / "root" / "clinic")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    assert named_sets.named_set("clinic_train").exists
    assert named_sets.named_set("clinic_test").class_names == CLASSES


def test_every_listed_name_can_be_parsed_and_is_listed_once():
    for set_name in set_folders.BUILTIN:
        listed = named_sets.sets_of(set_name)
        assert len(set(listed)) == len(listed)
        assert {named.set_name for named in listed} == {set_name}
    assert len(named_sets.sets_of("phantom_cxr")) == 3 + 18 + 1 + 3 + 1


def test_fractions_are_cut_from_the_jsons_order_and_complete_each_other(own_set):
    train = named_sets.named_set("lungs_train").image_names()
    for percent in range(10, 100, 10):
        for ending in ("", "_seed2"):
            labeled = named_sets.named_set(f"lungs_train_labeled_{percent}{ending}").image_names()
            unlabeled = named_sets.named_set(f"lungs_train_unlabeled_{100 - percent}{ending}").image_names()
            assert sorted(labeled + unlabeled) == sorted(train)
            assert not {image[:-1] + str(int(image[-1]) // 2) for image in labeled} & {
                image[:-1] + str(int(image[-1]) // 2) for image in unlabeled
            }  # f04 and f05 are one patient
    assert named_sets.named_set("lungs_train_labeled_30").image_names() == train[-4:]


def test_seeded_fractions_are_nested(own_set):
    small, large = (
        set(named_sets.named_set(f"lungs_train_labeled_{percent}_seed5").image_names()) for percent in (30, 60)
    )
    assert small < large


def test_pools_are_nested_keep_patients_whole_and_have_another_order_than_the_labels(own_set):
    train = named_sets.named_set("lungs_train_unlabeled").image_names()  # 14 images of 7 patients
    small, large = (
        named_sets.named_set(f"lungs_train_unlabeled_pool_{percent}_seed5").image_names() for percent in (30, 60)
    )
    assert (len(train), len(small), len(large)) == (14, 4, 8) and set(small) < set(large) < set(train)
    assert all(len({image for image in small if int(image[1:]) // 2 == patient}) in (0, 2) for patient in range(10))
    labeled = named_sets.named_set("lungs_train_labeled_30_seed5").image_names()
    assert len(labeled) == 4 and set(labeled) != set(small)


def test_a_pool_of_a_fractions_complement_has_none_of_its_labeled_images(own_set):
    labeled = named_sets.named_set("lungs_train_labeled_30_seed1").image_names()
    complement = named_sets.named_set("lungs_train_unlabeled_70_seed1").image_names()
    pool = named_sets.named_set("lungs_train_unlabeled_70_seed1_pool_50_seed1").image_names()
    assert set(pool) < set(complement) and not set(pool) & set(labeled) and len(pool) == 4  # of 10, patients whole


def test_images_for_pretraining_come_without_detectron2_and_without_labels(own_set):
    images = loading.prepared_images(
        map(named_sets.named_set, ["lungs_unlabeled", "lungs_negative_train", "lungs_unlabeled"])
    )
    assert images == [
        {
            "image_name": image,
            "file_name": str(own_set / "images" / f"{image}.png"),
            "source_sha256": f"s{image}",
            "image_sha256": f"i{image}",
        }
        for image in ("u0", "u1", "n0")
    ]


def test_an_image_that_the_manifest_does_not_know_is_refused(own_set):
    artifacts.write_csv(own_set / "manifest.csv", [], ["image_name", "source_sha256", "image_sha256"])
    with pytest.raises(ValueError, match="has no row for image u0 of lungs_unlabeled"):
        loading.prepared_images([named_sets.named_set("lungs_unlabeled")])


def test_a_missing_set_is_refused_with_file_root_and_command(tmp_path, monkeypatch, registry):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    set_folders.FOLDERS.clear()
    with pytest.raises(FileNotFoundError) as refusal:
        loading.load(named_sets.named_set("vindr_cxr_train_labeled_60"))
    line = str(refusal.value)
    assert "\n" not in line
    for part in (
        "vindr_cxr_train_labeled_60",
        str(tmp_path / "vindr_cxr/annotations/published/train.json"),
        f"$DETECTRON2_DATASETS is {tmp_path}",
        "python tools/prepare_vindr_cxr.py --dicom-dir DIR --annotations TRAIN.csv --name vindr_cxr",
        f"--output {tmp_path / 'vindr_cxr'}",
    ):
        assert part in line


def test_a_published_split_that_was_not_written_says_why(tmp_path, registry):
    note = "the published split was not written: it lacks 3 of its 4,394 images"
    artifacts.write_json(tmp_path / "vindr_cxr/dataset.json", {"class_names": [], "notes": [note]})
    set_folders.FOLDERS["vindr_cxr"] = tmp_path / "vindr_cxr"
    with pytest.raises(FileNotFoundError, match="it lacks 3 of its 4,394 images; the stratified names are"):
        loading.load(named_sets.named_set("vindr_cxr_val"))


def test_other_images_do_not_pass_for_the_published_split(tmp_path, registry, monkeypatch):
    rows = image_rows("abcd")
    split = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    folder = write_prepared(tmp_path / "vindr_cxr", split, rows, classes=vindr_cxr.CLASS_NAMES, name="published")
    set_folders.FOLDERS["vindr_cxr"] = folder
    with pytest.raises(ValueError, match=r"the 2 images of .* are not those of the published split"):
        named_sets.named_set("vindr_cxr_train").image_names()
    fingerprints = {part: artifacts.sha256_lines(images) for part, images in split.items()}
    monkeypatch.setattr(vindr_cxr, "FINGERPRINTS", fingerprints)
    assert named_sets.named_set("vindr_cxr_train").image_names() == ["a", "b"]


def test_classes_come_from_the_set_and_else_from_its_card(own_set, tmp_path):
    assert named_sets.named_set("lungs_train_labeled_10").class_names == set_folders.classes_of_set("lungs") == CLASSES
    assert named_sets.named_set("vindr_cxr_test").class_names == vindr_cxr.CLASS_NAMES
    builtin.register_prepared("later", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"later_test: .*dataset\.json is missing"):
        _ = named_sets.named_set("later_test").class_names


@pytest.mark.parametrize("name", ["", "train", "negative_val", "a b", "../x"])
def test_a_set_cannot_have_a_name_that_is_no_name(name, tmp_path):
    with pytest.raises(ValueError, match="cannot name a set"):
        builtin.register_prepared(name, tmp_path)


def test_the_longest_set_name_wins(own_set, tmp_path):
    builtin.register_prepared("lungs_train", tmp_path / "other")
    assert named_sets.named_set("lungs_train_train").folder == tmp_path / "other"
    assert named_sets.named_set("lungs_val").folder == own_set


def test_a_name_that_is_several_spellings_of_one_is_matched():
    assert class_names.match_to_card(["nodule mass"], ["Nodule/Mass"], {}) == {"nodule mass": "Nodule/Mass"}
    assert class_names.names_of_table(["b", "A", "No finding", "B"]) == ("A", "b")


class TestDetectron2:
    """What other Detectron2 code sees."""

    @pytest.fixture(autouse=True)
    def catalogs(self, registry):
        pytest.importorskip("detectron2", reason="Detectron2 is not installed: make setup")
        from detectron2.data.catalog import DatasetCatalog, MetadataCatalog

        self.datasets, self.metadata = DatasetCatalog, MetadataCatalog

    def test_registering_twice_is_no_error_and_the_last_root_holds(self, tmp_path):
        builtin.register_all(tmp_path / "one")
        builtin.register_all(tmp_path / "two")
        metadata = self.metadata.get("vindr_cxr_stratified_test")
        assert metadata.json_file == str(tmp_path / "two/vindr_cxr/annotations/stratified/test.json")
        assert metadata.image_root == str(tmp_path / "two/vindr_cxr/images")
        assert metadata.prepared_root == str(tmp_path / "two/vindr_cxr")
        assert metadata.evaluator_type == "coco"  # so that Detectron2's own scripts evaluate it
        for share in ("train_labeled_30", "train_unlabeled", "negative_test"):  # all of json_file would be wrong there
            assert self.metadata.get(f"vindr_cxr_stratified_{share}").evaluator_type == "cxr"
        assert metadata.thing_classes == list(vindr_cxr.CLASS_NAMES)
        assert metadata.thing_dataset_id_to_contiguous_id == {n + 1: n for n in range(14)}

    def test_boxes_come_as_detectron2_dicts(self, own_set):
        builtin.register_prepared("lungs", own_set)
        records = self.datasets.get("lungs_train_labeled_30")
        assert [Path(record["file_name"]).stem for record in records] == named_sets.named_set(
            "lungs_train_labeled_30"
        ).image_names()
        record = records[0]
        assert Path(record["file_name"]).parent == own_set / "images"
        assert "image" not in record and isinstance(record["image_id"], int)
        assert (record["height"], record["width"], record["patient"]) == (
            64,
            64,
            int(Path(record["file_name"]).stem[1:]) // 2 + 1,
        )
        (annotation,) = record["annotations"]
        assert annotation["bbox"] == [1.0, 2.0, 10.0, 20.0]
        assert (annotation["category_id"], annotation["bbox_mode"].name, annotation["num_readers"]) == (
            0,
            "XYWH_ABS",
            1,
        )
        assert self.metadata.get("lungs_train_labeled_30").thing_classes == list(CLASSES)

    def test_unlabeled_names_show_no_annotation_and_negative_ones_an_empty_list(self, own_set):
        builtin.register_prepared("lungs", own_set)
        for name in ("lungs_train_unlabeled", "lungs_train_unlabeled_70_seed1", "lungs_unlabeled"):
            assert all("annotations" not in record for record in self.datasets.get(name))
        assert [record["annotations"] for record in self.datasets.get("lungs_negative_test")] == [[]]

    def test_every_name_of_an_own_set_is_read_by_load_coco_json(self, own_set):
        from detectron2.data.datasets import load_coco_json

        builtin.register_prepared("lungs", own_set)
        for name in (named.name for named in named_sets.sets_of("lungs")):
            metadata = self.metadata.get(name)
            plain = load_coco_json(metadata.json_file, metadata.image_root, name)
            ours = {record["image_id"] for record in self.datasets.get(name)}
            assert ours <= {record["image_id"] for record in plain}
            assert ours or "labeled_10" in name or "unlabeled_10" in name

    def test_classes_that_contradict_the_registered_ones_are_refused(self, tmp_path):
        rows = image_rows("abc")
        split = {"train": ["a"], "val": ["b"], "test": ["c"]}
        write_prepared(tmp_path / "phantom_cxr", split, rows)
        builtin.register_all(tmp_path)
        with pytest.raises(ValueError, match=r"has the classes \['Left lung', 'Right lung'\], registered are"):
            self.datasets.get("phantom_cxr_train")

    def test_a_pool_that_shows_a_held_out_image_is_not_loaded(self, own_set):
        builtin.register_prepared("lungs", own_set)
        held_out = named_sets.named_set("lungs_test").image_names()[0]
        rows = artifacts.read_csv(own_set / "manifest.csv")
        for row in rows:
            row["image_sha256"] = "same" if row["image_name"] in ("u1", held_out) else row["image_sha256"]
        artifacts.write_csv(own_set / "manifest.csv", rows, list(rows[0]))
        with pytest.raises(ValueError, match=f"u1 is the same pixels as {held_out} of lungs_test"):
            self.datasets.get("lungs_unlabeled")
        assert self.datasets.get("lungs_train_unlabeled")

    def test_loaders_can_be_sent_to_another_process(self, own_set):
        loader = pickle.loads(pickle.dumps(builtin._Loader("lungs_test")))
        assert [Path(record["file_name"]).stem for record in loader()] == named_sets.named_set(
            "lungs_test"
        ).image_names()

    def test_detectron2s_own_visualize_data_draws_the_set(self, own_set, monkeypatch, tmp_path):
        tool = Path(__file__).resolve().parents[2] / "build/detectron2-tools/visualize_data.py"
        if not tool.is_file():
            pytest.skip(f"{tool} is missing: make setup")
        import cv2

        builtin.register_prepared("lungs", own_set)
        (own_set / "images").mkdir()
        for image in [*named_sets.named_set("lungs_val").image_names(), "u0", "u1"]:
            cv2.imwrite(str(own_set / "images" / f"{image}.png"), np.full((64, 64), 90, np.uint8))
        names_drawn = "('lungs_val', 'lungs_unlabeled')"
        argv = ["visualize_data.py", "--source", "annotation", "--output-dir", str(tmp_path / "drawn")]
        monkeypatch.setattr(sys, "argv", [*argv, "DATASETS.TRAIN", names_drawn])
        runpy.run_path(str(tool), run_name="__main__")
        drawn = {path.stem for path in (tmp_path / "drawn").iterdir()}
        assert drawn == {*named_sets.named_set("lungs_val").image_names(), "u0", "u1"}


def test_no_annotation_row_of_vindr_cxr_is_in_the_repository(vinbigdata_csv):
    """Image ids of the real file appear in no text file that is kept."""
    root = Path(__file__).resolve().parents[2]
    ids = set(pd.read_csv(vinbigdata_csv, usecols=["image_id"])["image_id"])
    skipped = {".git", ".venv", "venv", "build", "output", "datasets", "__pycache__", ".pytest_cache", ".ruff_cache"}
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if name not in skipped or here.parts[:1] == ("d2_cxr",)]
        for file in files:
            if Path(file).suffix in {".py", ".md", ".yaml", ".json", ".csv", ".txt", ".html", ".lock", ".toml", ".svg"}:
                text = (Path(folder) / file).read_text(encoding="utf-8", errors="ignore")
                words = set(re.findall(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", text))
                assert not words & ids, f"{here / file} names an image of VinDr-CXR"
