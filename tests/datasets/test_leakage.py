"""Images on both sides: exact copies and shared patients stop a pool from being loaded, and are named."""

import pytest

from d2_cxr import artifacts
from d2_cxr.audit import near_duplicates
from d2_cxr.datasets import builtin, leakage, manifest, named_sets, set_folders


def sets(*names):
    return [named_sets.named_set(name) for name in names]


@pytest.fixture
def make_set(tmp_path, monkeypatch):
    """Return a function that writes the lists and the manifest of a set, without pictures."""
    monkeypatch.setattr(set_folders, "FOLDERS", dict(set_folders.FOLDERS))
    monkeypatch.delenv(leakage.ALLOW_VARIABLE, raising=False)

    def make(name, parts, radiographs):
        """parts: path -> images; images: image -> (source hash, pixel hash, patient)."""
        folder = tmp_path / name
        for path, members in parts.items():
            images = [
                {"id": list(radiographs).index(image) + 1, "file_name": f"{image}.png", "width": 8, "height": 8}
                | ({} if radiographs[image][2] is None else {"patient": radiographs[image][2]})
                for image in members
            ]
            coco = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "Finding"}]}
            artifacts.write_json(folder / "annotations" / f"{path}.json", coco)
        rows = [
            {
                **dict.fromkeys(manifest.COLUMNS, ""),
                "image_name": image,
                "part": "images",
                "outcome": "prepared",
                "source_sha256": source,
                "image_sha256": pixels,
            }
            for image, (source, pixels, _) in radiographs.items()
        ]
        manifest.write(folder / "manifest.csv", rows)
        artifacts.write_json(folder / "dataset.json", {"format_version": 2, "name": name, "class_names": ["Finding"]})
        builtin.register_prepared(name, folder)
        return folder

    return make


IMAGES = {
    "a": ("s1", "p1", 1),
    "b": ("s2", "p2", 2),
    "c": ("s3", "p3", 3),
    "u1": ("s1", "p9", 7),  # the file of a
    "u2": ("s8", "p2", 8),  # the pixels of b
    "u3": ("s7", "p7", 3),  # the patient of c
    "u4": ("s6", "p6", 9),
}
PARTS = {
    "stratified/train": ["a"],
    "stratified/val": ["b"],
    "stratified/test": ["c"],
    "unlabeled": ["u1", "u2", "u3", "u4"],
}


def test_copies_and_patients_of_val_and_test_are_found_and_those_of_train_are_no_leak(make_set):
    make_set("own", PARTS, IMAGES)
    leaks = leakage.find_leaks(sets("own_unlabeled"))
    assert [(leak.image, leak.held_out_image, leak.held_out, leak.why) for leak in leaks] == [
        ("u2", "b", "own_val", "the same pixels"),
        ("u3", "c", "own_test", "of the same patient"),
    ]


def test_a_pool_that_leaks_is_refused_by_name(make_set):
    make_set("own", PARTS, IMAGES)
    with pytest.raises(leakage.LeakageError) as error:
        leakage.refuse_leaks(sets("own_unlabeled"))
    message = str(error.value)
    assert "own_unlabeled: 2 images" in message and "u2 is the same pixels as b of own_val" in message
    assert "--allow FILE" in message and "\n" not in message


def test_a_cut_pool_is_compared_with_val_and_test_as_the_whole_one_is(make_set):
    make_set("own", PARTS, IMAGES)
    cut = "own_unlabeled_pool_75_seed0"
    kept = set(named_sets.named_set(cut).image_names())
    found = {(leak.image, leak.held_out) for leak in leakage.find_leaks([named_sets.named_set(cut)])}
    assert len(kept) == 3 and found == {pair for pair in (("u2", "own_val"), ("u3", "own_test")) if pair[0] in kept}
    with pytest.raises(leakage.LeakageError, match=f"{cut}: [12] images? leaks?"):
        leakage.refuse_leaks([named_sets.named_set(cut)])


def test_images_that_are_allowed_may_stay(make_set, tmp_path):
    make_set("own", PARTS, IMAGES)
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("u2\n")
    leakage.allow(allowed)
    with pytest.raises(leakage.LeakageError, match="own_unlabeled: 1 image leaks"):
        leakage.refuse_leaks(sets("own_unlabeled"))
    allowed.write_text("u2\nu3\n")
    leakage.refuse_leaks(sets("own_unlabeled"))
    with pytest.raises(FileNotFoundError, match="list in it the images to allow"):
        leakage.allow(tmp_path / "none.txt")


