"""A window or table that shows next to nothing gives way to the full range; unknown codes are not quoted."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from d2_cxr.dicom import reading
from d2_cxr.dicom.preprocess import Preprocess, prepare_image
from d2_cxr.dicom.stored_image import ImageError, to_display

RULES = Preprocess(32, equalize="none")


def ramp(low: int, high: int) -> np.ndarray:
    return np.tile(np.linspace(low, high, 64).round().astype(int), (64, 1))


def lut(bits: int, entries) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries), 0, bits]
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return Sequence([item])


def grays(path) -> np.ndarray:
    return prepare_image(reading.read(path), RULES)[0]


@pytest.mark.parametrize(
    "center, width",
    [(3000, 2000), (200000, 400), (-5000, 100), (60000, 10), (1e300, 5), (1e300, 1e300), (-1e308, 1e308)],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_beside_every_value_gives_way_to_the_full_range(make_dicom, center, width, photometric):
    wide = {"bits_stored": 16, "PhotometricInterpretation": photometric}
    path = make_dicom(ramp(12000, 58000), **wide, WindowCenter=center, WindowWidth=width)
    plain = make_dicom(ramp(12000, 58000), **wide, name="plain.dicom")
    assert np.array_equal(grays(path), grays(plain))
    assert "full range used" in reading.read(path).notes[-1]


def test_a_window_that_cuts_nearly_everything_gives_way_and_a_narrow_one_does_not(make_dicom):
    nearly = make_dicom(ramp(0, 4095), WindowCenter=10, WindowWidth=20)
    assert "cuts 9" in reading.read(nearly).notes[0] or "cuts 100" in reading.read(nearly).notes[0]
    narrow = make_dicom(ramp(0, 4095), WindowCenter=2048, WindowWidth=1000, name="narrow.dicom")
    assert reading.read(narrow).notes == () and len(np.unique(grays(narrow))) > 5


def test_an_image_of_two_values_keeps_a_window_that_shows_both(make_dicom):
    path = make_dicom([[0, 4095] * 8], WindowCenter=2048, WindowWidth=10)
    assert reading.read(path).notes == () and to_display(reading.read(path)).tolist() == [[0, 1] * 8]


def test_a_table_is_scaled_by_the_bits_that_it_reaches(make_dicom):
    says_16 = make_dicom(ramp(0, 4095), VOILUTSequence=lut(16, np.arange(4096)))
    says_12 = make_dicom(ramp(0, 4095), VOILUTSequence=lut(12, np.arange(4096)), name="twelve.dicom")
    assert np.array_equal(grays(says_16), grays(says_12))
    assert reading.read(says_12).notes == ()
    assert "says 16 bits, the entries reach 12" in reading.read(says_16).notes[0]


def test_a_table_that_shows_one_gray_gives_way(make_dicom):
    flat = make_dicom(ramp(0, 4095), VOILUTSequence=lut(16, np.full(4096, 65535)))
    assert len(np.unique(grays(flat))) == 32
    falling = make_dicom(
        ramp(0, 4095),
        VOILUTSequence=lut(16, np.full(4096, 65535)),
        PhotometricInterpretation="MONOCHROME1",
        name="falling.dicom",
    )
    assert np.abs(grays(falling).astype(int) - grays(flat)[:, ::-1]).max() <= 1


@pytest.mark.parametrize(
    "keyword, shown",
    [("Modality", "not a radiograph"), ("PhotometricInterpretation", "samples"), ("VOILUTFunction", "not LINEAR")],
)
def test_unknown_text_in_a_code_is_not_quoted(make_dicom, keyword, shown):
    path = make_dicom([[1, 2]], WindowCenter=1, WindowWidth=2, **{keyword: "DOE JANE"})
    with pytest.raises(ImageError, match=shown) as refusal:
        reading.read(path)
    assert "JANE" not in str(refusal.value) and "not a known code" in str(refusal.value)


@pytest.mark.parametrize(
    "elements, note",
    [
        ({"ViewPosition": "LL"}, "View Position (0018,5101) is LL: not a frontal view"),
        ({"BodyPartExamined": "HAND"}, "Body Part Examined (0018,0015) is HAND: not a chest"),
        ({"BodyPartExamined": "DOE JANE"}, "Body Part Examined (0018,0015) is (not a known code): not a chest"),
    ],
)
def test_a_lateral_view_or_another_body_part_is_noted(make_dicom, elements, note):
    assert reading.read(make_dicom([[1, 2]], **elements)).notes == (note,)


def test_a_frontal_chest_has_no_note(make_dicom):
    image = reading.read(make_dicom([[1, 2]], ViewPosition="PA", BodyPartExamined="CHEST"))
    assert image.notes == () and image.attributes["view_position"] == "PA" and image.attributes["body_part"] == "CHEST"
