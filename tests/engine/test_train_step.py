import pytest
import torch
from torch import nn

from d2_cxr.engine import train_step


class Model(nn.Module):
    """Returns a loss and remembers the type it was computed in."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.seen = []

    def forward(self, batch):
        output = self.linear(batch)
        self.seen.append(output.dtype)
        return {"loss": output.float().square().mean()}


def one_step(cfg):
    from detectron2.utils.events import EventStorage

    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stepper, chosen = train_step.build_stepper(cfg, model, [torch.ones(2, 4)], optimizer)
    with EventStorage(0):
        stepper.run_step()
    return model, chosen


def test_bf16_computes_in_bfloat16_and_keeps_float32_weights(tiny_cfg):
    model, chosen = one_step(tiny_cfg("CXR.AMP", "bf16"))
    assert model.seen == [torch.bfloat16] and chosen[0] == "bf16"
    assert model.linear.weight.dtype == torch.float32 and model.linear.weight.grad.dtype == torch.float32


def test_off_computes_in_float32(tiny_cfg):
    model, chosen = one_step(tiny_cfg("CXR.AMP", "off"))
    assert model.seen == [torch.float32] and chosen == ("fp32", "CXR.AMP off")


def test_auto_asks_the_machine(tiny_cfg, monkeypatch):
    asked = []

    def choose(requested, device):
        asked.append((requested, device))
        return "bf16", "twice as fast"

    monkeypatch.setattr(train_step.precision, "choose", choose)
    model, chosen = one_step(tiny_cfg("CXR.AMP", "auto"))
    assert asked == [("auto", "cpu")] and chosen == ("bf16", "twice as fast")
    assert model.seen == [torch.bfloat16]


def test_unknown_and_contradicting_formats_are_refused(tiny_cfg):
    cfg = tiny_cfg("CXR.AMP", "half")
    with pytest.raises(ValueError, match="'half'; choose off, bf16 or auto"):
        train_step.build_stepper(cfg, Model(), [], None)
    cfg.SOLVER.AMP.ENABLED, cfg.CXR.AMP = True, "bf16"
    with pytest.raises(ValueError, match="both on; choose one"):
        train_step.build_stepper(cfg, Model(), [], None)


def test_adamw_takes_detectron2s_keys(tiny_cfg):
    cfg = tiny_cfg("CXR.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", "0.002", "SOLVER.WEIGHT_DECAY", "0.03")
    optimizer = train_step.build_optimizer(cfg, nn.Sequential(nn.Linear(2, 2), nn.BatchNorm2d(2)))
    assert isinstance(optimizer, torch.optim.AdamW)
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.03, 0.0}  # none on normalisation, SOLVER.WEIGHT_DECAY_NORM
    assert {group["lr"] for group in optimizer.param_groups} == {0.002}


def test_sgd_is_detectron2s(tiny_cfg):
    optimizer = train_step.build_optimizer(tiny_cfg("CXR.OPTIMIZER", "SGD"), nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["momentum"] == 0.9


def test_an_unknown_optimizer_is_refused(tiny_cfg):
    with pytest.raises(ValueError, match="'Lion'; choose SGD or AdamW"):
        train_step.build_optimizer(tiny_cfg("CXR.OPTIMIZER", "Lion"), nn.Linear(2, 2))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_clipping_limits_the_gradient_of_each_parameter(tiny_cfg, optimizer):
    cfg = tiny_cfg("CXR.OPTIMIZER", optimizer, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5")
    layer = nn.Linear(2, 2, bias=False)
    built = train_step.build_optimizer(cfg, layer)
    layer.weight.grad = torch.full((2, 2), 10.0)
    built.step()
    assert layer.weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_channels_last_changes_the_layout_and_not_the_numbers(tiny_cfg):
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    model = build_model(tiny_cfg()).eval()
    image = torch.rand(1, 3, 64, 64)
    layouts = []

    def note(_module, inputs):
        layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    model.backbone.bottom_up.register_forward_pre_hook(note)
    with torch.no_grad():
        plain = model.backbone(image)["p3"]
        train_step.to_channels_last(model)
        changed = model.backbone(image)["p3"]
    assert layouts == [False, True]
    assert model.backbone.bottom_up.stem.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(plain, changed, atol=1e-4)


def test_threads_are_set_where_asked(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    train_step.set_machine(2, tf32=False)
    train_step.set_machine(0, tf32=False)
    assert calls == [2]


def test_float16_gradients_are_clipped_in_their_own_units(tiny_cfg):
    """GradScaler leaves the scale in the gradients of a fused optimizer, and clipping comes before its step."""
    cfg = tiny_cfg("CXR.OPTIMIZER", "AdamW", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "1.0")
    cfg.SOLVER.AMP.ENABLED = True  # which `setup` lets through on a GPU alone
    layer = nn.Linear(4, 4, bias=False)
    optimizer, scaler = train_step.build_optimizer(cfg, layer), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(100 * layer(torch.ones(2, 4)).sum()).backward()
    scaler.step(optimizer)
    assert layer.weight.grad.norm() == pytest.approx(1.0, rel=1e-3)
