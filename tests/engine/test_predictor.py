import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.datasets import loading
from d2_cxr.dicom.image_files import ImageError
from d2_cxr.engine.predict import image_files, predict
from d2_cxr.engine.predictor import Predictor


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


def test_the_lines_of_the_readme_print_what_was_found(finished, image, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = readme.split("## Five lines from checkpoint to findings")[1].split("## ")[0]
    code = textwrap.dedent("\n".join(line for line in lines.splitlines() if line.startswith("    ")))
    code = code.replace("output/simclr_60/model_final.pth", str(finished[2] / "model_final.pth"))
    exec(code.replace("image.dicom", str(image)), {})
    assert len(capsys.readouterr().out.strip().splitlines()) == len(Predictor(finished[2] / "model_final.pth")(image))


def test_the_boxes_of_prediction_are_those_of_evaluation(predictor, finished, tiny_set):
    """The same image by the test loader and as a file: the prepared picture is its own source here."""
    results = artifacts.read_json(finished[2] / "inference" / "tiny_cxr_test" / "coco_instances_results.json")
    image = loading.prepared_images(["tiny_cxr_test"])[0]
    first = artifacts.read_json(tiny_set / "annotations" / "stratified" / "test.json")["images"][0]["id"]
    expected = sorted((row["score"] for row in results if row["image_id"] == first), reverse=True)
    rules = predictor._rules
    try:
        predictor._rules = type(rules)(
            size=64, resize="squash", equalize="none", window="file"
        )  # it is equalized already
        found = predictor(image["file_name"])
    finally:
        predictor._rules = rules
    assert found.scores == pytest.approx(expected, abs=1e-4)


def test_thresholds_come_from_the_card_unless_given(finished, predictor, image):
    assert predictor.thresholds["chosen_on"] == "tiny_cxr_val"
    nothing = {"thresholds": {"Disc": None, "Square": None}}
    assert not Predictor(finished[2] / "model_final.pth", "cpu", nothing)(image).reported.any()
    everything = {"thresholds": {"Disc": 0.0, "Square": 0.0}}
    assert Predictor(finished[2] / "model_final.pth", "cpu", everything)(image).reported.all()


def test_wrong_weights_are_refused_in_one_line(finished, tmp_path):
    content = torch.load(finished[2] / "model_final.pth", weights_only=True)
    torch.save({"model": content["model"]}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="carries no card"):
        Predictor(tmp_path / "bare.pth")
    torch.save({**content, "card": {**content["card"], "config": None}}, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match="holds a backbone, not a detector"):
        Predictor(tmp_path / "backbone.pth")
    del content["model"]["roi_heads.box_predictor.cls_score.bias"]
    torch.save(content, tmp_path / "hole.pth")
    with pytest.raises(ValueError, match=r"lacks roi_heads\.box_predictor\.cls_score\.bias in the shape \(3,\)"):
        Predictor(tmp_path / "hole.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        Predictor(tmp_path / "nowhere.pth")


def test_a_file_that_is_no_image_is_refused_by_name(predictor, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match=r"notes\.txt: neither DICOM nor PNG nor JPEG"):
        predictor(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"absent\.dicom does not exist"):
        predictor(tmp_path / "absent.dicom")


def test_folders_are_searched_for_images_by_content(image, tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "no_suffix").write_bytes(image.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    assert image_files([tmp_path, image]) == [tmp_path / "deeper" / "no_suffix", image]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no DICOM, PNG or JPEG"):
        image_files([tmp_path / "empty"])


def test_images_of_the_same_name_keep_their_own_overlays(predictor, image, tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "image.png").write_bytes(image.read_bytes())
    images, refused = predict(predictor, [tmp_path], tmp_path / "out")
    assert len(images) == 2 and refused == {}
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["image-2.png", "image.png"]


def test_one_bad_image_does_not_stop_the_others_and_is_named(predictor, image, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(image.read_bytes()[:200])
    images, refused = predict(predictor, [image, bad], tmp_path / "out", overlays=False)
    assert len(images) == 1 and list(refused) == [str(bad)]
    assert artifacts.read_csv(tmp_path / "out" / "refused.csv")[0]["file"] == str(bad)
    with pytest.raises(ValueError, match=r"no image could be read; .*bad\.png"):
        predict(predictor, [bad], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
