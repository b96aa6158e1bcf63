"""Files inside zip and tar archives: found by their places, read in place, and refused for what they claim."""

import io
import random
import tarfile
import zipfile

import pytest

from d2_cxr.dicom import archives, limits
from d2_cxr.dicom.stored_image import ImageError

FILES = {"train/one.dcm": b"first " * 50, "train/two.dcm": b"second", "table.csv": b"a,b\n"}


def write_zip(path, files=FILES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("train") if hasattr(archive, "mkdir") else None
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path, files=FILES, mode="w", **options):
    with tarfile.open(path, mode, **options) as archive:
        folder = tarfile.TarInfo("train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


ARCHIVES = {
    "deflated.zip": write_zip,
    "stored.zip": lambda path: write_zip(path, method=zipfile.ZIP_STORED),
    "gnu.tar": lambda path: write_tar(path, format=tarfile.GNU_FORMAT),
    "pax.tar": lambda path: write_tar(path, format=tarfile.PAX_FORMAT),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_file_is_listed_and_read_whole_or_in_part(tmp_path, name):
    path = ARCHIVES[name](tmp_path / name)
    found = {member.name: member for member in archives.members(path)}
    assert {name: archives.read_file(path, member) for name, member in found.items()} == FILES
    assert {name: archives.read_file(path, member, 4) for name, member in found.items()} == {
        name: content[:4] for name, content in FILES.items()
    }
    assert {name: member.size for name, member in found.items()} == {"train/one.dcm": 300, "train/two.dcm": 6} | {
        "table.csv": 4
    }


def test_a_zip_behind_other_bytes_and_names_of_windows_are_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"train\\one.dcm": b"content"})
    path.write_bytes(b"#!/bin/sh self-extracting" + path.read_bytes())
    (member,) = archives.members(path)
    assert (member.name, archives.read_file(path, member)) == ("train/one.dcm", b"content")


@pytest.mark.parametrize("mode, kind", [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path, mode, kind):
    path = write_tar(tmp_path / "a.tar.x", mode=mode)
    with pytest.raises(ValueError, match=rf"compressed as a whole \({kind}\).*zip or a plain tar"):
        archives.members(path)


@pytest.mark.parametrize("content", [b"", b"neither", bytes(2000), b"x" * 2000])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(NotADirectoryError, match=r"a\.dcm is neither a folder nor a zip or tar archive"):
        archives.members(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_cut_short_is_refused_as_a_whole(tmp_path, name):
    path = ARCHIVES[name](tmp_path / name)
    content = path.read_bytes()
    whole = len(content.rstrip(b"\0"))  # a tar ends in blocks of zeros
    path.write_bytes(content[: whole - 3])
    with pytest.raises(ValueError, match=r"damaged or cut short .* copy or download it again"):
        archives.members(path)


def test_a_tar_whose_middle_header_is_damaged_does_not_end_there_in_silence(tmp_path):
    path = write_tar(tmp_path / "a.tar")
    content = bytearray(path.read_bytes())
    start = content.index(b"train/two.dcm")
    content[start : start + 512] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or cut short"):
        archives.members(path)


@pytest.mark.parametrize("name", ["deflated.zip", "stored.zip"])
def test_a_zip_member_whose_bytes_changed_is_refused_alone(tmp_path, name):
    path = ARCHIVES[name](tmp_path / name)
    first, second, _ = archives.members(path)
    content = bytearray(path.read_bytes())
    content[second.offset + 30 + len("train/two.dcm") + 2] ^= 0x55
    path.write_bytes(content)
    assert archives.read_file(path, first) == FILES["train/one.dcm"]
    with pytest.raises(ImageError, match="the archive's member is damaged"):
        archives.read_file(path, second)


def test_a_member_that_does_not_begin_where_it_is_listed_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    member = archives.members(path)[0]
    content = bytearray(path.read_bytes())
    content[member.offset : member.offset + 4] = b"xxxx"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="does not begin where the archive lists it"):
        archives.read_file(path, member)


@pytest.mark.parametrize("field, value", [(42, b"\xff\xff\xff\x7f"), (20, b"\xff\xff\xff\x7f")])
def test_a_member_that_is_listed_outside_the_archive_is_refused_unread(tmp_path, field, value):
    """Offsets in its entry of the directory: 20 is its packed length, 42 where it begins."""
    path = write_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"train/one.dcm") - 46
    content[entry + field : entry + field + 4] = value
    path.write_bytes(content)
    (member,) = (member for member in archives.members(path) if member.name == "train/one.dcm")
    with pytest.raises(ImageError, match="lies outside the archive"):
        archives.read_file(path, member)


