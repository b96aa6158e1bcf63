import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.datasets import loading
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.dicom.image_files import ImageError
from d2_cxr.prediction.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(finished):
    return Predictor(finished[2] / "model_final.pth", device="cpu")


@pytest.fixture
def image(tmp_path):
    """A source image four times as wide and twice as high as the network's image."""
    image = np.random.default_rng(3).integers(0, 255, (128, 256)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    return tmp_path / "image.png"


def test_boxes_are_in_the_source_images_pixels(predictor, image):
    found = predictor(image)
    assert (found.width, found.height, found.image_name) == (256, 128, "image")
    assert found.boxes_xyxy.shape == (len(found), 4) and len(found) > 0
    assert found.boxes_xyxy[:, 2].max() > 128  # beyond the network's 64 pixels, and the image's height
    assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy[:, 2:] <= [256, 128]).all()
    assert (np.diff(found.scores) <= 0).all()


def test_the_lines_of_the_readme_print_what_is_reported(finished, image, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = readme.split("## Three lines from checkpoint to findings")[1].split("## ")[0]
    code = textwrap.dedent("\n".join(line for line in lines.splitlines() if line.startswith("    ")))
    code = code.replace("output/simclr_60/model_final.pth", str(finished[2] / "model_final.pth"))
    exec(code.replace("image.dicom", str(image)), {})
    printed = capsys.readouterr().out
    assert printed == f"{Predictor(finished[2] / 'model_final.pth')(image)}\n"


def test_the_boxes_of_prediction_are_those_of_evaluation(predictor, finished, tiny_set):
    """The same image by the test loader and as a file: the prepared picture is its own source here."""
    results = artifacts.read_json(finished[2] / "inference" / "tiny_cxr_test" / "coco_instances_results.json")
    image = loading.prepared_images([named_set("tiny_cxr_test")])[0]
    first = artifacts.read_json(tiny_set / "annotations" / "stratified" / "test.json")["images"][0]["id"]
    expected = sorted((row["score"] for row in results if row["image_id"] == first), reverse=True)
    rules = predictor.preprocess
    try:
        predictor.preprocess = type(rules)(
            size=64, resize="squash", equalize="none", window="file"
        )  # it is equalized already
        found = predictor(image["file_name"])
    finally:
        predictor.preprocess = rules
    assert found.scores == pytest.approx(expected, abs=1e-4)


def test_thresholds_come_from_the_card_unless_given(finished, predictor, image):
    assert predictor.thresholds["chosen_on"] == "tiny_cxr_val"
    nothing = {"thresholds": {"Disc": None, "Square": None}}
    assert not Predictor(finished[2] / "model_final.pth", "cpu", nothing)(image).is_reported.any()
    everything = {"thresholds": {"Disc": 0.0, "Square": 0.0}}
    assert Predictor(finished[2] / "model_final.pth", "cpu", everything)(image).is_reported.all()


def test_wrong_weights_are_refused_in_one_line(finished, tmp_path):
    content = torch.load(finished[2] / "model_final.pth", weights_only=True)
    torch.save({"model": content["model"]}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="has no card"):
        Predictor(tmp_path / "bare.pth")
    torch.save({**content, "card": {**content["card"], "config": None}}, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match="holds a backbone, not a detector"):
        Predictor(tmp_path / "backbone.pth")
    bias = "roi_heads.box_predictor.cls_score.bias"
    changed = {**content["model"], bias: content["model"][bias] + 0.5}
    torch.save({**content, "model": changed}, tmp_path / "changed.pth")
    with pytest.raises(ValueError, match=r"changed\.pth: its tensors are not those that its card was written for"):
        Predictor(tmp_path / "changed.pth")
    del content["model"][bias], content["card"]["tensors_sha256"]
    torch.save(content, tmp_path / "hole.pth")
    with pytest.raises(ValueError, match=r"leaves 1 tensor of the model random, first: .*cls_score\.bias \(it is not"):
        Predictor(tmp_path / "hole.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        Predictor(tmp_path / "nowhere.pth")


def test_a_file_that_is_no_image_is_refused_by_name(predictor, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match=r"notes\.txt: neither DICOM nor PNG nor JPEG nor TIFF nor BMP"):
        predictor(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"absent\.dicom does not exist"):
        predictor(tmp_path / "absent.dicom")


def test_bytes_a_dataset_and_an_array_give_what_the_file_gives(predictor, image, make_dicom):
    from pydicom import dcmread

    expected = predictor(image)
    pixels = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    for same in (image.read_bytes(), pixels):
        found = predictor(same, name="a.png")
        assert found.file == "a.png" and found.image_name == "a" and (found.width, found.height) == (256, 128)
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
        np.testing.assert_array_equal(found.scores, expected.scores)
    path = make_dicom(pixels.astype(np.uint16) * 16, ImagerPixelSpacing=[0.2, 0.1])
    assert predictor(dcmread(path)).boxes_xyxy.tolist() == predictor(path).boxes_xyxy.tolist()
    assert predictor(dcmread(path)).pixel_spacing_mm == (0.2, 0.1)


def test_what_is_no_image_is_refused_by_its_kind(predictor):
    with pytest.raises(ImageError, match=r"\(height, width\) of uint8, uint16 or int16, got \(4, 4, 3\) of uint8"):
        predictor(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageError, match="of float64"):
        predictor(np.zeros((4, 4)))
    with pytest.raises(TypeError, match="not int"):
        predictor(7)


def test_any_failure_of_a_decoder_is_an_image_error(predictor, image, monkeypatch):
    from d2_cxr.prediction import predictor as module

    monkeypatch.setattr(module, "prepare_image", lambda *_: np.uint8(300))
    with pytest.raises(ImageError, match=r"image\.png: cannot be decoded \(OverflowError\)"):
        predictor(image)


def test_a_card_that_was_changed_is_refused(finished, tmp_path):
    content = torch.load(finished[2] / "model_final.pth", weights_only=True)
    for key, value, reason in (
        ("class_names", ["Disc"], "its card names 1 class, but its config has 2"),
        ("thresholds", {"thresholds": {"Disc": "high", "Square": 0.5}}, "threshold of Disc is 'high'"),
        ("format_version", 99, "format version 99"),
        ("pixel_mean", "gray", "pixel_mean in its card is 'gray'"),
    ):
        torch.save({**content, "card": {**content["card"], key: value}}, tmp_path / "changed.pth")
        with pytest.raises(ValueError, match=reason):
            Predictor(tmp_path / "changed.pth")
