"""Images inside a zip or tar archive, each read from where it lies: nothing is unpacked to disk.

A member is known by its place, so that a worker opens the archive at that byte and needs no table of contents. A
compressed tar has no such places and is refused. What a member may claim is limited as for files (limits.py).
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2_cxr.dicom import limits
from d2_cxr.dicom.stored_image import ImageError

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard"}  # APPNOTE.TXT 4.4.5
_ENCRYPTED = 0x1  # general purpose flag, APPNOTE.TXT 4.4.4
_LOCAL_HEADER, _LOCAL_BYTES = b"PK\x03\x04", 30  # APPNOTE.TXT 4.3.7
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_NOT_PLAIN = "it is a link or a sparse file in the archive; pack the files themselves (tar --dereference)"
_BLOCK = 512  # of a tar


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path in the archive, with "/".
        offset: in bytes, of its local header in a zip, of its content in a tar.
        packed: bytes that the archive holds of it.
        size: its own bytes.
        method: 0 stored, 8 deflated.
        crc: CRC-32 of its content; None in a tar, which has none.
        refusal: why it is not read, "" for most.
    """

    name: str
    offset: int
    packed: int
    size: int
    method: int = _STORED
    crc: int | None = None
    refusal: str = ""


def members(path: str | Path) -> list[Member]:
    """Return the files in a zip or tar archive, as they lie, without folders.

    Raises:
        ValueError: the archive is damaged, cut short, or a compressed tar.
        NotADirectoryError: the file is no archive.
    """
    with open(path, "rb") as file:
        start = file.read(_BLOCK)
    compressed = next((name for first, name in _COMPRESSED.items() if start.startswith(first)), None)
    if compressed:
        raise ValueError(
            f"{path} is compressed as a whole ({compressed}), so its images cannot be read one by one; give a zip or a "
            "plain tar, or unpack it to a folder"
        )
    if start.startswith(_LOCAL_HEADER) or zipfile.is_zipfile(path):
        listed = _zip_members
    elif start[257:262] == b"ustar" or (any(start) and tarfile.is_tarfile(path)):
        listed = _tar_members
    else:
        raise NotADirectoryError(f"{path} is neither a folder nor a zip or tar archive; give one of them")
    try:
        return list(listed(path))
    except Exception as error:  # the two modules raise a dozen kinds for damaged lists
        raise ValueError(
            f"{path} is damaged or cut short ({type(error).__name__} in its list of files); copy or download it again"
        ) from error


def read_file(path: str | Path, member: Member | None = None, most: int | None = None) -> bytes:
    """Return the bytes of a file, or of an archive's member.

    Args:
        path: of the file, or of the archive.
        member: None: the file itself.
        most: first bytes wanted; None: all, and a zip's checksum is compared.

    Raises:
        OSError: the file cannot be read.
        ImageError: it is longer than any image, or the member is refused or damaged.
    """
    if member is not None and member.refusal:
        raise ImageError(member.refusal)
    size = os.path.getsize(path) if member is None else max(member.size, member.packed)
    if size > limits.MAX_FILE_BYTES and most is None:
        raise ImageError(f"the file has more bytes than the limit of {limits.MAX_FILE_BYTES // 10**6} million")
    with open(path, "rb") as file:
        if member is None:
            return file.read(-1 if most is None else most)
        file.seek(member.offset)
        if member.crc is not None:
            _skip_local_header(file)
        if member.method == _STORED:
            content = file.read(member.size if most is None else min(most, member.size))
        else:
            packed = file.read(member.packed if most is None else min(member.packed, 8 * most))
            content = _inflated(packed, member, most)
    if most is None and (len(content) != member.size or member.crc not in (None, zlib.crc32(content))):
        raise ImageError("the archive's member is damaged: its length or checksum is not the one that is listed")
    return content


def _skip_local_header(file) -> None:
    header = file.read(_LOCAL_BYTES)
    if len(header) < _LOCAL_BYTES or not header.startswith(_LOCAL_HEADER):
        raise ImageError("the archive's member is damaged: it does not begin where the archive lists it")
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)


def _inflated(packed: bytes, member: Member, most: int | None) -> bytes:
    limit = limits.inflated_bytes(member.packed)
    if most is None and member.size > limit:
        raise ImageError(
            f"{member.packed} bytes in the archive expand to {member.size}: more than the limit of {limit // 10**6} MB"
        )
    try:  # one byte more than listed is enough to see that the list is wrong
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1 if most is None else most)
    except zlib.error as error:
        raise ImageError("the archive's member is damaged: its compressed bytes cannot be expanded") from error


def _zip_members(path: str | Path) -> Iterator[Member]:
    end = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            refusal = ""
            if info.flag_bits & _ENCRYPTED:
                refusal = "it is encrypted; unpack the archive with its password to a folder"
            elif info.compress_type not in (_STORED, _DEFLATED):
                method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
                refusal = f"it is compressed by {method}, which is not supported; pack the archive again with Deflate"
            elif not 0 <= info.header_offset <= end - info.compress_size:
                refusal = "it lies outside the archive: the list of files is damaged"
            place = (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
            yield Member(info.filename.replace("\\", "/"), *place, refusal)


def _tar_members(path: str | Path) -> Iterator[Member]:
    archive: Any  # its members and file object are not typed
    with tarfile.open(path, "r:") as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # the module keeps every header, for links that are not followed here
            if info.isdir():
                continue
            refusal = "" if info.isreg() and not info.issparse() else _NOT_PLAIN
            yield Member(info.name, info.offset_data, info.size, info.size, refusal=refusal)
        archive.fileobj.seek(archive.offset)  # the module ends at a damaged header as at the archive's end
        if any(archive.fileobj.read(_BLOCK)):
            raise tarfile.ReadError("the list of files does not end")
