"""A split of one's own: by a column, by held-out values, or all in train."""

import logging

import pytest

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.given_splits import choose_parts, given_split, read_column

HEADER = "image_id,class_name,rad_id,x_min,y_min,x_max,y_max"


@pytest.fixture
def labels(tmp_path):
    """Twelve images f0 … f11 with a box, and four, n0 … n3, without findings."""

    def make(split=None):
        names = [f"f{i}" for i in range(12)] + [f"n{i}" for i in range(4)]
        rows = [
            f"{name},{'mass,R1,1,2,30,40' if name[0] == 'f' else 'No finding,R1,,,,'}"
            + (f",{split(name)}" if split else "")
            for name in names
        ]
        path = tmp_path / "boxes.csv"
        path.write_text("\n".join([HEADER + (",Split" if split else ""), *rows]) + "\n")
        return path

    return make


def choose(path, rule=None, split_by=None, patients=None, csvs=None):
    return choose_parts(read_annotations(path, "from-csv"), csvs or [path], rule, split_by, patients, seed=0)


def thirds(name: str) -> str:
    return ("Train", "valid", "TEST")[int(name[1:]) % 3]


def test_a_column_split_is_the_split(labels):
    parts, rule = choose(labels(thirds))
    assert rule == "column split"
    assert (parts["f0"], parts["f1"], parts["f2"], parts["n2"]) == ("train", "val", "test", "test")
    split = given_split([f"f{i}" for i in range(12)], parts, seed=3, patients=None)
    assert {part: sorted(images) for part, images in split.items()} == {
        "train": ["f0", "f3", "f6", "f9"],
        "val": ["f1", "f10", "f4", "f7"],
        "test": ["f11", "f2", "f5", "f8"],
    }
    assert choose(labels(thirds), "stratified") is None


def test_without_a_column_the_split_is_stratified_unless_asked_for(labels):
    assert choose(labels()) is None
    with pytest.raises(ValueError, match=r"no column split next to a column of image names: looked in .*boxes.csv"):
        choose(labels(), "given")


def test_a_column_of_other_words_is_not_used_unless_asked_for(labels, caplog):
    path = labels(lambda name: f"fold{name[1:]}")
    with caplog.at_level(logging.WARNING):
        assert choose(path) is None
    assert "it is not used" in caplog.text
    with pytest.raises(ValueError, match="image f0: split is 'fold0', which is not one of train, val, test"):
        choose(path, "given")


def test_an_image_without_a_part_is_refused(labels):
    path = labels(lambda name: "" if name == "f4" else "train")
    with pytest.raises(ValueError, match="no split for 1 of 16 images, first f4"):
        choose(path, "given")


def test_a_patient_in_two_parts_is_refused_by_name(labels):
    with pytest.raises(ValueError, match=r"patient P7 has images in train \(f0\) and in val \(f1\)"):
        choose(labels(thirds), patients={"f0": "P7", "f1": "P7"})


def test_a_held_out_site_is_the_test_set_and_the_rest_is_divided_by_patient(labels, tmp_path):
    images = tmp_path / "images.csv"
    names = [f"f{i}" for i in range(12)] + [f"n{i}" for i in range(4)]
    lines = [f"{name}.png,{'B' if name in ('f1', 'f2', 'n3') else 'A'}" for name in names]
    images.write_text("\n".join(["image_id,site", *lines]) + "\n")
    patients = {"f5": "P1", "f6": "P1"}
    parts, rule = choose(labels(), split_by="site=b", patients=patients, csvs=[images])
    assert rule == "by site=b"
    assert sorted(image for image in parts if parts[image] == "test") == ["f1", "f2", "n3"]
    assert {"train", "val"} == set(parts.values()) - {"test"} and parts["f5"] == parts["f6"]
    with pytest.raises(ValueError, match="no image has site c; there are A, B"):
        choose(labels(), split_by="site=C", csvs=[images])
    with pytest.raises(ValueError, match=r"patient P1 has images in rest|patient P1 has images in test"):
        choose(labels(), split_by="site=B", patients={"f0": "P1", "f1": "P1"}, csvs=[images])


@pytest.mark.parametrize("part", ["train", "test"])
def test_all_images_can_be_in_one_part(labels, part):
    parts, rule = choose(labels(), f"all-{part}")
    assert set(parts.values()) == {part} and len(parts) == 16 and rule == f"all-{part}"


def test_a_fold_is_test_and_the_next_one_is_val(labels, tmp_path):
    """Folds 8, 9, 10 and 11, which are in this order, not in that of their letters."""
    table = tmp_path / "images.csv"
    names = [f"f{i}" for i in range(12)] + [f"n{i}" for i in range(4)]
    table.write_text("\n".join(["image_id,Fold", *(f"{name},{8 + int(name[1:]) % 4}" for name in names)]) + "\n")
    parts, rule = choose(labels(), split_by="fold=9", csvs=[table])
    assert rule == "by fold=9"
    assert [parts[f"f{i}"] for i in range(4)] == ["train", "test", "val", "train"] and parts["n1"] == "test"
    parts, _ = choose(labels(), split_by="fold=11", csvs=[table])
    assert [parts[f"f{i}"] for i in range(4)] == ["val", "train", "train", "test"]
    with pytest.raises(ValueError, match=r"--split-by fold needs the fold to test on, .*--split-by fold=8"):
        choose(labels(), split_by="fold", csvs=[table])
    with pytest.raises(ValueError, match="no image has fold 3; there are 8, 9, 10, 11"):
        choose(labels(), split_by="fold=3", csvs=[table])
    with pytest.raises(ValueError, match="4 folds leave none for val and train beside fold 10, 8, 9"):
        choose(labels(), split_by="fold=8,9,10", csvs=[table])
    with pytest.raises(ValueError, match=r"patient P1 has images in test \(f0\) and in val \(f1\)"):
        choose(labels(), split_by="fold=8", csvs=[table], patients={"f0": "P1", "f1": "P1"})


def test_an_image_with_two_values_is_refused(labels):
    path = labels(thirds)
    path.write_text(path.read_text() + "f0,mass,R2,1,2,30,41,test\n")
    with pytest.raises(ValueError, match="image f0 has two values of split: 'Train' and 'test'"):
        read_column(path, "split")
