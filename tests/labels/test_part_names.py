"""The parts of a split in the names of files and folders."""

import pytest

from d2_cxr.labels.part_names import part_in_path, part_of


@pytest.mark.parametrize("word, part", [("Train", "train"), ("valid", "val"), (" TEST ", "test"), ("fold1", None)])
def test_words_of_a_part(word, part):
    assert part_of(word) == part


@pytest.mark.parametrize(
    "path, found",
    [
        ("annotations/instances_train2017", ("train", "annotations/instances")),
        ("anna/valid", ("val", "anna")),
        ("test/_annotations.coco", ("test", "annotations.coco")),
        ("train_and_test", (None, "train_and_test")),
        ("constrained", (None, "constrained")),
        ("", (None, "")),
    ],
)
def test_a_path_names_one_part_or_none(path, found):
    assert part_in_path(path) == found
