"""The DICOM writer: literal pixels in, the same pixels out, in every depth and transfer syntax."""

import io

import numpy as np
import pydicom
import pytest
from d2_cxr.projects.phantom_cxr.dicom_writer import SYNTAXES, Style, draw_style, wrap, write_dicom
from PIL import Image


def stored(path):
    """Decode a file with other software than the writer's encoders where there is one."""
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID == SYNTAXES["jpeg2000"]:
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        image = np.asarray(Image.open(io.BytesIO(frame)))
        return image >> (16 - dataset.BitsStored) if image.dtype == np.uint16 else image  # Pillow fills 16 bits up
    if dataset.file_meta.TransferSyntaxUID == SYNTAXES["jpeg_lossless"]:
        imagecodecs = pytest.importorskip("imagecodecs")
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        return imagecodecs.jpeg8_decode(frame)
    return dataset.pixel_array


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_pixels_come_back_as_they_were(tmp_path, syntax, bits):
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (61, 47)).astype(np.uint8 if bits == 8 else np.uint16)
    pixels[0, :2] = 0, 2**bits - 1
    wrap(tmp_path / "image.dicom", pixels, syntax=syntax, bits_stored=bits)
    assert np.array_equal(stored(tmp_path / "image.dicom"), pixels)
    dataset = pydicom.dcmread(tmp_path / "image.dicom")
    assert dataset.file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    assert (dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) == (bits, bits - 1, 0)


def test_display_values_scale_to_the_bits_stored(tmp_path):
    write_dicom(tmp_path / "image.dicom", np.array([[0.0, 1.0]], np.float32), Style(bits_stored=12))
    assert stored(tmp_path / "image.dicom").tolist() == [[0, 4095]]


def test_monochrome1_stores_bright_as_low(tmp_path):
    style = Style(bits_stored=12, photometric="MONOCHROME1")
    write_dicom(tmp_path / "image.dicom", np.array([[0.0, 1.0]], np.float32), style)
    assert stored(tmp_path / "image.dicom").tolist() == [[4095, 0]]


def test_a_window_stands_in_modality_units(tmp_path):
    style = Style(bits_stored=12, windows=("full", "hard"), rescale=(0.5, 100.0))
    write_dicom(tmp_path / "image.dicom", np.zeros((4, 4), np.float32), style)
    dataset = pydicom.dcmread(tmp_path / "image.dicom")
    # stored 0 to 4095 is 100 to 2147.5 after rescale; "hard" is 30 % to 80 % of it
    assert dataset.WindowCenter == [1123.8, 1226.1] and dataset.WindowWidth == [2047.5, 1023.8]
    assert (dataset.RescaleSlope, dataset.RescaleIntercept) == (0.5, 100)


def test_tags_that_are_not_asked_for_are_absent(tmp_path):
    wrap(tmp_path / "image.dicom", np.zeros((4, 4), np.uint16))
    dataset = pydicom.dcmread(tmp_path / "image.dicom")
    for keyword in ("WindowCenter", "RescaleSlope", "PixelSpacing", "PatientSex", "SOPClassUID", "PatientID"):
        assert keyword not in dataset


def test_an_identified_file_has_its_uids(tmp_path):
    wrap(tmp_path / "image.dicom", np.zeros((4, 4), np.uint16), identified=True, pixel_spacing=0.15)
    dataset = pydicom.dcmread(tmp_path / "image.dicom")
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert dataset.SOPInstanceUID.is_valid and dataset.PixelSpacing == [0.15, 0.15]


def test_the_same_pixels_give_the_same_bytes(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for name in ("a.dicom", "b.dicom"):
        wrap(tmp_path / name, pixels, syntax="jpeg2000", bits_stored=12)
    assert (tmp_path / "a.dicom").read_bytes() == (tmp_path / "b.dicom").read_bytes()


def test_styles_cover_what_archives_hold():
    styles = [draw_style(np.random.default_rng(i), 512) for i in range(300)]
    assert {style.syntax for style in styles} == set(SYNTAXES)
    assert {style.photometric for style in styles} == {"MONOCHROME1", "MONOCHROME2"}
    assert {style.bits_stored for style in styles} == {10, 12, 14, 15, 16}
    assert {len(style.windows) for style in styles} == {0, 1, 2, 3}
    assert (
        {style.rescale is None for style in styles}
        == {style.pixel_spacing is None for style in styles}
        == {True, False}
    )
    assert np.mean([style.syntax == "rle" for style in styles]) < 0.12  # slow to write


@pytest.mark.parametrize(
    "pixels, options, message",
    [
        (np.zeros((4, 4), np.float32), {}, "uint8 or uint16"),
        (np.zeros((4, 4, 3), np.uint8), {}, r"\(4, 4, 3\)"),
        (np.full((4, 4), 4096, np.uint16), {"bits_stored": 12}, "values up to 4096 .* 12 bits"),
        (np.zeros((4, 4), np.uint8), {"syntax": "tiff"}, "no transfer syntax 'tiff'"),
    ],
)
def test_pixels_that_cannot_be_stored_are_refused_and_nothing_is_written(tmp_path, pixels, options, message):
    with pytest.raises(ValueError, match=message):
        wrap(tmp_path / "image.dicom", pixels, **options)
    assert not list(tmp_path.iterdir())
