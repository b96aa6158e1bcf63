import pytest
import torch
from detectron2.modeling import build_model

from d2_cxr.checkpoint.fingerprint import fingerprint
from d2_cxr.engine.checkpointer import CXRCheckpointer
from d2_cxr.engine.weights_report import LoadReport, groups_of, refusals, weights_report


@pytest.fixture
def build(tiny_cfg):
    def make(*opts):
        return build_model(tiny_cfg(*opts))

    return make


def backbone_of(model):
    return {name: value for name, value in model.state_dict().items() if name.startswith("backbone.bottom_up.")}


def load(model, state, tmp_path):
    torch.save({"model": state}, tmp_path / "weights.pth")
    checkpointer = CXRCheckpointer(model)
    checkpointer.load(str(tmp_path / "weights.pth"))
    return checkpointer.report


def test_a_complete_backbone_is_reported_with_its_origin(build, tmp_path):
    model = build()
    loaded = load(model, backbone_of(build()), tmp_path)
    assert refusals(model, loaded) == []
    report = weights_report(model, loaded)
    assert report["groups"]["backbone.bottom_up.res3"]["origin"] == "file"
    assert report["groups"]["backbone.fpn"]["origin"] == "random"
    assert report["groups"]["backbone.bottom_up.stem"]["norm"] == "BN"
    assert len(report["sha256"]) == 64


def test_the_fingerprint_changes_with_one_value_and_not_with_order():
    a, b = torch.zeros(3), torch.ones(2)
    assert fingerprint({"a": a, "b": b}) == fingerprint({"b": b, "a": a})
    assert fingerprint({"a": a, "b": b}) != fingerprint({"a": a, "b": torch.tensor([1.0, 1.0001])})
    assert fingerprint({"a": a}) != fingerprint({"b": a})


def test_one_random_backbone_parameter_is_refused(build, tmp_path):
    model = build()
    state = backbone_of(model)
    del state["backbone.bottom_up.res4.0.conv2.weight"]
    (found,) = refusals(model, load(model, state, tmp_path))
    assert found.startswith("1 tensor of the backbone is random") and "res4.0.conv2.weight" in found


def test_a_prefix_left_on_is_refused(build, tmp_path):
    model = build()
    state = {name.replace("backbone.bottom_up.", "encoder."): value for name, value in backbone_of(model).items()}
    (found,) = refusals(model, load(model, state, tmp_path))
    assert "tensors of the backbone are random" in found


def test_another_shape_is_refused_and_named(build, tmp_path):
    model = build()
    state = backbone_of(model)
    state["backbone.bottom_up.stem.conv1.weight"] = torch.zeros(8, 1, 7, 7)
    (found,) = refusals(model, load(model, state, tmp_path))
    assert "shape (8, 1, 7, 7) in the file, (8, 3, 7, 7) in the model" in found


def test_frozen_statistics_that_were_not_loaded_are_refused(build, tmp_path):
    model = build("MODEL.RESNETS.NORM", "FrozenBN")
    state = {name: value for name, value in backbone_of(model).items() if "running_var" not in name}
    loaded = load(model, state, tmp_path)  # Detectron2 itself fills in ones without a word
    found = refusals(model, loaded)
    assert any("FrozenBN lacks" in sentence for sentence in found)


def test_statistics_folded_into_the_affine_terms_are_no_hole(build, tmp_path):
    model = build("MODEL.RESNETS.NORM", "FrozenBN")
    state = {name: value for name, value in backbone_of(model).items() if "running_" not in name}
    loaded = load(model, state, tmp_path)
    assert loaded.folded_statistics and refusals(model, loaded) == []


def test_frozen_random_layers_are_refused(build):
    model = build("MODEL.BACKBONE.FREEZE_AT", "2")  # no weights at all, stem and res2 frozen
    found = refusals(model, LoadReport())
    assert any("frozen parameters are random and would never learn" in sentence for sentence in found)
    assert any("FrozenBN" in sentence for sentence in found)  # freezing turns their BN into FrozenBN


def test_a_random_model_that_freezes_nothing_may_start(build):
    assert refusals(build(), LoadReport()) == []


def test_frozen_groups_are_told(build, tmp_path):
    model = build("MODEL.BACKBONE.FREEZE_AT", "1", "MODEL.RESNETS.NORM", "FrozenBN")
    groups = weights_report(model, load(model, backbone_of(model), tmp_path))["groups"]
    assert groups["backbone.bottom_up.stem"]["frozen"] == "yes"
    assert groups["backbone.bottom_up.res2"]["frozen"] == "partly"  # Detectron2's FrozenBN freezes the affine terms too
    assert groups["roi_heads.box_head"]["frozen"] == "no"


def test_every_tensor_stands_in_one_group(build):
    model = build()
    names = [name for group in groups_of(model).values() for name in group]
    assert sorted(names) == sorted(set(model.state_dict()) - {"pixel_mean", "pixel_std"})


def test_a_head_for_other_classes_is_skipped_and_reported(build, tmp_path):
    model = build()
    state = model.state_dict()
    state["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(81, 32)
    state["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(81)
    loaded = load(model, state, tmp_path)
    report = weights_report(model, loaded)
    assert report["groups"]["roi_heads.box_predictor"]["origin"] == "file and random"
    assert "shape (81, 32) in the file" in report["skipped"]["roi_heads.box_predictor.cls_score.weight"]
    assert refusals(model, loaded) == []
