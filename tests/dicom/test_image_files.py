"""Image files are recognized by their bytes; PNG and JPEG come out like DICOM."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from d2_cxr.dicom.image_files import decode_image, kind_of, read_image
from d2_cxr.dicom.stored_image import ImageError, to_display


def encoded(pixels, kind="PNG", mode=None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels), mode=mode).save(buffer, kind)
    return buffer.getvalue()


GRAY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)


def test_the_kind_is_the_contents_and_not_the_names(tmp_path, make_dicom):
    path = tmp_path / "image.dcm"
    path.write_bytes(encoded(GRAY))
    assert read_image(path).attributes["transfer_syntax"] == "PNG"
    misnamed = tmp_path / "image.png"
    misnamed.write_bytes(make_dicom([[1, 2]]).read_bytes())
    assert read_image(misnamed).attributes["transfer_syntax"] == "ExplicitVRLittleEndian"
    assert kind_of(encoded(GRAY, "JPEG")) == "JPEG" and kind_of(b"%PDF-1.4" + b" " * 200) is None


def test_a_gray_png_keeps_its_pixels_and_its_range():
    image = decode_image(encoded(GRAY))
    assert np.array_equal(image.pixels, GRAY) and (image.source_width, image.source_height) == (20, 12)
    assert to_display(image)[0, 5] == pytest.approx(5 / 255)  # 8 bits are gray already: never stretched


def test_a_16_bit_png_is_stretched_because_few_use_the_whole_range():
    image = decode_image(encoded(np.array([[100, 200, 300]], np.uint16)))
    assert image.pixels.tolist() == [[100, 200, 300]]
    assert to_display(image).tolist() == [[0, 0.5, 1]]


def test_gray_stored_as_color_is_gray_and_color_is_refused():
    image = decode_image(encoded(np.repeat(GRAY[..., None], 3, axis=2)))
    assert np.array_equal(image.pixels, GRAY)
    color = np.zeros((12, 20, 3), np.uint8)
    color[..., 0] = 200
    with pytest.raises(ImageError, match="colored"):
        decode_image(encoded(color))


def test_gray_jpeg_stored_as_color_is_gray():
    image = decode_image(encoded(np.repeat(GRAY[..., None], 3, axis=2), "JPEG"))
    assert np.abs(image.pixels.astype(int) - GRAY).mean() < 3


def test_an_opaque_alpha_channel_is_left_out_and_a_transparent_one_refused():
    opaque = np.dstack([GRAY, np.full_like(GRAY, 255)])
    assert np.array_equal(decode_image(encoded(opaque, mode="LA")).pixels, GRAY)
    opaque[0, 0, 1] = 10
    with pytest.raises(ImageError, match="transparent"):
        decode_image(encoded(opaque, mode="LA"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_an_image_cut_short_is_refused(kind, keep):
    content = encoded(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8), kind)
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode_image(content[: int(len(content) * keep)])


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.4" + b"0" * 500, b"GIF89a" + b"0" * 300])
def test_anything_else_is_refused(content):
    with pytest.raises(ImageError, match=r"neither DICOM nor PNG nor JPEG|empty|is PDF|is GIF"):
        decode_image(content)


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.dcm")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_viewers_turn_it(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(GRAY).save(buffer, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    image = decode_image(buffer.getvalue())
    assert np.array_equal(image.pixels, expected)
    assert (image.source_height, image.source_width) == expected.shape
    assert any("EXIF Orientation" in note for note in image.notes) == (orientation != 1)


def test_orientation_six_puts_the_left_column_on_top():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.array([[1, 2], [3, 4], [5, 6]], np.uint8)).save(buffer, "PNG", exif=exif)
    assert decode_image(buffer.getvalue()).pixels.tolist() == [[5, 3, 1], [6, 4, 2]]


WIDE = np.arange(240, dtype=np.uint16).reshape(12, 20) * 17  # up to 4063: 12 bits


@pytest.mark.parametrize("channels", [3, 4, 2])
def test_sixteen_bits_stay_whatever_the_channels(channels):
    opaque = np.full_like(WIDE, 65535)
    layers = {2: [WIDE, opaque], 3: [WIDE] * 3, 4: [WIDE, WIDE, WIDE, opaque]}[channels]
    image = decode_image(imagecodecs.png_encode(np.dstack(layers)))
    assert image.pixels.dtype == np.uint16 and np.array_equal(image.pixels, WIDE)
    assert image.attributes["bits_stored"] == 16


def test_sixteen_bit_color_and_transparency_are_refused():
    with pytest.raises(ImageError, match="colored"):
        decode_image(imagecodecs.png_encode(np.dstack([WIDE, WIDE, WIDE + 5000])))
    with pytest.raises(ImageError, match="transparent"):
        decode_image(imagecodecs.png_encode(np.dstack([WIDE, WIDE])))


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_tiff_and_bmp_are_read(kind, tmp_path):
    (tmp_path / "image.png").write_bytes(encoded(GRAY, kind))
    image = read_image(tmp_path / "image.png")
    assert image.attributes["transfer_syntax"] == kind and np.array_equal(image.pixels, GRAY)


def test_a_tiff_keeps_16_bits_its_polarity_and_its_only_page():
    assert np.array_equal(decode_image(encoded(WIDE, "TIFF")).pixels, WIDE)
    buffer = io.BytesIO()
    Image.fromarray(WIDE).save(buffer, "TIFF", tiffinfo={262: 0})  # WhiteIsZero
    assert to_display(decode_image(buffer.getvalue()))[0, 0] == 1
    buffer = io.BytesIO()
    Image.fromarray(GRAY).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(GRAY)])
    with pytest.raises(ImageError, match="2 pages"):
        decode_image(buffer.getvalue())
    with pytest.raises(ImageError, match="floating-point"):
        decode_image(encoded(GRAY.astype(np.float32), "TIFF"))


def test_a_dicom_file_with_a_tiff_preamble_is_dicom(make_dicom):
    content = bytearray(make_dicom([[1, 2]]).read_bytes())
    content[:4] = b"II*\x00"
    assert kind_of(bytes(content)) == "DICOM"
