"""Which files a folder of images holds: links into, out of and around it."""

import os

import cv2
import numpy as np
import pytest

from d2_cxr.datasets.manifest import list_sources
from d2_cxr.prediction.image_inputs import image_files


@pytest.fixture
def folder(tmp_path):
    """Two images inside, one elsewhere; links to files and folders inside, outside, above and to nothing."""
    for name in ("in/a/one.png", "in/b/two.png", "elsewhere/deep/three.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name), np.full((8, 8), len(name), np.uint8))
    (tmp_path / "in/0_again").symlink_to("b")
    (tmp_path / "in/around").symlink_to(tmp_path / "in")
    (tmp_path / "in/outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/a/linked.png").symlink_to(tmp_path / "elsewhere/deep/three.png")
    (tmp_path / "in/a/gone.png").symlink_to("nothing.png")
    (tmp_path / "in/a/gone").symlink_to("nothing")
    os.link(tmp_path / "in/a/one.png", tmp_path / "in/a/.hidden.png")
    return tmp_path / "in"


FILES = ["a/gone.png", "a/linked.png", "a/one.png", "b/two.png", "outside/deep/three.png"]


def test_linked_folders_are_entered_each_once_and_real_paths_win(folder):
    sources = list_sources(folder)
    assert [source.file for source in sources] == FILES
    assert {source.file: source.refusal for source in sources if source.refusal} == {
        "a/gone.png": "the link leads nowhere; restore its file"
    }


def test_prediction_lists_the_same_files_and_hidden_ones(folder):
    found, refused = image_files([folder])
    assert [str(path.relative_to(folder)) for path in found] == ["a/.hidden.png", *FILES] and refused == {}


def test_an_output_folder_that_is_linked_into_the_images_is_left_out(folder, tmp_path):
    files = [source.file for source in list_sources(folder, without=tmp_path / "elsewhere")]
    assert files == ["a/gone.png", "a/one.png", "b/two.png"]
