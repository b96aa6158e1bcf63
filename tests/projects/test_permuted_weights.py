import pytest
import torch
from d2_cxr.projects.label_efficiency.permuted_weights import permute_weights

from d2_cxr.checkpoint.convert import ConversionError, convert_file
from d2_cxr.checkpoint.fingerprint import require_same_tensors
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP


def test_each_tensor_keeps_its_values_and_loses_their_order(solo_file, tmp_path):
    convert_file(solo_file(), tmp_path / "w.pth", verify=False)
    card = permute_weights(tmp_path / "w.pth", tmp_path / "permuted.pth", seed=3)
    before, after = (load_weights_file(tmp_path / name)["model"] for name in ("w.pth", "permuted.pth"))
    assert before.keys() == after.keys()
    for name in (BOTTOM_UP + "stem.conv1.weight", BOTTOM_UP + "res4.0.conv1.norm.running_var"):
        assert not torch.equal(before[name], after[name])
        assert torch.equal(before[name].flatten().sort().values, after[name].flatten().sort().values)
    assert card.method == "unknown, permuted within each tensor (seed 3)" and card.parity is None
    assert (tmp_path / "permuted.yaml").is_file()
    require_same_tensors(load_weights_file(tmp_path / "permuted.pth"), "permuted.pth")  # or no run could start from it


def test_the_seed_decides(solo_file, tmp_path):
    convert_file(solo_file(), tmp_path / "w.pth", verify=False)
    for name, seed in (("a.pth", 0), ("b.pth", 0), ("c.pth", 1)):
        permute_weights(tmp_path / "w.pth", tmp_path / name, seed)
    name = BOTTOM_UP + "res2.0.conv1.weight"
    a, b, c = (load_weights_file(tmp_path / file)["model"][name] for file in ("a.pth", "b.pth", "c.pth"))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_what_is_not_converted_is_refused(solo_file, tmp_path):
    with pytest.raises(ConversionError, match="convert it first"):
        permute_weights(solo_file(), tmp_path / "permuted.pth")
