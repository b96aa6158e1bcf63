"""What a file claims is checked before it is decoded, and every damage ends in one ImageError."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from d2_cxr.dicom import limits, reading
from d2_cxr.dicom.image_files import decode_image, preview
from d2_cxr.dicom.stored_image import ImageError


def png(width: int, height: int) -> bytes:
    """Return a black gray PNG of any size, some kilobytes long, made without its pixels."""
    row = zlib.compressobj()
    data = b"".join(row.compress(bytes(width + 1)) for _ in range(height)) + row.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_the_limit_is_reported_as_a_limit_and_not_as_damage():
    with pytest.raises(ImageError, match="16000 x 10000 pixels: more than the limit of 150 million"):
        limits.check_pixels(16000, 10000, 10**9)
    huge = png(16000, 14000)
    with pytest.raises(ImageError, match="224 million pixels: more than the limit of 150 million"):
        decode_image(huge)
    assert preview(huge) is None


def test_a_small_file_may_claim_what_a_detector_has_and_no_more():
    limits.check_pixels(4320, 5760, 1000)
    limits.check_pixels(10000, 12000, 4_000_000)
    small = png(6000, 6000)
    assert len(small) < 100_000
    with pytest.raises(ImageError, match="6000 x 6000 pixels in a file of"):
        decode_image(small)
    assert preview(small) is None


def test_a_jpeg_in_dicom_of_another_size_is_refused_before_it_is_decoded(make_dicom):
    frame = bytearray(imagecodecs.jpeg8_encode(np.zeros((16, 16), np.uint8)))
    start = frame.find(b"\xff\xc0")
    frame[start + 5 : start + 9] = struct.pack(">HH", 60000, 60000)
    path = make_dicom(np.zeros((16, 16)), bits_allocated=8, bits_stored=8, syntax=JPEGBaseline8Bit, frame=bytes(frame))
    with pytest.raises(ImageError, match=r"the pixels are \(60000, 60000\), the header says 16 rows x 16 columns"):
        reading.read(path)
    assert preview(path.read_bytes()) is None


def test_a_jpeg_of_a_thousand_scans_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    scan = content[content.find(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans: more than the limit of 64"):
        decode_image(content[:-2] + scan * 1000 + content[-2:])


def test_a_jpeg_without_a_frame_header_is_damaged():
    with pytest.raises(ImageError, match="no frame header"):
        limits.jpeg_size(b"\xff\xd8\xff\xe0\x00\x04\x00\x00")


def rle(make_dicom, change) -> bytes:
    pixels = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16)
    frame = _rle(pixels)
    change(frame)
    return make_dicom(pixels, syntax=RLELossless, frame=bytes(frame)).read_bytes()


def _rle(pixels: np.ndarray) -> bytearray:
    planes = [(pixels >> 8).astype(np.uint8), (pixels & 255).astype(np.uint8)]
    segments = [imagecodecs.packbits_encode(plane.tobytes()) for plane in planes]
    segments = [segment + b"\x00" * (len(segment) % 2) for segment in segments]
    header = struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13)
    return bytearray(header + b"".join(segments))


def test_rle_gives_its_pixels_back(make_dicom):
    image = decode_image(rle(make_dicom, lambda frame: None))
    assert np.array_equal(image.pixels, np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    "start, value, message",
    [
        (0, 3, "3 segments"),
        (0, 0, "0 segments"),
        (4, 10, "damaged"),
        (8, 2**31, "damaged"),  # beyond the frame
        (8, 64, "damaged"),  # an empty first segment
    ],
)
def test_rle_offsets_are_checked_before_they_are_followed(make_dicom, start, value, message):
    def change(frame):
        frame[start : start + 4] = struct.pack("<I", value)

    with pytest.raises(ImageError, match=message):
        decode_image(rle(make_dicom, change))


def test_an_rle_segment_that_is_too_short_is_refused(make_dicom):
    def change(frame):
        frame[64:] = bytes(imagecodecs.packbits_encode(bytes(128))) + bytes(imagecodecs.packbits_encode(bytes(128)))
        frame[8:12] = struct.pack("<I", 64 + (len(frame) - 64) // 2)

    with pytest.raises(ImageError, match="cut short"):
        decode_image(rle(make_dicom, change))


def test_a_deflated_data_set_is_measured_before_it_is_inflated(make_dicom):
    dataset = pydicom.dcmread(make_dicom(np.arange(4).reshape(2, 2)))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    assert decode_image(buffer.getvalue()).pixels.tolist() == [[0, 1], [2, 3]]
    dataset.PixelData = bytes(300_000_000)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    assert len(buffer.getvalue()) < 10**6
    with pytest.raises(ImageError, match="inflates to more than the limit"):
        decode_image(buffer.getvalue())


def test_jpeg_lossless_still_decodes(make_dicom):
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    frame = imagecodecs.ljpeg_encode(pixels, bitspersample=12)
    assert np.array_equal(reading.read(make_dicom(pixels, syntax=JPEGLosslessSV1, frame=frame)).pixels, pixels)


def test_a_jpeg_ls_stream_without_an_end_is_refused(make_dicom):
    pixels = np.random.default_rng(0).integers(0, 4096, (24, 20)).astype(np.uint16)
    frame = imagecodecs.jpegls_encode(pixels)
    assert np.array_equal(reading.read(make_dicom(pixels, syntax=JPEGLSLossless, frame=frame)).pixels, pixels)
    cut = make_dicom(pixels, syntax=JPEGLSLossless, frame=frame[:108], name="cut.dicom")
    with pytest.raises(ImageError, match="do not end"):  # its decoder would never return
        reading.read(cut)
    assert preview(cut.read_bytes()) is None


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_end_in_an_image_error(make_dicom, seed):
    rng = np.random.default_rng(seed)
    good = make_dicom(rng.integers(0, 4096, (8, 8)), WindowCenter=2000, WindowWidth=3000).read_bytes()
    for _ in range(60):
        content = bytearray(good)
        for place in rng.integers(132, len(content), rng.integers(1, 6)):
            content[place] = rng.integers(256)
        try:
            decode_image(bytes(content[: rng.integers(140, len(content) + 1)]))
        except ImageError as error:
            assert "\n" not in str(error)
