import pytest

from d2_cxr import precision


@pytest.fixture(autouse=True)
def forget():
    precision._measured.cache_clear()
    yield
    precision._measured.cache_clear()


@pytest.mark.parametrize("asked, given", [("fp32", "fp32"), ("bf16", "bf16"), ("float32", "fp32"), ("32", "fp32")])
def test_what_is_asked_for_is_taken(asked, given):
    assert precision.choose(asked) == (given, "as asked for")


@pytest.mark.parametrize("ratio, name", [(3.0, "bf16"), (1.2, "bf16"), (1.19, "fp32"), (0.11, "fp32")])
def test_bf16_is_taken_only_where_it_pays(monkeypatch, ratio, name):
    monkeypatch.setattr(precision, "speedup", lambda device: ratio)
    chosen, reason = precision.choose("auto", "cpu")
    assert chosen == name and f"{ratio:.2f} times as fast" in reason


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="precision is 'fp8'; choose auto, fp32 or bf16"):
        precision.choose("fp8")


def test_the_probe_leaves_the_random_numbers_alone():
    import torch

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert precision.speedup(rounds=1) > 0
    assert torch.equal(torch.rand(3), expected)
