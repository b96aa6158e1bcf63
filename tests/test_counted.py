import pytest

from d2_cxr.counted import counted


@pytest.mark.parametrize(
    "given, text",
    [
        ((1, "image"), "1 image"),
        ((0, "image"), "0 images"),
        ((1200, "box"), "1,200 boxes"),
        ((2, "class"), "2 classes"),
        ((1, "image is", "images are"), "1 image is"),
        ((2, "image is", "images are"), "2 images are"),
    ],
)
def test_one_is_singular_and_every_other_number_plural(given, text):
    assert counted(*given) == text


def test_in_one_of_several_the_noun_follows_the_total():
    assert counted(1, "image", of=3) == "1 of 3 images"
    assert counted(1, "image", of=1) == "1 of 1 image"
    assert counted(3, "box", of=1500) == "3 of 1,500 boxes"
