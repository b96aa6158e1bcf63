"""Weights that were made elsewhere as arms: checked, converted, started from."""

import functools
import http.server
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from d2_cxr.projects.label_efficiency import stage_kinds, stages
from d2_cxr.projects.label_efficiency.plan import read_study
from d2_cxr.projects.label_efficiency.study_file import check_inputs

from d2_cxr import artifacts
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP
from d2_cxr.checkpoint.weights_card import read_card

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "LabelEfficiency"


def study(name="open_images_imagenet.yaml", **changes):
    return read_study(PROJECT / name, None, [f"{key}={value}" for key, value in changes.items()])


def make(tmp_path, **settings):
    """Run the stage for a file; return what MODEL.WEIGHTS becomes."""
    stage = {"kind": "weights", "settings": settings, "output": "weights/imagenet.json"}
    outputs = stage_kinds.run_stage(stage, str(tmp_path))
    return stages._weights("weights/imagenet.json", tmp_path), outputs


@pytest.fixture
def torchvision_file(tmp_path, resnet18):
    torch.save(resnet18, tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def test_a_torchvision_file_is_converted_with_its_input_convention(tmp_path, torchvision_file):
    digest = artifacts.sha256_file(torchvision_file)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    weights, outputs = make(tmp_path, file=str(torchvision_file), sha256=digest[:8], pixel_mean=mean, pixel_std=std)
    assert weights == str(tmp_path / "weights/imagenet.pth") and outputs == {"sha256": digest}
    card = read_card(weights)
    assert (card.architecture, card.pixel_mean, card.source_sha256) == ("resnet18", mean, digest)


def test_a_url_is_fetched_and_compared(tmp_path, torchvision_file, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{torchvision_file.name}"
        weights, _ = make(tmp_path, file=url, sha256=artifacts.sha256_file(torchvision_file))
        with pytest.raises(ValueError, match="it is another file"):
            make(tmp_path, file=url, sha256="0" * 64)
        server.shutdown()
    assert read_card(weights).architecture == "resnet18"


def test_another_file_is_refused_before_it_is_read(tmp_path, torchvision_file):
    with pytest.raises(ValueError, match=r"has sha256 [0-9a-f]{64}, not 00000000: it is another file"):
        make(tmp_path, file=str(torchvision_file), sha256="00000000")
    assert not (tmp_path / "weights").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        make(tmp_path, file=str(tmp_path / "gone.pth"))


def test_weights_in_detectron2s_names_are_used_as_they_are(tmp_path):
    path = tmp_path / "coco.pth"
    torch.save({"model": {BOTTOM_UP + "stem.conv1.weight": torch.zeros(64, 3, 7, 7)}}, path)
    assert make(tmp_path, file=str(path))[0] == str(path)
    assert not (tmp_path / "weights/imagenet.pth").exists()


def test_a_network_of_timm_is_converted(tmp_path):
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "net.pth")
    weights, _ = make(tmp_path, file=str(tmp_path / "net.pth"), timm="mobilenetv3_small_050")
    assert read_card(weights).required_config()["MODEL.TIMM.NAME"] == "mobilenetv3_small_050"


def test_permuted_weights_can_be_made_of_them(tmp_path, torchvision_file):
    make(tmp_path, file=str(torchvision_file))
    stage = {"kind": "permute", "settings": {"weights": "weights/imagenet.json", "seed": 0}, "output": "weights/p.pth"}
    stage_kinds.run_stage(stage, str(tmp_path))
    name = BOTTOM_UP + "stem.conv1.weight"
    own = load_weights_file(tmp_path / "weights/imagenet.pth")["model"][name]
    permuted = load_weights_file(tmp_path / "weights/p.pth")["model"][name]
    assert not torch.equal(own, permuted) and torch.equal(own.flatten().sort()[0], permuted.flatten().sort()[0])


def test_arms_and_pretraining_start_from_them():
    plan = {stage.id: stage for stage in study().stages}
    assert plan["train/imagenet/30/seed1"].settings["weights"] == "weights/imagenet.json"
    assert "weights/imagenet" in plan["train/imagenet/30/seed1"].needs
    assert plan["pretrain/imagenet_simclr/seed1"].settings["init_from"] == "weights/imagenet.json"
    assert "weights/imagenet" in plan["pretrain/imagenet_simclr/seed1"].needs
    assert "init_from" not in plan["pretrain/simclr/seed1"].settings
    assert plan["train/random/30/seed1"].settings["weights"] is None
    assert plan["train/imagenet+simclr/30/seed1"].settings["weights"] == "weights/imagenet_simclr_seed1.pth"


def test_a_pretraining_takes_the_file_that_they_name(tmp_path, monkeypatch):
    from d2_cxr.pretraining import train

    taken = {}

    def pretrain(config, output):
        taken.update(config)
        output.mkdir(parents=True)
        (output / "last.ckpt").write_bytes(b"")
        return output / "last.ckpt"

    monkeypatch.setattr(train, "pretrain", pretrain)
    artifacts.write_json(tmp_path / "weights/imagenet.json", {"weights": "weights/imagenet.pth"})
    (tmp_path / "weights/imagenet.pth").write_bytes(b"")
    stage = next(stage for stage in study().stages if stage.id == "pretrain/imagenet_simclr/seed0").to_dict()
    stage["settings"]["dataset"] = {"name": "open_opacity_split0", "root": "datasets/x", "inside": True}
    stage_kinds.run_stage(stage, str(tmp_path))
    assert taken["init_from"] == str(tmp_path / "weights/imagenet.pth")
    assert taken["backbone"] == "timm:tf_efficientnet_lite0" and taken["pixel_mean"] == [127.5] * 3


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("weights.imagenet.sha256", "57934424", "give 8 to 64 of its digits, in quotes"),  # YAML reads a number
        ("weights.imagenet.sha512", "ab", "unknown key sha512"),
        ("weights.imagenet", "{timm: x}", "the key file is missing"),
        ("pretraining.imagenet_simclr.init_from", "coco", "init_from: coco is not under weights"),
        ("arms.imagenet.weights", "imagenette", "is not under pretraining or weights"),
        ("weights.simclr", "{file: a.pth}", "simclr is both in weights and in pretraining"),
    ],
)
def test_a_study_that_says_it_wrong_is_refused(key, value, says):
    with pytest.raises(ValueError, match=says):
        study(**{key: value})


