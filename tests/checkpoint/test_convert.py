import pytest
import torch
import torchvision
import yaml

from d2_cxr.checkpoint.convert import ConversionError, convert_file, convert_state
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP


def drop(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def put(name, value):
    return lambda state: {**state, name: value}


def test_every_tensor_of_the_backbone_arrives_unchanged(solo_file, tmp_path, resnet18):
    card = convert_file(solo_file(), tmp_path / "w.pth")
    stored = load_weights_file(tmp_path / "w.pth")
    assert len(stored["model"]) == 120
    name = BOTTOM_UP + "res3.1.conv2.norm.running_var"
    assert torch.equal(stored["model"][name], resnet18["layer2.1.bn2.running_var"])
    assert stored["conversion"]["left_out"] == ["classifier.weight", "projector.0.weight"]
    assert card.architecture == "resnet18" and card.source_format == "solo-learn <= 1.0.2"
    assert list(card.parity) == ["res2", "res3", "res4", "res5"] and max(card.parity.values()) <= 1e-4


@pytest.mark.parametrize("prefix, says", [("backbone.", "solo-learn >= 1.0.3, DINO, lightly"), ("", "torchvision")])
def test_other_prefixes_are_found(solo_file, tmp_path, prefix, says):
    def without_heads(state):
        return {name: value for name, value in state.items() if not name.startswith(("projector", "classifier"))}

    source = solo_file(without_heads, prefix=prefix)
    assert convert_file(source, tmp_path / "w.pth", verify=False).source_format == says


@pytest.mark.parametrize("architecture", ["resnet34", "resnet50", "resnet101"])
def test_deeper_networks_are_taken_whole(architecture):
    with torch.device("meta"):
        names = getattr(torchvision.models, architecture)(weights=None).state_dict()
    state = {f"encoder.{name}": torch.zeros(value.shape, dtype=value.dtype) for name, value in names.items()}
    found = convert_state(state)
    assert found.architecture == architecture
    assert len(found.backbone) == len(names) - 2 and found.left_out == ["encoder.fc.bias", "encoder.fc.weight"]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            drop("encoder.layer2.0.bn1.running_mean"),
            r"lacks 1 of 120 tensors .*, first: encoder.layer2.0.bn1.running_m",
        ),
        (drop("encoder.bn1.num_batches_tracked"), r"lacks 1 of 120 tensors .*, first: encoder.bn1.num_batches_tracked"),
        (put("encoder.conv1.weight", torch.zeros(64, 1, 7, 7)), r"encoder.conv1.weight has shape \(64, 1, 7, 7\)"),
        (put("encoder.layer1.0.se.weight", torch.zeros(1)), r"not part of resnet18, first: encoder.layer1.0.se.weight"),
        (put("encoder.bn1.bias", torch.full((64,), torch.nan)), r"encoder.bn1.bias holds NaN"),
        (lambda state: {f"other.{name}": value for name, value in state.items()}, r"unknown prefix 'other.encoder.'"),
        (
            put("encoder.layer1.0.bn1.running_var", -torch.ones(64)),
            r"layer1.0.bn1.running_var holds negative variances",
        ),
        (put("encoder.conv1.weight", torch.ones(64, 3, 7, 7, dtype=torch.int8)), r"conv1.weight is quantized"),
        (put("encoder.attnpool.weight", torch.zeros(1)), r"not part of resnet18, first: encoder.attnpool.weight"),
        (lambda state: {"projector.0.weight": torch.zeros(1)}, r"holds no ResNet"),
    ],
)
def test_what_is_not_complete_is_refused_and_nothing_is_written(solo_file, tmp_path, change, message):
    source = solo_file(change)
    with pytest.raises(ConversionError, match=message) as caught:
        convert_file(source, tmp_path / "w.pth", verify=False)
    assert "\n" not in str(caught.value) and str(source) in str(caught.value)
    assert not (tmp_path / "w.pth").exists()


def test_two_backbones_leave_a_choice_that_is_asked_for(solo_file, tmp_path):
    def twice(state):
        return {**state, **{name.replace("encoder.", "teacher."): value for name, value in state.items()}}

    source = solo_file(twice)
    with pytest.raises(ConversionError, match=r"several backbones, .*'encoder\.', 'teacher\.'.*--prefix"):
        convert_file(source, tmp_path / "w.pth", verify=False)
    card = convert_file(source, tmp_path / "w.pth", verify=False, prefix="teacher.")
    assert card.source_format == "prefix teacher."


