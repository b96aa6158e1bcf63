import json
import os
import sys

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.prediction.findings_folder import FindingsFolder
from d2_cxr.prediction.image_inputs import image_files, image_names
from d2_cxr.prediction.predict import predict
from d2_cxr.prediction.predictor import Predictor
from d2_cxr.preparation import workers


@pytest.fixture(scope="module")
def predictor(finished):
    return Predictor(finished[2] / "model_final.pth", device="cpu")


@pytest.fixture
def image(tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), np.random.default_rng(3).integers(0, 255, (128, 256)).astype(np.uint8))
    return tmp_path / "image.png"


def files_of(folder):
    return {row["file"] for row in artifacts.read_csv(folder / "refused.csv")}


def test_folders_are_searched_for_images_by_content(image, tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "no_suffix").write_bytes(image.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    assert image_files([tmp_path, image]) == ([tmp_path / "deeper" / "no_suffix", image], {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty contains no DICOM, PNG or JPEG"):
        image_files([tmp_path / "empty"])


def test_a_name_that_is_not_utf_8_is_refused_when_files_are_listed(image):
    os.link(image, os.fsencode(image.parent) + b"/caf\xe9.png")
    found, refused = image_files([image.parent])
    assert found == [image]
    assert refused == {f"{image.parent}/caf\\xe9.png": "the file name is not UTF-8; rename the file"}


def test_the_tool_finds_what_the_predictor_finds(predictor, image, tmp_path):
    images, refused = predict(predictor, [image], tmp_path / "out")
    expected = predictor(image)
    np.testing.assert_array_equal(images[0].boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(images[0].scores, expected.scores)
    assert artifacts.read_json(tmp_path / "out" / "findings.json") == [expected.to_dict()] and refused == {}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".lock",
        "detector.json",
        "findings.csv",
        "findings.json",
        "findings.jsonl",
        "overlays",
    ]


def test_images_of_the_same_name_are_named_with_their_folders(predictor, image, tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "image.png").write_bytes(image.read_bytes())
    images, refused = predict(predictor, [tmp_path], tmp_path / "out")
    assert [found.image_name for found in images] == ["deeper/image", "image"] and refused == {}
    drawn = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert drawn == ["deeper%2Fimage.png", "image.png"]


@pytest.mark.parametrize(
    "files, names",
    [
        (["a/p1.png", "b/p2.png"], ["p1", "p2"]),
        # many share their name: all have folders, as preparation names them
        (["a/s1/v.png", "b/s1/v.png", "b/s1/w.png"], ["a/s1/v", "b/s1/v", "b/s1/w"]),
        # two of thirty do: only these
        ([f"a/{n}.png" for n in range(28)] + ["a/x.png", "b/x.png"], [str(n) for n in range(28)] + ["a/x", "b/x"]),
        (["a/x.png", "a/x.dcm"], ["a/x.png", "a/x.dcm"]),
    ],
)
def test_no_two_images_have_one_name(tmp_path, files, names):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).touch()
    paths = [tmp_path / file for file in files]
    assert list(image_names(paths, [tmp_path]).values()) == names
    if len({path.parent for path in paths}) > 1:
        assert list(image_names(paths, paths).values()) == names


def test_bad_images_do_not_stop_the_others_and_are_named(predictor, image, tmp_path, make_dicom):
    cut = tmp_path / "cut.png"
    cut.write_bytes(image.read_bytes()[:200])
    gray = np.random.default_rng(0).integers(0, 4000, (40, 40))
    odd = make_dicom(gray, name="odd.dcm", WindowCenter=-600, WindowWidth=400)  # ends below 0 in unsigned pixels
    absent = make_dicom(gray, name="no_rows.dcm", Rows=None)
    images, refused = predict(predictor, [image, cut, odd, absent], tmp_path / "out", overlays=False)
    assert str(image) in {found.file for found in images}
    assert {str(cut), str(absent)} <= refused.keys() == files_of(tmp_path / "out")


def test_a_decoder_that_crashes_or_hangs_takes_one_image_with_it(predictor, image, tmp_path, monkeypatch):
    """The worker's own interpreter is replaced: it dies by a signal on one file and sleeps on another."""
    for name in ("crash.png", "hang.png"):
        (tmp_path / name).write_bytes(image.read_bytes())
    script = tmp_path / "worker"
    script.write_text(
        f"""#!{sys.executable}
import os, signal, time
from d2_cxr.preparation import image_worker
prepare = image_worker.prepare_file
def other(path, *arguments):
    if path.endswith("crash.png"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.endswith("hang.png"):
        time.sleep(60)
    return prepare(path, *arguments)
image_worker.prepare_file = other
image_worker.main()
"""
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(workers.run, "__defaults__", (2.0,))
    images, refused = predict(predictor, [tmp_path], tmp_path / "out", overlays=False)
    assert [found.image_name for found in images] == ["image"]
    assert "signal 11" in refused[str(tmp_path / "crash.png")]
    assert "no result after 2 s" in refused[str(tmp_path / "hang.png")]


def test_an_interrupted_run_keeps_what_it_has_found(predictor, image, tmp_path, monkeypatch):
    second = tmp_path / "second.png"
    second.write_bytes(image.read_bytes())
    add = FindingsFolder.add

    def interrupted(self, path, parts):
        if self.done:
            raise KeyboardInterrupt
        add(self, path, parts)

    monkeypatch.setattr(FindingsFolder, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(predictor, [image, second], tmp_path / "out")
    lines = (tmp_path / "out" / "findings.jsonl").read_text().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["width"] == 256
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 1
    assert not list((tmp_path / "out").glob(".unfinished-*")) and not (tmp_path / "out" / "findings.json").exists()


def test_no_readable_image_at_all_is_an_error_with_every_reason_on_file(predictor, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"no image could be read; .*bad\.png: .* \(all reasons: .*refused\.csv"):
        predict(predictor, [bad], tmp_path / "out")
    assert files_of(tmp_path / "out") == {str(bad)} and not (tmp_path / "out" / "findings.json").exists()


def test_an_earlier_runs_results_do_not_stay_beside_the_new_ones(predictor, image, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "refused.csv").write_text("file,reason\nold.png,damaged\n")
    predict(predictor, [image], tmp_path / "out", overlays=False)
    assert not (tmp_path / "out" / "refused.csv").exists()


def test_an_interrupted_run_is_continued_and_a_finished_one_is_not_done_again(predictor, image, tmp_path, monkeypatch):
    second, out = tmp_path / "second.png", tmp_path / "out"
    second.write_bytes(image.read_bytes())
    whole, _ = predict(predictor, [image, second], tmp_path / "whole")
    predict(predictor, [image], out)
    with open(out / "findings.jsonl", "a") as lines:
        lines.write('{"file": "' + str(second))  # what a kill leaves
    (out / "findings.json").unlink()
    detected = []
    detect = predictor.detect
    monkeypatch.setattr(predictor, "detect", lambda *inputs: detected.append(inputs[1]) or detect(*inputs))
    images, _ = predict(predictor, [image, second], out)
    assert detected == [str(second)] and len(images) == 2
    for one, other in zip(images, whole, strict=True):
        assert one.to_dict(exact=True) == other.to_dict(exact=True)
        assert (one.lowest_threshold, one.class_ids.tolist()) == (other.lowest_threshold, other.class_ids.tolist())
    names = {"findings.json", "findings.csv", "detector.json", "overlays/image.png", "overlays/second.png"}
    assert all((out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)
    predict(predictor, [image, second], out)
    assert detected == [str(second)]
    (out / "overlays" / "image.png").unlink()
    predict(predictor, [image, second], out)
    assert detected == [str(second), str(image)]


def test_an_image_that_changed_is_predicted_again_and_one_that_is_not_asked_for_goes(predictor, image, tmp_path):
    second, out = tmp_path / "second.png", tmp_path / "out"
    second.write_bytes(image.read_bytes())
    predict(predictor, [image, second], out)
    cv2.imwrite(str(image), np.random.default_rng(4).integers(0, 255, (100, 90)).astype(np.uint8))
    images, _ = predict(predictor, [image], out)
    assert (images[0].width, images[0].height) == (90, 100)
    assert len(artifacts.read_json(out / "findings.json")) == 1
    assert len((out / "findings.jsonl").read_text().splitlines()) == 1
    assert [path.name for path in (out / "overlays").iterdir()] == ["image.png"]


def test_the_results_of_another_detector_are_replaced(finished, predictor, image, tmp_path, caplog):
    predict(predictor, [image], tmp_path / "out")
    limits = {"thresholds": {"Disc": 0.0, "Square": 0.0}}
    other = Predictor(finished[2] / "model_final.pth", "cpu", limits)
    images, _ = predict(other, [image], tmp_path / "out")
    assert images[0].is_reported.all() and "holds the results of another detector" in caplog.text
    assert artifacts.read_json(tmp_path / "out" / "detector.json")["thresholds"] == limits


def test_two_predictions_into_one_folder_are_refused(predictor, image, tmp_path):
    with artifacts.only_one(tmp_path / "out"), pytest.raises(ValueError, match="another process writes to"):
        predict(predictor, [image], tmp_path / "out")
