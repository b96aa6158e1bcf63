"""tools/evaluate.py on a small prepared set: files in, files out, one line for a mistake."""

from __future__ import annotations

import errno
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("evaluate_tool", ROOT / "tools" / "evaluate.py")
evaluate_tool = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(evaluate_tool)

CLASSES = [{"id": 1, "name": "Mass"}, {"id": 2, "name": "Effusion"}]


def _images(numbers):
    return [{"id": n, "file_name": f"image{n}.png", "width": 256, "height": 256, "patient": n // 2} for n in numbers]


def _write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def prepared(tmp_path):
    """Return the root of a set `toy_cxr` with 24 test images read by R1, R2, R3, and negative ones."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "sets" / "toy_cxr"
    splits = {"train": range(100, 120), "val": range(120, 130), "test": range(1, 25)}
    for part, numbers in splits.items():
        boxes = [_box(rng, n) for n in numbers for _ in range(rng.integers(1, 4))]
        boxes = [{**box, "id": i, "num_readers": 2} for i, box in enumerate(boxes, start=1)]
        coco = {"images": _images(numbers), "annotations": boxes, "categories": CLASSES}
        _write(folder / f"annotations/stratified/{part}.json", coco)
    negative = {"images": _images(range(40, 50)), "annotations": [], "categories": CLASSES}
    _write(folder / "annotations/stratified/negative_test.json", negative)
    test = json.loads((folder / "annotations/stratified/test.json").read_text())
    drawn = [
        {**_moved(rng, box), "reader": f"R{r}"} for box in test["annotations"] for r in (1, 2, 3) if rng.random() < 0.8
    ]
    drawn = [{**box, "id": i} for i, box in enumerate(drawn, start=1)]
    images = [{**image, "readers": ["R1", "R2", "R3"]} for image in test["images"] + negative["images"]]
    _write(folder / "annotations/readers.json", {"images": images, "annotations": drawn, "categories": CLASSES})
    _write(
        folder / "dataset.json",
        {"format_version": 2, "class_names": ["Mass", "Effusion"], "fusion": {"rule": "mean", "iou_threshold": 0.2}},
    )
    return tmp_path / "sets"


def _box(rng, image):
    x, y = rng.uniform(0, 150, 2)
    width, height = rng.uniform(20, 100, 2)
    bbox = [float(v) for v in (x, y, width, height)]
    return {
        "image_id": image,
        "category_id": int(rng.integers(1, 3)),
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
    }


def _moved(rng, box):
    return {**box, "bbox": [float(v) for v in np.array(box["bbox"]) + rng.normal(0, 4, 4)]}


@pytest.fixture
def results(prepared, tmp_path):
    rng = np.random.default_rng(1)
    test = json.loads((prepared / "toy_cxr/annotations/stratified/test.json").read_text())
    found = [{**_moved(rng, box), "score": float(rng.beta(4, 2))} for box in test["annotations"] if rng.random() < 0.8]
    found += [{**_box(rng, n), "score": float(rng.beta(2, 4))} for n in range(1, 25) for _ in range(3)]
    return _write(tmp_path / "run" / "coco_instances_results.json", [_result(row) for row in found])


def _result(row):
    return {key: row[key] for key in ("image_id", "category_id", "bbox", "score")}


def run(prepared, results, *more):
    common = ["--dataset", "toy_cxr_test", "--root", str(prepared), "--resamples", "30"]
    return evaluate_tool.main([*common, "--results", str(results), *more])


def test_everything_is_written(prepared, results):
    assert run(prepared, results) == 0
    names = {path.name for path in results.parent.iterdir()}
    assert names == {
        *("coco_instances_results.json", "evaluation.json", "matches.npz", "prior_box_matches.npz"),
        *("thresholds.json", "worst_images.csv", "froc.png", "ap50_by_class.png", "evaluation.html"),
    }
    document = json.loads((results.parent / "evaluation.json").read_text())
    assert document["num_images"] == 24 and document["resampled_by"] == "patient"
    assert set(document["readers"]["by_reader"]) == {"R1", "R2", "R3"}
    assert document["rows"]["prior_box"]["model_minus_row"]["AP50"]["difference"] > 0
    assert document["errors"]["Miss"]["of"] == document["num_boxes"]


def test_negative_images_count_when_there_are_results_on_them(prepared, results, tmp_path):
    negative = [_result({**_box(np.random.default_rng(3), n), "score": 0.5}) for n in range(40, 44)]
    given = _write(tmp_path / "elsewhere.json", negative)
    output = tmp_path / "out"
    assert run(prepared, results, "--negative-results", str(given), "--output", str(output)) == 0
    document = json.loads((output / "evaluation.json").read_text())
    assert document["num_negative_images"] == 10
    assert document["metrics"]["image_auroc"]["value"] > 0.5


def test_the_page_shows_values_on_its_curves_and_stands_alone(prepared, results, tmp_path):
    other = _write(tmp_path / "other" / "coco_instances_results.json", json.loads(results.read_text())[::2])
    assert run(prepared, results, "--compare", str(other)) == 0
    page = (results.parent / "evaluation.html").read_text()
    document = json.loads((results.parent / "evaluation.json").read_text())
    found, mass = document["metrics"]["froc_sens_at_2"]["value"], document["per_class"]["Mass"]["AP50"]["value"]
    titles = re.findall("<title>(.*?)</title>", page)
    for start in (f"model: sensitivity {found:.3f} (95 %: ", f"Mass: AP50 {mass:.3f} (95 %", "R2: sensitivity "):
        assert any(title.startswith(start) for title in titles), start
    assert sum(title.startswith("prior-box baseline: sensitivity ") for title in titles) == 7
    assert "Minus the other run" in page and "mistakes.html" not in page
    assert not re.search(r" src=|<link|@import", page)
    assert run(prepared, results) == 0
    assert "Minus the other run" not in (results.parent / "evaluation.html").read_text()


def test_a_detector_that_finds_nothing_has_a_page_too(prepared, results):
    results.write_text("[]")
    assert run(prepared, results) == 0
    page = (results.parent / "evaluation.html").read_text()
    assert "the detector finds 0% of" in page and "Of 0 detections," in page


def test_two_runs_are_compared(prepared, results, tmp_path):
    half = json.loads(results.read_text())[::2]
    other = _write(tmp_path / "other" / "coco_instances_results.json", half)
    assert run(prepared, results, "--compare", str(other)) == 0
    difference = json.loads((results.parent / "comparison.json").read_text())["metrics"]["AR_100"]
    assert difference["difference"] > 0 and difference["interval"][0] > 0 and difference["p"] < 0.1
    assert run(prepared, other, "--compare", str(results.parent / "matches.npz")) == 0
    back = json.loads((other.parent / "comparison.json").read_text())["metrics"]["AR_100"]
    assert back["difference"] == pytest.approx(-difference["difference"])


def test_thresholds_of_validation_are_reported(prepared, results, tmp_path):
    chosen = {
        "chosen_on": "toy_cxr_val",
        "false_positives_per_image": 0.125,
        "thresholds": {"Mass": 0.5, "Effusion": None},
    }
    assert run(prepared, results, "--thresholds", str(_write(tmp_path / "t.json", chosen))) == 0
    table = json.loads((results.parent / "evaluation.json").read_text())["at_thresholds"]
    assert table["per_class"]["Effusion"]["sensitivity"]["value"] == 0
    assert table["per_class"]["Mass"]["sensitivity"]["value"] > 0


def test_metrics_within_groups_of_images(prepared, results, tmp_path, caplog):
    table = tmp_path / "images.csv"
    table.write_text("image_id,view\n" + "".join(f"image{n},{'AP' if n < 7 else 'PA'}\n" for n in range(1, 60)))
    with caplog.at_level("INFO"):
        assert run(prepared, results, "--subgroups", f"{table}:view") == 0
    groups = json.loads((results.parent / "evaluation.json").read_text())["subgroups"]
    assert groups["column"] == "view"
    assert {value: group["num_images"] for value, group in groups["subgroups"].items()} == {"AP": 6, "PA": 18}
    assert "view = PA, 18 images: AP50 0." in caplog.text
    table.write_text("image_id,view\nimage1,AP\n")
    (results.parent / "evaluation.json").unlink()
    for column, message in (("vew", "has no column 'vew'"), ("view", "the table lacks 23 of 24 evaluated images")):
        with pytest.raises(ValueError, match=message) as raised:
            run(prepared, results, "--subgroups", f"{table}:{column}")
        assert "\n" not in str(raised.value)
    assert not (results.parent / "evaluation.json").exists()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (["--dataset", "toy_cxr_tset"], ValueError, "no data set 'toy_cxr_tset'"),
        (["--dataset", "other_test"], FileNotFoundError, "no prepared set below .* fits the name other_test"),
        (["--results", "nowhere.json"], FileNotFoundError, "nowhere.json is missing"),
        (["--compare", "nowhere.json"], FileNotFoundError, "nowhere.json is missing"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(prepared, results, arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        run(prepared, results, *arguments)
    assert "\n" not in str(raised.value)
    assert [path.name for path in results.parent.iterdir()] == ["coco_instances_results.json"]


def test_a_file_that_is_no_list_of_results_is_refused(prepared, tmp_path):
    wrong = _write(tmp_path / "wrong" / "results.json", {"AP": 1})
    with pytest.raises(ValueError, match="is not a list of COCO results"):
        run(prepared, wrong)


def test_odd_results_are_told_once_and_fail_only_where_asked(prepared, results, tmp_path, caplog):
    half = [row for row in json.loads(results.read_text()) if row["image_id"] < 13]
    given = _write(tmp_path / "half" / "coco_instances_results.json", half)
    with caplog.at_level("WARNING"):
        assert run(prepared, given) == 0
    line = "results: no detection on 12 of 24 images, first image13; are results of some images missing?"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [line]
    assert json.loads((given.parent / "evaluation.json").read_text())["problems"] == [line]
    assert run(prepared, given, "--strict") == 1
    assert run(prepared, results, "--strict") == 0


def test_another_run_that_cannot_be_compared_is_refused_as_well(prepared, results, tmp_path):
    twice = _write(tmp_path / "twice" / "coco_instances_results.json", json.loads(results.read_text()) * 2)
    with pytest.raises(ValueError, match="detections repeated"):
        run(prepared, results, "--compare", str(twice))


@pytest.mark.slow
def test_on_a_full_disk_the_line_names_file_and_folder_and_with_room_the_same_call_ends(
    prepared, results, tmp_path, small_disk
):
    assert run(prepared, results, "--output", str(tmp_path / "whole")) == 0
    whole = {path.name: path.stat().st_size for path in (tmp_path / "whole").iterdir()}
    named = set()
    for kilobytes in (4, 12, *range(20, sum(whole.values()) // 1000, 16)):
        folder = small_disk(kilobytes)
        with pytest.raises(OSError, match="disk") as error:
            run(prepared, results, "--output", str(folder))
        assert error.value.errno == errno.ENOSPC and str(folder) in str(error.value)
        named |= {name for name in whole if name in str(error.value)}
        assert not list(folder.glob(".unfinished-*"))
    assert len(named) >= 2, named  # it was full at different files
    folder = small_disk(4000)
    assert run(prepared, results, "--output", str(folder)) == 0
    assert {path.name for path in folder.iterdir()} - {".lock"} == whole.keys() - {".lock"}
    assert (folder / "evaluation.json").read_bytes() == (tmp_path / "whole" / "evaluation.json").read_bytes()
