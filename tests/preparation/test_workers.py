"""Worker processes: an image that hangs or kills its decoder is quarantined, and the others are prepared."""

import json
import os
import signal
import subprocess
import sys

import pytest

from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.preparation import image_worker, workers


def task(path, folder) -> dict:
    return {"path": str(path), "png": str(folder / f"{path.name}.png"), "rules": Preprocess(32).to_dict()}


def test_an_image_that_hangs_is_quarantined_and_the_run_goes_on(tmp_path, make_dicom):
    hanging = tmp_path / "hanging.dicom"
    os.mkfifo(hanging)  # reading it waits for a writer that never comes
    good = [make_dicom([[0, index + 1]], name=f"{index}.dicom") for index in range(4)]
    tasks = [task(path, tmp_path) for path in (good[0], hanging, *good[1:])]
    results = {task["path"]: result for task, result in workers.run(tasks, jobs=2, limit_s=2.0)}
    assert len(results) == 5
    assert results.pop(str(hanging)) == {"outcome": "quarantined", "reason": "no result after 2 s"}
    assert {result["outcome"] for result in results.values()} == {"prepared"}


def test_a_small_file_may_compute_for_a_limited_time_and_a_large_one_for_longer(tmp_path, make_dicom, monkeypatch):
    """The worker's own interpreter is replaced by one whose decoder computes for three seconds on both files."""
    script = tmp_path / "worker"
    script.write_text(
        f"""#!{sys.executable}
import time
from d2_cxr.preparation import image_worker
decode = image_worker.image_files.decode_image
def slow(content, **more):
    until = time.process_time() + 3
    while content[-4:] == b"slow" and time.process_time() < until:
        pass
    return decode(content, **more)
image_worker.image_files.decode_image = slow
image_worker.main()
"""
    )
    script.chmod(0o755)
    monkeypatch.setattr(workers.sys, "executable", str(script))
    monkeypatch.setattr(workers, "_SMALL_SHARE", 1 / 600)
    good = make_dicom([[0, 1]])
    (tmp_path / "small").write_bytes(b"slow")
    (tmp_path / "large").write_bytes(bytes(image_worker.SMALL_FILE) + b"slow")
    tasks = [task(tmp_path / "small", tmp_path), task(good, tmp_path), task(tmp_path / "large", tmp_path)]
    results = {task["path"].rsplit("/", 1)[1]: result for task, result in workers.run(tasks, jobs=1, limit_s=600)}
    reason = "no result within the CPU time that a file below 1 MB may take"
    assert results["small"] == {"outcome": "quarantined", "reason": reason}
    assert results["large"]["outcome"] == "refused"  # in its time: it is not an image
    assert results[good.name]["outcome"] == "prepared"


def test_a_decoder_that_dies_takes_one_image_with_it(tmp_path, make_dicom, monkeypatch):
    dying = tmp_path / "dying.dicom"
    os.mkfifo(dying)
    give = workers._Worker.give

    def give_and_kill(self, task, limit_s):
        give(self, task, limit_s)
        if task["path"] == str(dying):
            os.kill(self.process.pid, signal.SIGSEGV)

    monkeypatch.setattr(workers._Worker, "give", give_and_kill)
    tasks = [task(dying, tmp_path), task(make_dicom([[0, 1]]), tmp_path)]
    results = [result for _, result in workers.run(tasks, jobs=1)]
    assert results[0]["outcome"] == "quarantined" and "signal 11" in results[0]["reason"]
    assert results[1]["outcome"] == "prepared"


def test_a_png_that_cannot_be_written_ends_the_run_and_is_no_bad_image(tmp_path, make_dicom):
    (tmp_path / "full").write_bytes(b"")  # no folder: as on a full disk, writing below it fails
    with pytest.raises(OSError, match=r"image.png cannot be written: File exists; make room") as error:
        list(workers.run([{**task(make_dicom([[0, 1]]), tmp_path), "png": str(tmp_path / "full/image.png")}], jobs=2))
    assert "\n" not in str(error.value)


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(workers, "_Worker", None)
    assert list(workers.run([], jobs=4)) == []


def test_a_worker_that_does_not_start_is_an_error_and_not_a_bad_image(tmp_path, make_dicom, monkeypatch):
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        list(workers.run([task(make_dicom([[0, 1]]), tmp_path)], jobs=1))


def test_workers_import_neither_torch_nor_detectron2_nor_pandas():
    code = "import sys, json, d2_cxr.preparation.image_worker; print(json.dumps(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(json.loads(printed))
    assert not modules & {"torch", "detectron2", "pandas", "matplotlib", "sklearn", "scipy"}


def test_a_worker_ends_with_its_parent(tmp_path):
    """Its input closes when the parent is gone, however it went."""
    process = subprocess.Popen(
        [sys.executable, "-m", "d2_cxr.preparation.image_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    process.stdout.close()
