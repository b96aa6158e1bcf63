"""Film files are told apart by their bytes; PNG and JPEG come out like DICOM."""

import io

import numpy as np
import pytest
from PIL import Image

from d2_cxr.dicom.image_files import decode_film, kind_of, read_film
from d2_cxr.dicom.stored_image import FilmRefused, to_display


def encoded(pixels, kind="PNG", mode=None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels), mode=mode).save(buffer, kind)
    return buffer.getvalue()


GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)


def test_the_kind_is_the_contents_and_not_the_names(tmp_path, make_dicom):
    path = tmp_path / "film.dcm"
    path.write_bytes(encoded(GREY))
    assert read_film(path).attributes["transfer_syntax"] == "PNG"
    misnamed = tmp_path / "film.png"
    misnamed.write_bytes(make_dicom([[1, 2]]).read_bytes())
    assert read_film(misnamed).attributes["transfer_syntax"] == "ExplicitVRLittleEndian"
    assert kind_of(encoded(GREY, "JPEG")) == "JPEG" and kind_of(b"%PDF-1.4" + b" " * 200) is None


def test_a_grey_png_keeps_its_pixels_and_its_range():
    film = decode_film(encoded(GREY))
    assert np.array_equal(film.pixels, GREY) and (film.source_width, film.source_height) == (20, 12)
    assert to_display(film)[0, 5] == pytest.approx(5 / 255)  # 8 bits are grey already: never stretched


def test_a_16_bit_png_is_stretched_because_few_use_the_whole_range():
    film = decode_film(encoded(np.array([[100, 200, 300]], np.uint16)))
    assert film.pixels.tolist() == [[100, 200, 300]]
    assert to_display(film).tolist() == [[0, 0.5, 1]]


def test_grey_stored_as_colour_is_grey_and_colour_is_refused():
    film = decode_film(encoded(np.repeat(GREY[..., None], 3, axis=2)))
    assert np.array_equal(film.pixels, GREY)
    colour = np.zeros((12, 20, 3), np.uint8)
    colour[..., 0] = 200
    with pytest.raises(FilmRefused, match="coloured"):
        decode_film(encoded(colour))


def test_grey_jpeg_stored_as_colour_is_grey():
    film = decode_film(encoded(np.repeat(GREY[..., None], 3, axis=2), "JPEG"))
    assert np.abs(film.pixels.astype(int) - GREY).mean() < 3


def test_an_opaque_alpha_channel_is_left_out_and_a_transparent_one_refused():
    opaque = np.dstack([GREY, np.full_like(GREY, 255)])
    assert np.array_equal(decode_film(encoded(opaque, mode="LA")).pixels, GREY)
    opaque[0, 0, 1] = 10
    with pytest.raises(FilmRefused, match="transparent"):
        decode_film(encoded(opaque, mode="LA"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_an_image_cut_short_is_refused(kind, keep):
    content = encoded(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8), kind)
    with pytest.raises(FilmRefused, match="damaged or cut short"):
        decode_film(content[: int(len(content) * keep)])


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.4" + b"0" * 500, b"GIF89a" + b"0" * 300])
def test_anything_else_is_refused(content):
    with pytest.raises(FilmRefused, match=r"neither DICOM nor PNG nor JPEG|empty"):
        decode_film(content)


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_film(tmp_path / "none.dcm")