def test_a_file_that_is_not_there_is_named_before_anything_runs(tmp_path):
    changes = {f"data.{key}": tmp_path for key in ("dicom_dir", "annotations", "patients")}
    with pytest.raises(FileNotFoundError, match=r"give yours on the command line: weights\.imagenet\.file=PATH"):
        check_inputs(study(**changes).settings)


def test_the_job_on_vindr_cxr_offers_what_people_would_choose():
    settings = yaml.safe_load((PROJECT / "study.yaml").read_text())
    assert {"random", "coco", "imagenet", "simclr", "imagenet+simclr"} <= settings["arms"].keys()
    plan = {stage.id: stage for stage in study("study.yaml").stages}
    assert plan["train/coco/10/seed0"].settings["weights"] == "weights/coco.json"
    assert plan["pretrain/imagenet_simclr/seed0"].settings["init_from"] == "weights/imagenet.json"


def test_a_stand_in_of_the_zoos_coco_detector_starts_the_coco_arm(tmp_path):
    """What lies at the zoo's place, as its pickles are: arrays, and a predictor of 81 outputs, which is made anew."""
    from detectron2.modeling import build_model

    from d2_cxr.checkpoint.weights_card import contradictions, zoo_card
    from d2_cxr.engine.checkpointer import CXRCheckpointer
    from d2_cxr.engine.config import load_config
    from d2_cxr.engine.weights_report import refusals

    settings = study("study.yaml").settings
    ground = [part for key, value in settings["shared_options"].items() for part in (key, value)]
    cfg = load_config(PROJECT.parents[1] / settings["arms"]["coco"]["config"], ["MODEL.DEVICE", "cpu", *ground])
    model = build_model(cfg)
    arrays = {name: value.numpy() for name, value in model.state_dict().items() if "num_batches" not in name}
    arrays["backbone.bottom_up.stem.conv1.weight"] = arrays["backbone.bottom_up.stem.conv1.weight"] * 0 + 0.5
    arrays["roi_heads.box_predictor.cls_score.weight"] = np.zeros((82, 1024), np.float32)
    path = tmp_path / "COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    weights, _ = make(tmp_path, **{**settings["weights"]["coco"], "file": str(path)})
    assert weights == str(path) and contradictions(zoo_card(weights), cfg) == []
    checkpointer = CXRCheckpointer(model)
    checkpointer.load(weights)
    assert refusals(model, checkpointer.report) == []
    assert list(checkpointer.report.skipped) == ["roi_heads.box_predictor.cls_score.weight"]
    assert float(model.backbone.bottom_up.stem.conv1.weight.detach().mean()) == 0.5
