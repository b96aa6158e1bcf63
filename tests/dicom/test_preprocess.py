"""Clip, resize, P-values, equalize, and the box map: values computed by hand, and the order of the steps."""

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from d2_cxr.dicom import reading
from d2_cxr.dicom.preprocess import Preprocess, equalization_curve, prepare_image
from d2_cxr.dicom.stored_image import GrayscaleTransform, ImageError, StoredImage


def image(pixels, transform=None, **more) -> StoredImage:
    pixels = np.asarray(pixels)
    return StoredImage(pixels, pixels.shape[1], pixels.shape[0], transform or GrayscaleTransform(), **more)


def ramp(rows, columns, top) -> np.ndarray:
    return np.tile(np.linspace(0, top, columns).round().astype(np.uint16), (rows, 1))


def test_without_equalisation_a_ramp_stays_a_ramp():
    pixels, _ = prepare_image(image(ramp(64, 64, 4095)), Preprocess(64, equalize="none"))
    assert pixels.dtype == np.uint8 and pixels.shape == (64, 64)
    assert pixels[0, [0, 21, 42, 63]].tolist() == [0, 85, 170, 255]  # thirds of 255


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_the_stretch_shows_the_middle_99_percent_from_black_to_white(dtype):
    # columns 0..1023: percentiles .5 and 99.5 are 5.115 and 1017.885
    pixels, _ = prepare_image(image(ramp(1024, 1024, 1023).astype(dtype)), Preprocess(1024, equalize="stretch"))
    assert pixels[0, [0, 5, 6, 1017, 1018, 1023]].tolist() == [0, 0, 0, 255, 255, 255]
    assert pixels[0, 512] == round(255 * (512 - 5.115) / (1017.885 - 5.115))


def test_a_bright_marker_does_not_darken_a_stretched_image():
    body = np.random.default_rng(0).integers(1000, 2000, (64, 64)).astype(np.uint16)
    body[63, 63] = 0
    marked = body.copy()
    marked[:4, :4] = 4000  # 16 of 4096 pixels, .4 %
    alone, _ = prepare_image(image(body), Preprocess(64, equalize="stretch"))
    beside, _ = prepare_image(image(marked), Preprocess(64, equalize="stretch"))
    assert np.abs(alone.astype(int) - beside)[4:].max() <= 2
    plain, _ = prepare_image(image(marked), Preprocess(64, equalize="none"))
    assert plain[4:].max() < 130  # without the stretch it does


def test_the_stretch_takes_all_grays_where_nearly_every_pixel_is_one_and_leaves_padding_out():
    flat = np.full((64, 64), 100, np.uint16)
    flat[0, :3] = (0, 50, 200)
    pixels, _ = prepare_image(image(flat), Preprocess(64, equalize="stretch"))
    assert pixels[0, :4].tolist() == [0, 64, 255, 128]
    body = np.random.default_rng(1).integers(1000, 3000, (64, 64)).astype(np.uint16)
    padded = np.full((64, 128), 4095, np.uint16)
    padded[:, :64] = body
    rules = Preprocess(128, "letterbox", equalize="stretch")
    beside, _ = prepare_image(image(padded, padding=(4095, 4095)), rules)
    alone, _ = prepare_image(image(body), Preprocess(64, equalize="stretch"))
    assert not beside[:, 64:].any() and np.abs(beside[32:96, :64].astype(int) - alone).max() <= 1


def test_low_values_are_bright_on_monochrome1():
    pixels, _ = prepare_image(
        image(ramp(64, 64, 4095), GrayscaleTransform(inverted=True)), Preprocess(64, equalize="none")
    )
    assert pixels[0, [0, 63]].tolist() == [255, 0]


def test_equalisation_gives_every_value_the_middle_of_its_ranks():
    quarters = np.repeat(np.array([[0, 100, 101, 255]], np.uint8), 16, axis=1).repeat(64, axis=0)
    pixels, _ = prepare_image(image(quarters, GrayscaleTransform(0, 255)), Preprocess(64))
    assert pixels[0, ::16].tolist() == [32, 96, 159, 223]  # 255 x 1/8, 3/8, 5/8, 7/8


def test_an_equalized_ramp_is_the_ramp():
    curve = equalization_curve(np.arange(65536, dtype=np.uint16))
    assert np.abs(curve - np.arange(65536) / 257).max() < 0.6


def test_equalisation_does_not_see_a_monotone_map():
    rng = np.random.default_rng(0)
    stored = rng.normal(2000, 400, (128, 128)).clip(0, 4095).astype(np.uint16)
    plain, _ = prepare_image(image(stored), Preprocess(64))
    scaled, _ = prepare_image(image(stored * 8 + 100), Preprocess(64))
    assert np.abs(plain.astype(int) - scaled).max() <= 1


def test_the_window_is_cut_before_pixels_are_averaged():
    # two stored values, 0 and 4000, in turns; the window ends at 1000. Shown, they are 0 and 255: their mean is 127.5.
    # Averaged first they would be 2000, beyond the window: 255.
    columns = np.tile(np.array([0, 4000], np.uint16), 64)
    columns[:64] = np.linspace(0, 1000, 64)
    pixels, _ = prepare_image(
        image(np.tile(columns, (128, 1)), GrayscaleTransform(0, 1000)), Preprocess(64, equalize="none")
    )
    assert pixels[10, 50] == 128


def test_a_table_is_applied_before_pixels_are_averaged():
    table = GrayscaleTransform(
        table=np.array([0, 1, 0], np.float32), table_start=0
    )  # 1 is bright, its neighbors are not
    stored = np.tile(np.array([0, 2], np.uint16), (64, 32))
    stored[:32] = 1
    pixels, _ = prepare_image(image(stored, table), Preprocess(32, equalize="none"))
    assert pixels[[0, 31], 0].tolist() == [255, 0]


