"""What a file may claim before it is decoded: its size in pixels, and what its compressed parts expand to.

A file of a few kilobytes can ask a decoder for gigabytes. Each check here reads a header only. A small file may claim
as much as any radiograph has; a large one may claim more (docs/reliability.md has the measured memory and time).
"""

from __future__ import annotations

import zlib

from d2_cxr.dicom.stored_image import ImageError

MAX_PIXELS = 150_000_000  # no detector and no scanner of films gives more
SMALL_FILE_PIXELS = 25_000_000  # a file of any length may claim these: 4320 x 5760, larger than any detector
PIXELS_PER_BYTE = 30  # beyond these, a file must have a byte for so many pixels; radiographs compress less
MAX_FILE_BYTES = 1 << 30  # of one file; 150 million pixels of 16 bits have 300 MB
MAX_JPEG_SCANS = 64  # progressive JPEGs have about ten; each scan passes over the whole image

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_STANDALONE = {0x01, *range(0xD0, 0xDA)}  # JPEG markers without a length: TEM, RSTn, SOI, EOI
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOFn but DHT, JPG, DAC; SOF55 of JPEG-LS


def check_pixels(width: int, height: int, num_bytes: int) -> None:
    """Refuse sizes that no radiograph has, or that a file of this length cannot hold.

    Args:
        width, height: that the file claims.
        num_bytes: length of the whole file.

    Raises:
        ImageError: with the claimed size and the limit.
    """
    pixels = width * height
    if not (width > 0 and height > 0):
        raise ImageError(f"{width} x {height} pixels is not a possible image size")
    if pixels > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels: more than the limit of {MAX_PIXELS // 10**6} million; make the image smaller"
        )
    if pixels > max(SMALL_FILE_PIXELS, PIXELS_PER_BYTE * num_bytes):
        raise ImageError(
            f"{width} x {height} pixels in a file of {num_bytes} bytes: more than the limit of "
            f"{SMALL_FILE_PIXELS // 10**6} million pixels for a file so small; save it with less compression"
        )


def inflated_bytes(num_bytes: int) -> int:
    """Return how many bytes so many deflated ones may expand to: one frame of 8-bit color or 16-bit gray."""
    return min(MAX_FILE_BYTES, 3 * max(SMALL_FILE_PIXELS, PIXELS_PER_BYTE * num_bytes))


def check_inflated(data: bytes, num_bytes: int) -> None:
    """Refuse a deflated data set (PS3.5 A.5) that inflates to more than an image and its header need.

    Args:
        data: the deflated bytes.
        num_bytes: length of the whole file.
    """
    limit = inflated_bytes(num_bytes)
    inflate, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while data and not inflate.eof and inflated <= limit:
        inflated += len(inflate.decompress(data, 1 << 20))
        data = inflate.unconsumed_tail
    if inflated > limit:
        raise ImageError(f"the deflated data set inflates to more than the limit of {limit // 10**6} MB")


def deflated_part(content: bytes) -> bytes | None:
    """Return what a DICOM file of Deflated Explicit VR Little Endian holds deflated, None of other files."""
    if _DEFLATED not in content[:4096]:
        return None
    end = 144 + int.from_bytes(content[140:144], "little")  # after (0002,0000), the length of the rest of group 0002
    return content[end:]


def check_jpeg(frame: bytes, rows: int, columns: int) -> None:
    """Refuse a JPEG or JPEG-LS stream of another size than the header's, or of a thousand scans.

    Raises:
        ImageError: also where no frame header (SOF, ITU-T T.81 B.2.2) is found.
    """
    height, width = jpeg_size(frame)
    if (height, width) != (rows, columns):
        raise ImageError(f"the pixels are {(height, width)}, the header says {rows} rows x {columns} columns")


def check_jpeg_ls(frame: bytes) -> None:
    """Refuse a JPEG-LS stream without its End Of Image: a decoder may search for it forever.

    Raises:
        ImageError: no EOI (ITU-T T.87 C.1.1) follows the start of the scan.
    """
    if b"\xff\xd9" not in frame[frame.find(b"\xff\xda") :]:
        raise ImageError("the JPEG-LS pixels do not end: damaged or cut short")


def jpeg_size(frame: bytes) -> tuple[int, int]:
    """Return (height, width) of a JPEG stream's frame header.

    Raises:
        ImageError: there is none, or the stream has more scans than any real image.
    """
    scans = frame.count(b"\xff\xda")  # coded data hold no FFDA: ITU-T T.81 B.1.1.5
    if scans > MAX_JPEG_SCANS:
        raise ImageError(f"the JPEG has {scans} scans: more than the limit of {MAX_JPEG_SCANS}")
    position = 2
    while position + 9 <= len(frame):
        if frame[position] != 0xFF:
            break
        marker = frame[position + 1]
        if marker in _FRAMES:
            return (
                int.from_bytes(frame[position + 5 : position + 7], "big"),
                int.from_bytes(frame[position + 7 : position + 9], "big"),
            )
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    raise ImageError("the JPEG pixels have no frame header: damaged or cut short")


def rle_segments(frame: bytes, number: int, unpacked: int) -> list[bytes]:
    """Return the segments of an RLE frame, still packed, after its header is checked (PS3.5 G.3, G.5).

    Args:
        frame: header of 64 bytes and segments.
        number: of segments: a segment holds one byte of each sample.
        unpacked: bytes that each must give.

    Raises:
        ImageError: another number of segments, or offsets that do not ascend within the frame.
    """
    header = [int.from_bytes(frame[start : start + 4], "little") for start in range(0, 64, 4)]
    starts = header[1 : number + 1]
    ends = [*starts[1:], len(frame)]
    if len(frame) < 64 or header[0] != number:
        raise ImageError(f"the RLE pixels have {header[0]} segments: the header asks for {number}")
    if starts[0] < 64 or any(start >= end for start, end in zip(starts, ends, strict=True)):
        raise ImageError("the RLE pixels are damaged: their segments do not follow each other within the frame")
    segments = [frame[start:end] for start, end in zip(starts, ends, strict=True)]
    if any(len(segment) * 64 < unpacked for segment in segments):  # two bytes give 128 at most
        raise ImageError(f"the RLE pixels are cut short: a segment of them cannot give {unpacked} bytes")
    return segments