def test_an_encrypted_member_is_listed_and_refused_by_name(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"train/one.dcm") - 46 + 8] |= 1  # the flag of its entry in the directory
    path.write_bytes(content)
    first, second, _ = archives.members(path)
    assert second.refusal == "" and "password" in first.refusal
    with pytest.raises(ImageError, match="encrypted"):
        archives.read_file(path, first)


@pytest.mark.parametrize("method, name", [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_another_compression_is_refused_by_its_name(tmp_path, method, name):
    path = write_zip(tmp_path / "a.zip", method=method)
    with pytest.raises(ImageError, match=f"compressed by {name}, which is not supported; pack the archive again"):
        archives.read_file(path, archives.members(path)[0])


def test_links_in_a_tar_are_refused_by_name_and_never_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("soft.dcm", tarfile.SYMTYPE), ("hard.dcm", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret")
            archive.addfile(info)
    for member in archives.members(tmp_path / "a.tar"):
        with pytest.raises(ImageError, match="link"):
            archives.read_file(tmp_path / "a.tar", member)


def test_a_small_member_that_expands_beyond_any_image_is_refused_before_it_is_expanded(tmp_path):
    size = limits.inflated_bytes(0) + 1
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.dcm", "w") as file:
        for _ in range(size // 10**6 + 1):
            file.write(bytes(10**6))
    (member,) = archives.members(tmp_path / "a.zip")
    assert member.packed < 100_000
    with pytest.raises(ImageError, match="expand to 76000000: more than the limit of 75 MB"):
        archives.read_file(tmp_path / "a.zip", member)


def test_a_member_that_expands_to_more_than_it_lists_is_read_no_further(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.dcm": bytes(10**6)})
    (member,) = archives.members(path)
    lying = archives.Member(member.name, member.offset, member.packed, 100, member.method, member.crc)
    with pytest.raises(ImageError, match="its length or checksum"):
        archives.read_file(path, lying)


@pytest.mark.parametrize("name", ["stored.zip", "gnu.tar"])
def test_a_file_longer_than_any_image_is_refused_unread(tmp_path, name, monkeypatch):
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 299)
    path = ARCHIVES[name](tmp_path / name)
    with pytest.raises(ImageError, match="more bytes than the limit"):
        archives.read_file(path, archives.members(path)[0])
    with pytest.raises(ImageError, match="more bytes than the limit"):
        archives.read_file(path)


def test_a_member_that_is_small_but_packed_in_more_bytes_than_any_image_is_refused_unread(tmp_path, monkeypatch):
    """All the archive would be read into memory for an image that is listed as small."""
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 299)
    (tmp_path / "a.zip").write_bytes(b"PK" + bytes(500))
    with pytest.raises(ImageError, match="more bytes than the limit"):
        archives.read_file(tmp_path / "a.zip", archives.Member("a.dcm", 0, packed=400, size=10, method=8, crc=0))


@pytest.mark.parametrize("name", ARCHIVES)
def test_damaged_archives_end_in_a_refusal_or_in_members_that_do(tmp_path, name):
    content = ARCHIVES[name](tmp_path / name).read_bytes()
    path = tmp_path / "damaged"
    chance = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        path.write_bytes(damaged)
        try:
            found = archives.members(path)
        except (ValueError, NotADirectoryError) as error:
            assert str(path) in str(error)
            continue
        for member in found:
            try:
                archives.read_file(path, member)
            except ImageError as error:
                assert "\n" not in str(error)