def test_window_full_ignores_the_files_window():
    pixels, _ = prepare_image(
        image(ramp(64, 64, 4095), GrayscaleTransform(0, 10)), Preprocess(64, equalize="none", window="full")
    )
    assert pixels[0, [0, 21, 42, 63]].tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_an_image_of_one_value_is_refused(dtype):
    with pytest.raises(ImageError, match="every pixel has the value 7"):
        prepare_image(image(np.full((40, 40), 7, dtype)), Preprocess(32))


def test_padding_is_black_and_does_not_move_the_other_grays():
    rng = np.random.default_rng(1)
    body = rng.integers(1000, 3000, (64, 64)).astype(np.uint16)
    padded = np.full((64, 128), 4095, np.uint16)
    padded[:, :64] = body
    alone, _ = prepare_image(image(body), Preprocess(64))
    beside, _ = prepare_image(image(padded, padding=(4095, 4095)), Preprocess(64, "letterbox"))
    assert not beside[:, 32:].any()
    half, _ = prepare_image(image(body), Preprocess(32))
    assert np.abs(np.sort(beside[16:48, :32].ravel()).astype(int) - np.sort(half.ravel())).mean() < 1
    assert alone.min() < 3 and alone.max() > 252


def test_squash_scales_both_sides_and_the_box_map_comes_back():
    pixels, boxes = prepare_image(image(ramp(100, 50, 4095)), Preprocess(64))
    assert pixels.shape == (64, 64)
    assert boxes.forward([[0, 0, 50, 100], [25, 50, 50, 75]]).tolist() == [[0, 0, 64, 64], [32, 32, 64, 48]]
    assert boxes.inverse(boxes.forward([[3, 4, 17, 55]])).tolist() == [[3, 4, 17, 55]]


def test_letterbox_centers_the_image_on_black():
    bright = np.full((100, 50), 3000, np.uint16)
    bright[0, 0] = 0
    pixels, boxes = prepare_image(
        image(bright, GrayscaleTransform(0, 3000)), Preprocess(64, "letterbox", equalize="none")
    )
    assert boxes.forward([[0, 0, 50, 100]]).tolist() == [[16, 0, 48, 64]]
    assert not pixels[:, :16].any() and not pixels[:, 48:].any() and (pixels[1:, 17:48] == 255).all()


def test_a_box_stays_around_its_object():
    stored = np.zeros((2800, 2000), np.uint16)
    stored[700:1400, 500:1500] = 4000  # x 500..1500, y 700..1400
    for resize in ("squash", "letterbox"):
        pixels, boxes = prepare_image(image(stored), Preprocess(256, resize, equalize="none"))
        rows, columns = np.nonzero(pixels > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(found) - boxes.forward([[500, 700, 1500, 1400]])[0]).max() <= 0.5


def test_eight_bits_keep_their_fractions():
    stored = np.tile(np.array([[100, 101], [101, 101]], np.uint8), (64, 64))  # every mean is 100.75
    stored[:2] = 0
    stored[-2:] = 255
    pixels, _ = prepare_image(image(stored, GrayscaleTransform(0, 255)), Preprocess(64, equalize="none"))
    assert pixels[20, 20] == 101


def test_small_images_grow():
    pixels, boxes = prepare_image(image(ramp(20, 20, 4095)), Preprocess(64, equalize="none"))
    assert pixels.shape == (64, 64) and boxes.forward([[0, 0, 20, 20]]).tolist() == [[0, 0, 64, 64]]


def test_rules_travel_as_plain_values_and_unknown_ones_are_refused():
    rules = Preprocess(1024, "letterbox", "none")
    assert Preprocess.from_dict(rules.to_dict()) == rules
    assert rules.to_dict() == {"size": 1024, "resize": "letterbox", "equalize": "none", "window": "file"}
    with pytest.raises(ValueError, match="resize 'crop' is not one of squash, letterbox"):
        Preprocess(512, "crop")
    with pytest.raises(ValueError, match="size 4 is outside"):
        Preprocess(4)
    with pytest.raises(ValueError, match="unknown keys"):
        Preprocess.from_dict({"size": 512, "contrast": 2})


def reduced_error(path, size: int) -> float:
    """Return the mean difference in gray levels between a reduced and a full decode, after equalisation."""
    full, _ = prepare_image(reading.read(path), Preprocess(size))
    reduced = reading.read(path, min_size=size)
    assert reduced.pixels.shape[0] < reduced.source_height
    small, _ = prepare_image(reduced, Preprocess(size))
    return float(np.abs(full.astype(int) - small).mean())


def chest_like(rows: int, columns: int) -> np.ndarray:
    """Return a smooth body, ribs of some pixels' width and noise, in 12 bits."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    body = np.exp(-((x / columns - 0.5) ** 2) * 6) * (1 - 0.5 * np.exp(-(((x / columns - 0.3) * 5) ** 2)))
    ribs = 0.05 * np.tanh(4 * np.sin(y / rows * 60 + x / columns * 4))
    noise = np.random.default_rng(0).normal(0, 0.006, (rows, columns))
    return ((body + ribs + noise).clip(0, 1.1) / 1.1 * 4000).astype(np.uint16)


@pytest.mark.parametrize("rows, columns, size", [(1301, 1241, 512), (1403, 1285, 256), (1500, 1250, 256)])
def test_a_reduced_decode_is_within_half_a_gray_level(make_dicom, rows, columns, size):
    stored = chest_like(rows, columns)
    frame = imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, codecformat="j2k", bitspersample=12)
    path = make_dicom(stored, syntax=JPEG2000Lossless, frame=bytes(frame))
    assert reduced_error(path, size) <= 0.5