def test_near_copies_that_preparation_found_are_leaks(make_set):
    images = {name: (f"s{name}", f"p{name}", None) for name in "abcu"}
    parts = {"stratified/train": ["a"], "stratified/val": ["b"], "stratified/test": ["c"], "unlabeled": ["u"]}
    folder = make_set("own", parts, images)
    assert leakage.find_leaks(sets("own_train", "own_unlabeled")) == []
    pairs = [("c", "a", "cropped", "0.951"), ("b", "u", "mirrored", "1.000"), ("u", "a", "mirrored", "0.999")]
    near_duplicates.write(folder, [dict(zip(near_duplicates.COLUMNS, pair, strict=True)) for pair in pairs])
    with pytest.raises(
        leakage.LeakageError, match=r"own_train: 1 image leaks .*a is the same image \(cropped\) as c of own_test"
    ):
        leakage.refuse_leaks(sets("own_train"))
    assert [(leak.image, leak.held_out_image) for leak in leakage.find_leaks(sets("own_unlabeled"))] == [("u", "b")]


def test_train_against_test_of_one_set(make_set):
    images = {"a": ("s1", "p1", None), "b": ("s2", "p1", None), "c": ("s3", "p3", None)}
    make_set("own", {"stratified/train": ["a"], "stratified/val": ["b"], "stratified/test": ["c"]}, images)
    assert [leak.image for leak in leakage.find_leaks(sets("own_train"))] == ["a"]


def test_patient_numbers_of_two_sets_are_not_compared_but_their_files_are(make_set):
    make_set("own", PARTS, IMAGES)
    make_set("other", {"unlabeled": ["x", "y"]}, {"x": ("t", "t", 3), "y": ("s3", "q", 1)})
    leaks = leakage.find_leaks(sets("other_unlabeled"), held_out=sets("own_val", "own_test"))
    assert [(leak.image, leak.why) for leak in leaks] == [("y", "the same file")]


def test_patients_of_two_sets_are_compared_where_both_have_pseudonyms_of_one_key(make_set):
    def make(name, key, codes):
        images = {image: (f"s{image}", f"p{image}", number) for number, image in enumerate(codes, start=1)}
        folder = make_set(name, {"stratified/train": list(codes), "stratified/test": list(codes)}, images)
        for part in ("train", "test"):
            coco = artifacts.read_json(folder / f"annotations/stratified/{part}.json")
            for image, code in zip(coco["images"], codes.values(), strict=True):
                image |= {"patient_code": code} if code else {}
            artifacts.write_json(folder / f"annotations/stratified/{part}.json", coco)
        values = artifacts.read_json(folder / "dataset.json")
        artifacts.write_json(folder / "dataset.json", values | ({"patient_key": key} if key else {}))

    make("here", "k1", {"a1": "aa", "a2": "aa", "b": "bb", "c": "cc"})
    make("there", "k1", {"x": "dd", "y": "aa", "z": "cc"})
    make("elsewhere", "k2", {"x2": "ee"})
    make("before", None, {"w": None})
    assert leakage.patients_not_compared(sets("here_train"), sets("there_test", "here_val")) == []
    with pytest.raises(leakage.LeakageError) as error:
        leakage.refuse_leaks(sets("here_train"), sets("there_test"))
    message = str(error.value)
    assert "here_train: 3 images leak held-out images, 2 patients are on both sides (" in message
    assert "a1 is of the same patient as y of there_test; a2 is of the same patient as y of there_test" in message
    leakage.refuse_leaks(sets("here_train"), sets("elsewhere_test", "before_test"))
    assert leakage.patients_not_compared(sets("here_train"), sets("elsewhere_test", "before_test")) == [
        "patients of here and elsewhere are not compared (their keys differ)",
        "patients of here and before are not compared (before prepared without --patient-key)",
    ]


def test_negative_images_of_val_and_test_are_held_out_too(make_set):
    images = {"n": ("s", "p", None), "u": ("s", "q", None)}
    make_set("own", {"stratified/negative_test": ["n"], "unlabeled": ["u"]}, images)
    assert [leak.held_out for leak in leakage.find_leaks(sets("own_unlabeled"))] == ["own_negative_test"]


def test_held_out_names_of_vindr_are_those_of_the_names_split(make_set, tmp_path, monkeypatch):
    monkeypatch.setattr(named_sets.NamedSet, "exists", True)
    monkeypatch.setattr(type(tmp_path), "is_file", lambda self: True)
    names = [named.name for named in named_sets.named_set("vindr_cxr_stratified_train_unlabeled_40").held_out()]
    assert names[-1] == "vindr_cxr_official_test" and "vindr_cxr_stratified_test" in names
    assert "vindr_cxr_test" not in names
    assert {"vindr_cxr_test", "vindr_cxr_stratified_test"} <= {
        named.name for named in named_sets.named_set("vindr_cxr_unlabeled").held_out()
    }


def test_a_set_without_held_out_images_leaks_nothing(make_set):
    make_set("pool", {"unlabeled": ["x"]}, {"x": ("s", "p", 1)})
    leakage.refuse_leaks(sets("pool_unlabeled"))
