import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.delivery.key_image import key_image
from d2_cxr.delivery.source import ScoredBox


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_frames_are_drawn_around_a_mark_and_a_warning_below(make_source, algorithm, photometric):
    pixels = np.full((600, 400), 500)
    pixels[200:300, 100:250] = 3500
    pixels = 4095 - pixels if photometric == "MONOCHROME1" else pixels
    source = make_source(pixels, PhotometricInterpretation=photometric)
    capture = key_image(source, [ScoredBox("Mass", 0.9, (100, 200, 250, 300))], algorithm)
    picture = capture.pixel_array
    assert picture.shape == (628, 400, 3)  # the image at its own size, and a strip of 28 pixels
    assert (picture[600:] == 255).any()  # letters
    colored = np.ptp(picture[:600].astype(int), axis=2) > 60
    colored[:200] = False  # the label above the box
    rows, columns = np.nonzero(colored)
    assert abs(rows.max() - 300) <= 2 and abs(columns.min() - 100) <= 2
    inside, outside = picture[250, 175].mean(), picture[500, 20].mean()
    assert inside > outside + 100  # the mark is bright in either polarity


def test_it_is_a_secondary_capture_of_the_same_study(make_source, boxes, algorithm):
    capture = key_image(make_source(), boxes, algorithm)
    assert capture.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (capture.PatientID, capture.StudyInstanceUID, capture.ConversionType) == ("P-7", "2.25.13", "WSD")
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == "2.25.11"
    assert "not for diagnosis" in capture.DerivationDescription


def test_a_large_image_is_drawn_at_1024_pixels(make_source, boxes, algorithm):
    pixels = np.arange(1100 * 2200).reshape(1100, 2200) % 4096
    capture = key_image(make_source(pixels), boxes, algorithm)
    assert (capture.Rows, capture.Columns) == (512 + 28, 1024)
