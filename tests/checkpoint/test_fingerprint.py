import pytest
import torch

from d2_cxr.checkpoint.fingerprint import fingerprint, never_updated, require_finite, require_same_tensors
from d2_cxr.checkpoint.loading import WeightsError


def test_a_changed_tensor_does_not_fit_its_card():
    model = {"a": torch.ones(2), "b": torch.zeros(3)}
    content = {"model": model, "card": {"tensors_sha256": fingerprint(model)}}
    require_same_tensors(content, "w.pth")
    require_same_tensors({"model": model, "card": {}}, "w.pth")  # no statement, no check
    with pytest.raises(WeightsError, match=r"w\.pth: its tensors are not those that its card was written for"):
        require_same_tensors({**content, "model": {**model, "b": torch.zeros(3) + 1e-7}}, "w.pth")


@pytest.mark.parametrize(
    "value, reason",
    [
        (torch.tensor([1.0, float("inf")]), "a holds NaN or infinite values"),
        (torch.tensor([1, 2], dtype=torch.int8), r"a is quantized \(torch.int8\)"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "a is quantized"),
        (torch.ones(2).to(torch.float8_e4m3fn), "a is quantized"),
    ],
)
def test_weights_that_cannot_be_trained_from_are_refused_by_name(value, reason):
    with pytest.raises(WeightsError, match=f"w.pth: {reason}"):
        require_finite({"a": value}, "w.pth")
    require_finite({"a": torch.ones(2).half(), "bn.num_batches_tracked": torch.tensor(3)}, "w.pth")


def test_statistics_that_saw_no_batch_are_known_by_their_initial_values():
    fresh = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(2)).state_dict()
    assert never_updated(fresh) and not never_updated({"weight": torch.ones(1)})
    assert not never_updated({**fresh, "1.running_mean": torch.tensor([0.0, 0.1])})
