"""One name joins a file, a row of labels, a prepared PNG and a detection."""

from pathlib import Path

import pytest

from d2_cxr.image_name import image_name


@pytest.mark.parametrize(
    "path, name",
    [
        ("00013118_008.png", "00013118_008"),
        ("images/A.DCM", "A"),
        (Path("folder/film.dicom"), "film"),
        ("1.2.840.113619.2.5.176", "1.2.840.113619.2.5.176"),
        ("1.2.840.113619.2.5.176.png", "1.2.840.113619.2.5.176"),
        ("scan.png.dcm", "scan.png"),  # prepared as scan.png.png, whose name is scan.png again
        (".png", ".png"),
        (" a ", "a"),
    ],
)
def test_only_an_image_suffix_is_taken_off(path, name):
    assert image_name(path) == name


def test_an_accent_in_one_character_or_two_is_one_name():
    assert image_name("Jose\u0301.png") == image_name("Jos\u00e9.dcm") == "Jos\u00e9"
