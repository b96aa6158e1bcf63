"""A zip or tar archive of images is prepared like the folder it was made of, and is never unpacked."""

import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from d2_cxr.datasets import manifest
from d2_cxr.datasets.image_sizes import sizes_in
from d2_cxr.datasets.manifest import list_sources
from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.preparation import prepare as prepare_module
from d2_cxr.preparation import workers
from d2_cxr.preparation.options import PrepareOptions
from d2_cxr.preparation.prepare import prepare


@pytest.fixture
def folder(tmp_path, make_dicom):
    """Six images in two folders, two of them without a suffix, one damaged; a table, a hidden file."""
    rng = np.random.default_rng(0)
    for name in ("a/0.dicom", "a/1.dicom", "b/2", "b/3", "b/4.dcm", "b/5.dicom"):
        make_dicom(rng.integers(0, 4000, (40, 30)), name=f"images/{name}")
    (tmp_path / "images/b/4.dcm").write_bytes((tmp_path / "images/b/4.dcm").read_bytes()[:-100])
    (tmp_path / "images/train.csv").write_text("image_id\n")
    (tmp_path / "images/a/.hidden.dicom").write_bytes(b"hidden")
    return tmp_path / "images"


def pack(folder: Path, path: Path) -> Path:
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            archive.add(folder, arcname=".")  # as `tar -C folder -cf ... .`
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*"), reverse=True):
                archive.write(file, file.relative_to(folder))
    return path


def run(images: Path, output: Path, **more) -> dict:
    settings = {"name": "own_cxr", "preprocess": Preprocess(32), "jobs": 1, "progress": False, "classes": "from-csv"}
    return prepare(PrepareOptions(images, output, **{**settings, **more}))


def contents(output: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    files.pop("timings.csv")
    return files


def test_zip_tar_and_folder_give_the_same_set_to_the_byte(folder, tmp_path):
    counts = run(folder, tmp_path / "set")
    assert (counts["prepared"], counts["refused"], counts["ignored"]) == (5, 1, 1)
    before = set(tmp_path.rglob("*"))
    for name in ("images.zip", "images.tar"):
        archive = pack(folder, tmp_path / name)
        assert run(archive, tmp_path / "other" / name) == counts
        assert contents(tmp_path / "other" / name) == contents(tmp_path / "set")
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "images.zip", tmp_path / "images.tar"}
    assert all((tmp_path / "other") in (path, *path.parents) for path in new)  # nothing was unpacked beside the sets


def test_a_stopped_run_continues_and_reads_no_member_twice(folder, tmp_path, monkeypatch):
    archive = pack(folder, tmp_path / "images.zip")
    started = []

    def stopping(tasks, jobs, limit_s):
        for number, done in enumerate(workers_run(tasks, jobs, limit_s)):
            if number == 2:
                raise KeyboardInterrupt
            started.append(done[0]["png"])
            yield done

    workers_run = workers.run
    monkeypatch.setattr(prepare_module.workers, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(archive, tmp_path / "set")
    monkeypatch.setattr(prepare_module.workers, "run", lambda *args: _noting(workers_run(*args), started))
    assert run(archive, tmp_path / "set")["reused"] == 3  # two images and the table
    assert len(started) == len(set(started)) == 6
    assert run(archive, tmp_path / "set")["reused"] == 7


def _noting(results, started):
    for task, result in results:
        started.append(task["png"])
        yield task, result


def test_an_archive_that_was_replaced_by_another_of_the_same_lengths_is_read_again(folder, tmp_path):
    archive = pack(folder, tmp_path / "images.zip")
    run(archive, tmp_path / "set")
    before = {row["file"]: row["source_sha256"] for row in manifest.read(tmp_path / "set/manifest.csv")}
    dataset = pydicom.dcmread(folder / "a/0.dicom")
    dataset.PixelData = dataset.PixelData[::-1]
    dataset.save_as(folder / "a/0.dicom")
    pack(folder, archive)
    os.utime(archive, (2**31, 2**31))
    run(archive, tmp_path / "set")
    after = {row["file"]: row["source_sha256"] for row in manifest.read(tmp_path / "set/manifest.csv")}
    assert {file for file in after if after[file] != before[file]} == {"a/0.dicom"}


def test_members_that_cannot_be_read_are_refused_by_name_and_the_others_prepared(folder, tmp_path):
    archive = tmp_path / "images.zip"
    good = (folder / "a/0.dicom").read_bytes()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("locked.dcm", "changed.dcm", "good.dcm", "../outside.dcm", "/absolute.dcm", "good.dicom"):
            file.writestr(name, good)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # locked.dcm is marked as encrypted
    second = content.index(b"changed.dcm") + len("changed.dcm")
    content[second + 40] ^= 0x55
    archive.write_bytes(content)
    run(archive, tmp_path / "set")
    rows = {row["file"]: (row["outcome"], row["reason"]) for row in manifest.read(tmp_path / "set/manifest.csv")}
    assert rows["absolute.dcm"][0] == rows["good.dcm"][0] == "prepared"
    assert rows["good.dicom"] == ("refused", "the same image name as images/good.dcm")
    assert rows["locked.dcm"] == ("refused", "it is encrypted; unpack the archive with its password to a folder")
    assert rows["changed.dcm"][0] == "refused" and "archive's member is damaged" in rows["changed.dcm"][1]
    assert rows["../outside.dcm"] == ("refused", 'its path in the archive holds ".."; pack it without')
    assert not (tmp_path / "outside.dcm").exists()


def test_of_two_members_with_one_path_the_last_is_taken_as_unpacking_would(folder, tmp_path, caplog):
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(folder / "a/0.dicom", arcname="one.dicom")
        archive.add(folder / "a/1.dicom", arcname="./one.dicom")
    (source,) = list_sources(tmp_path / "images.tar")
    assert source.read() == (folder / "a/1.dicom").read_bytes()
    assert "1 file has the path of a later one" in caplog.text


def test_names_keys_and_bytes_are_those_of_the_folder(folder, tmp_path):
    for name in ("p1/view.dicom", "p2/view.dicom"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes((folder / "a" / f"{int(name[1]) - 1}.dicom").read_bytes()[:1000])
    archive = pack(folder, tmp_path / "images.tar")
    listed = [[(source.image_name, source.key, source.read()) for source in list_sources(p)] for p in (archive, folder)]
    assert listed[0] == listed[1]


def test_a_renamed_set_of_an_archive_holds_no_name_of_it(folder, tmp_path):
    archive = pack(folder, tmp_path / "images.zip")
    run(archive, tmp_path / "set", rename=tmp_path / "key")
    text = (tmp_path / "set/manifest.csv").read_text() + json.dumps(sorted(contents(tmp_path / "set")))
    assert "dicom" not in text and manifest.read(tmp_path / "set/manifest.csv")[0]["outcome"] in manifest.OUTCOMES


def test_labels_in_fractions_find_the_sizes_of_images_in_an_archive(folder, tmp_path):
    size_of = sizes_in(pack(folder, tmp_path / "images.zip"))
    assert (size_of("0"), size_of("3"), size_of("nothing")) == ((30, 40), (30, 40), None)


def test_an_archive_without_files_and_a_missing_one_are_refused_in_a_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr(".hidden", b"")
    with pytest.raises(ValueError, match=r"empty\.zip holds no file"):
        run(tmp_path / "empty.zip", tmp_path / "set")
    with pytest.raises(FileNotFoundError, match="give the folder or archive of the images"):
        run(tmp_path / "gone.zip", tmp_path / "set")
    assert not (tmp_path / "set").exists()
