import pytest

from d2_cxr.checkpoint.resnet_names import (
    ARCHITECTURES,
    detectron2_to_torchvision,
    expected_shapes,
    find_prefixes,
    recognize,
    torchvision_to_detectron2,
)


@pytest.mark.parametrize(
    "torchvision, detectron2",
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_var", "stem.conv1.norm.running_var"),
        ("layer1.0.conv1.weight", "res2.0.conv1.weight"),
        ("layer1.0.bn2.bias", "res2.0.conv2.norm.bias"),
        ("layer3.22.conv3.weight", "res4.22.conv3.weight"),
        ("layer4.0.downsample.0.weight", "res5.0.shortcut.weight"),
        ("layer4.0.downsample.1.num_batches_tracked", "res5.0.shortcut.norm.num_batches_tracked"),
    ],
)
def test_a_name_goes_there_and_back(torchvision, detectron2):
    assert torchvision_to_detectron2(torchvision) == detectron2
    assert detectron2_to_torchvision(detectron2) == torchvision


@pytest.mark.parametrize("architecture, tensors", [*zip(ARCHITECTURES, (120, 216, 318, 624), strict=True)])
def test_every_tensor_of_an_architecture_has_its_own_name(architecture, tensors):
    names = list(expected_shapes(architecture))
    assert len(names) == tensors
    assert len({torchvision_to_detectron2(name) for name in names}) == tensors
    assert [detectron2_to_torchvision(torchvision_to_detectron2(name)) for name in names] == names
    assert recognize(names) == architecture


def test_other_networks_are_not_recognized():
    names = [name for name in expected_shapes("resnet50") if not name.startswith("layer3.5.")]
    with pytest.raises(ValueError, match=r"\[3, 4, 5, 3\] bottleneck blocks"):
        recognize(names)


def test_a_prefix_is_found_wherever_a_whole_network_lies():
    names = list(expected_shapes("resnet18"))
    both = [f"encoder.{name}" for name in names] + [f"momentum_encoder.{name}" for name in names]
    assert find_prefixes(names) == [""]
    assert find_prefixes(both) == ["encoder.", "momentum_encoder."]
    assert find_prefixes(["encoder.layer1.0.conv1.weight"]) == []
