import pytest
import torch
from d2_cxr.projects.label_efficiency.permuted_weights import permute_weights

from d2_cxr.checkpoint.convert import ConversionError, convert_file
from d2_cxr.checkpoint.fingerprint import require_same_tensors
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP


@pytest.fixture(scope="module")
def converted(resnet18, tmp_path_factory):
    """A converted ResNet-18; the tests only read it."""
    folder = tmp_path_factory.mktemp("converted")
    state = {f"encoder.{name}": value for name, value in resnet18.items() if not name.startswith("fc.")}
    torch.save({"state_dict": state}, folder / "last.ckpt")
    convert_file(folder / "last.ckpt", folder / "w.pth", verify=False)
    return folder / "w.pth"


def test_each_tensor_keeps_its_values_and_loses_their_order(converted, tmp_path):
    card = permute_weights(converted, tmp_path / "permuted.pth", seed=3)
    before, after = (load_weights_file(path)["model"] for path in (converted, tmp_path / "permuted.pth"))
    assert before.keys() == after.keys()
    for name in (BOTTOM_UP + "stem.conv1.weight", BOTTOM_UP + "res4.0.conv1.norm.running_var"):
        assert not torch.equal(before[name], after[name])
        assert torch.equal(before[name].flatten().sort().values, after[name].flatten().sort().values)
    assert card.method == "unknown, permuted within each tensor (seed 3)" and card.parity is None
    assert (tmp_path / "permuted.yaml").is_file()
    require_same_tensors(load_weights_file(tmp_path / "permuted.pth"), "permuted.pth")  # or no run could start from it


def test_the_seed_decides(converted, tmp_path):
    for name, seed in (("a.pth", 0), ("b.pth", 0), ("c.pth", 1)):
        permute_weights(converted, tmp_path / name, seed)
    name = BOTTOM_UP + "res2.0.conv1.weight"
    a, b, c = (load_weights_file(tmp_path / file)["model"][name] for file in ("a.pth", "b.pth", "c.pth"))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_what_is_not_converted_is_refused(solo_file, tmp_path):
    with pytest.raises(ConversionError, match="convert it first"):
        permute_weights(solo_file(), tmp_path / "permuted.pth")
