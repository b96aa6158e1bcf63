"""Configs of the package by name, as Detectron2's model zoo gives its own."""

import pytest

from d2_cxr import configs


def test_a_config_is_found_with_or_without_its_folder():
    assert configs.path("configs/VinDr-CXR/faster_rcnn_R_50_FPN.yaml") == configs.path(
        "VinDr-CXR/faster_rcnn_R_50_FPN.yaml"
    )


def test_a_config_comes_with_its_base_and_our_keys():
    cfg = configs.get("VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.MODEL.WEIGHTS == ""
    assert "NEGATIVE_RATIO" in cfg.CXR


def test_an_unknown_config_lists_those_that_there_are():
    with pytest.raises(FileNotFoundError, match=r"no config nothing\.yaml; there are .*faster_rcnn_R_50_FPN\.yaml"):
        configs.get("nothing.yaml")