def test_the_momentum_encoder_is_never_what_is_meant(solo_file, tmp_path):
    def with_momentum(state):
        return {**state, **{f"momentum_{name}": value + 1 for name, value in state.items() if "encoder" in name}}

    convert_file(solo_file(with_momentum), tmp_path / "w.pth", verify=False)
    assert len(load_weights_file(tmp_path / "w.pth")["conversion"]["left_out"]) == 2 + 120


def test_a_file_without_any_counters_gets_zeros_and_says_so(resnet18):
    found = convert_state({name: value for name, value in resnet18.items() if "tracked" not in name})
    assert found.notes == ["no num_batches_tracked in the file: 20 counters start at 0"]
    assert found.backbone["bn1.num_batches_tracked"] == 0


def test_half_precision_is_widened(resnet18):
    found = convert_state(
        {name: value.half() if value.is_floating_point() else value for name, value in resnet18.items()}
    )
    assert found.backbone["conv1.weight"].dtype == torch.float32
    assert found.notes == ["torch.float16 widened to float32"]


def test_a_converted_file_is_not_converted_again(solo_file, tmp_path):
    convert_file(solo_file(), tmp_path / "w.pth", verify=False)
    with pytest.raises(ConversionError, match="already has Detectron2's names"):
        convert_file(tmp_path / "w.pth", tmp_path / "again.pth")


def test_what_a_file_does_not_state_can_be_said(solo_file, tmp_path):
    unknown = convert_file(solo_file(), tmp_path / "w.pth", verify=False)
    assert unknown.pixel_mean is None and "ImageNet's (torchvision) is assumed" in (tmp_path / "w.yaml").read_text()
    convert_file(solo_file(), tmp_path / "w.pth", verify=False, pixel_mean=[0, 0, 0], pixel_std=[255, 255, 255])
    written = yaml.safe_load((tmp_path / "w.yaml").read_text())
    assert written["MODEL"]["PIXEL_MEAN"] == [0, 0, 0] and written["MODEL"]["PIXEL_STD"] == [255, 255, 255]
    with pytest.raises(ConversionError, match="three numbers"):
        convert_file(solo_file(), tmp_path / "w.pth", pixel_mean=[1])


def test_a_detector_keeps_everything_but_its_backbone(solo_file, tmp_path, resnet18):
    convert_file(solo_file(), tmp_path / "own.pth", verify=False)
    theirs = {name: torch.ones_like(value) for name, value in load_weights_file(tmp_path / "own.pth")["model"].items()}
    theirs = {name: value for name, value in theirs.items() if "tracked" not in name}  # FrozenBN has no counters
    heads = {
        "backbone.fpn_lateral2.weight": torch.full((2, 2), 7.0),
        "roi_heads.box_predictor.cls_score.bias": torch.ones(15),
    }
    torch.save({"model": {**theirs, **heads}}, tmp_path / "detector.pth")
    convert_file(solo_file(), tmp_path / "w.pth", verify=False, detector=tmp_path / "detector.pth")
    stored = load_weights_file(tmp_path / "w.pth")
    assert len(stored["model"]) == 120 + 2
    assert torch.equal(stored["model"]["backbone.fpn_lateral2.weight"], heads["backbone.fpn_lateral2.weight"])
    assert torch.equal(stored["model"][BOTTOM_UP + "stem.conv1.weight"], resnet18["conv1.weight"])
    origins = stored["conversion"]["origins"]
    assert [name for name, origin in origins.items() if origin == "detector"] == sorted(heads)


def test_a_detector_of_another_depth_is_refused(solo_file, tmp_path):
    torch.save({"model": {BOTTOM_UP + "stem.conv1.weight": torch.zeros(64, 3, 7, 7)}}, tmp_path / "detector.pth")
    with pytest.raises(ConversionError, match="its backbone is not resnet18: 99 tensors differ"):
        convert_file(solo_file(), tmp_path / "w.pth", detector=tmp_path / "detector.pth")


def test_the_yaml_loads_in_stock_detectron2_and_builds(solo_file, tmp_path):
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    card = convert_file(solo_file(), tmp_path / "w.pth", verify=False, pixel_mean=[1, 2, 3], pixel_std=[4, 5, 6])
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "w.yaml"), allow_unsafe=False)
    cfg.MODEL.DEVICE = "cpu"
    assert str(tmp_path / "w.pth") == cfg.MODEL.WEIGHTS
    from d2_cxr.checkpoint.weights_card import contradictions

    assert contradictions(card, cfg) == []
    model = build_model(cfg)
    missing = load_weights_file(tmp_path / "w.pth")["model"].keys() - model.state_dict().keys()
    assert all("num_batches_tracked" in name for name in missing)  # FrozenBN counts no batches
