import numpy as np
import pytest
import torch
from d2_cxr.projects.label_efficiency.supervised import Supervised, Truth, read_truth, train_supervised

from d2_cxr import artifacts
from d2_cxr.checkpoint.convert import convert_file
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.pretraining import settings as setting_rules
from d2_cxr.pretraining.data import load_images
from d2_cxr.pretraining.views import two_views


@pytest.fixture
def truth(tmp_path, prepared):
    images = load_images(["tiny_train"], [["tiny", str(prepared)]])
    heart = {"class_name": "Cardiomegaly", "box_xyxy": [40, 60, 100, 110]}
    shown = [[heart] if n % 3 == 0 else [] for n in range(len(images))]
    shown[1] = [{"class_name": "Atelectasis", "box_xyxy": [0, 0, 20, 10]}, heart]
    frame = {"width": 128, "height": 128}  # the prepared images have 64 px
    rows = [
        {"image_name": image["image_name"], **frame, "findings": found}
        for image, found in zip(images, shown, strict=True)
    ]
    artifacts.write_json(tmp_path / "truth.json", {"images": rows})
    return tmp_path / "truth.json"


def test_an_image_has_the_classes_that_the_renderer_drew_in_pixels_of_the_prepared_image(truth, prepared):
    known = read_truth(truth, load_images(["tiny_train"], [["tiny", str(prepared)]]))
    assert known.classes == ("Atelectasis", "Cardiomegaly")
    assert known.images().shape == (24, 2)
    assert known.images()[:4].tolist() == [[0, 1], [1, 1], [0, 0], [0, 1]]
    assert known.size == 64 and known.boxes[1].tolist() == [[0, 0, 10, 5], [20, 30, 50, 55]]


def test_a_crop_has_the_classes_of_which_half_a_box_lies_in_it():
    known = Truth(("A", "B"), (np.array([[0.0, 0, 10, 10], [40, 40, 60, 60]]),), (np.array([0, 1]),), 64)
    assert known.crop(0, (0, 0, 64, 64)).tolist() == [1, 1]
    assert known.crop(0, (0, 0, 10, 5)).tolist() == [1, 0]  # 50 of 100 pixels
    assert known.crop(0, (0, 0, 10, 4)).tolist() == [0, 0]
    assert known.crop(0, (50, 40, 10, 20)).tolist() == [0, 1]  # 200 of 400


def test_the_labels_are_those_of_the_crop_that_was_taken_for_the_view(tiny_config):
    # One white pixel in a black image: a view shows it just where the crop's label says so.
    rules = {"crop_scale": [0.2, 0.5], "noise": "none", "blur": 0.0}
    settings = setting_rules.complete({**tiny_config, "method": "supervised", "augmentation": rules, "image_size": 64})
    image = np.zeros((64, 64), np.uint8)
    image[20, 40] = 255
    known = Truth(("dot",), (np.array([[40.0, 20, 41, 21]]),), (np.array([0]),), 64)
    model = Supervised(settings, known, epochs=1)
    model.image_names = ["image"]
    seen = []
    for seed in range(30):
        settings["seed"] = seed
        views = two_views(image, setting_rules.view_rules(settings), seed, 0, "image")
        for view in (0, 1):
            seen.append(bool(views[view].any()))
            assert model._view_labels(torch.tensor([0]), view).tolist() == [[float(seen[-1])]]
    assert 10 < sum(seen) < 50


def test_an_image_that_the_renderer_does_not_know_is_named(truth):
    with pytest.raises(ValueError, match="lacks 1 of 1 image, first: unknown"):
        read_truth(truth, [{"image_name": "unknown"}])


def test_it_trains_and_converts_like_the_others(truth, tiny_config, tmp_path):
    end = train_supervised({**tiny_config, "truth": truth}, tmp_path / "run")
    assert end == tmp_path / "run" / "last.ckpt" and read_card(end).method == "supervised"
    assert max(convert_file(end, tmp_path / "w.pth").parity.values()) <= 1e-4
    losses = [epoch["loss"] for epoch in artifacts.read_json(tmp_path / "run/pretraining.json")["history"]]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
    before = end.stat().st_mtime_ns
    train_supervised({**tiny_config, "truth": truth}, tmp_path / "run")
    assert end.stat().st_mtime_ns == before


def test_it_learns_what_can_be_seen(truth, tiny_config, tmp_path):
    adamw = {"name": "adamw", "lr": 0.001, "weight_decay": 0.0}
    whole = {"crop_scale": [1.0, 1.0], "noise": "none", "flip": 0.0, "blur": 0.0}
    config = {**tiny_config, "epochs": 8, "optimizer": adamw, "augmentation": whole, "truth": truth}
    config["checkpoint_every"] = 8  # writing costs as much as learning here
    train_supervised(config, tmp_path / "run")
    losses = [epoch["loss"] for epoch in artifacts.read_json(tmp_path / "run/pretraining.json")["history"]]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.isfinite(torch.tensor(losses)).all()
