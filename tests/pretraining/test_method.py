"""The adapter to solo-learn: that each gap still exists, and that it is closed."""

import importlib.util
import inspect

import pytest
import pytorch_lightning as pl
import torch

from d2_cxr.checkpoint.convert import convert_state
from d2_cxr.pretraining import method as adapter
from d2_cxr.pretraining.settings import complete

SMALL = {
    "epochs": 3,
    "backbone": "resnet18",
    "image_size": 32,
    "batch_size": 4,
    "projection": {"hidden_dim": 32, "output_dim": 16},
}


@pytest.fixture(scope="module")
def solo():
    return adapter.import_solo()


def build(**changes):
    torch.manual_seed(0)
    method = adapter.build_method(complete({**SMALL, **changes}), epochs=3)
    method.log_dict = method.log = lambda *_, **__: None  # there is no trainer here
    method.image_names = [f"image{number}" for number in range(8)]
    return method


def batch(method, size=4, seed=0):
    views = torch.randint(0, 256, (size, 2, 32, 32), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    numbers = torch.arange(size)
    return method.on_after_batch_transfer((numbers, views, torch.zeros(size, dtype=torch.int64)), 0)


def test_gap_1_a_scheduler_of_pl_bolts_is_imported(solo):
    assert "from pl_bolts.optimizers.lr_scheduler import" in inspect.getsource(solo.base)
    try:
        found = importlib.util.find_spec("pl_bolts")
    except ValueError:  # the stand-in, which has no file
        found = None
    assert found is None
    assert solo.base.LinearWarmupCosineAnnealingLR is adapter.WarmupCosine


def test_gap_2_lightning_refuses_validation_epoch_end(solo):
    assert "def validation_epoch_end" in inspect.getsource(solo.base.BaseMethod)
    assert not hasattr(solo.base.BaseMomentumMethod, "validation_epoch_end")

    class Old(pl.LightningModule):
        def validation_epoch_end(self, outputs):
            pass

        def training_step(self, batch):
            pass

        def configure_optimizers(self):
            pass

    with pytest.raises(NotImplementedError, match="validation_epoch_end"):
        pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1).fit(Old(), [1])


def test_gap_3_momentum_methods_demand_an_argument_that_lightning_does_not_pass(solo):
    theirs = inspect.signature(solo.base.BaseMomentumMethod.on_train_batch_end).parameters
    assert theirs["dataloader_idx"].default is inspect.Parameter.empty
    assert "dataloader_idx" not in inspect.signature(pl.LightningModule.on_train_batch_end).parameters
    assert "dataloader_idx" not in inspect.signature(adapter._OnImages.on_train_batch_end).parameters


def one_step(make_optimizer):
    """Take a step as Lightning does, the gradient computed inside the closure; return the weight."""
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = make_optimizer(torch.optim.SGD([weight], lr=0.5, weight_decay=0.1))

    def closure():
        optimizer.zero_grad()
        loss = (weight * torch.tensor([[6.0, 8.0]])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def test_gap_4_their_lars_equals_sgd_without_decay_and_ours_does_not(solo):
    from solo.utils.lars import LARSWrapper

    plain = one_step(lambda sgd: sgd)
    assert torch.allclose(plain, torch.tensor([[3 - 0.5 * 6.3, 4 - 0.5 * 8.4]]))
    theirs = one_step(lambda sgd: LARSWrapper(sgd, eta=0.02))
    assert torch.allclose(theirs, torch.tensor([[3 - 0.5 * 6, 4 - 0.5 * 8]]))  # the raw gradient: no trust ratio
    # |w| = 5, |g| = 10: trust 0.02 * 5 / (10 + 0.1 * 5); step 0.5 * trust * (g + 0.1 w) = 0.5 * 0.1 / 10.5 * (6.3, 8.4)
    ours = one_step(lambda sgd: adapter.Lars(sgd, eta=0.02))
    assert torch.allclose(ours, torch.tensor([[3 - 0.03, 4 - 0.04]]), atol=1e-6)


def test_lars_reaches_training_and_leaves_bias_and_norm_alone(solo):
    method = build(lars=True, scheduler={"name": "none"})
    optimizer = method.configure_optimizers()
    assert type(optimizer) is adapter.Lars and optimizer.exclude_bias_n_norm
    assert type(build(scheduler={"name": "none"}).configure_optimizers()) is torch.optim.SGD
    bias = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    bias.grad = torch.tensor([1.0, 1.0])
    adapter.Lars(torch.optim.SGD([bias], lr=0.5, weight_decay=0.1)).step()
    assert bias.tolist() == [2.5, 3.5]


def test_gap_5_their_loss_under_autocast_is_rounded_to_bf16_and_ours_is_not(solo):
    from solo.losses.simclr import simclr_loss_func

    z = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    exact = simclr_loss_func(z[0], z[1], temperature=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = simclr_loss_func(z[0], z[1], temperature=0.2)
    assert abs(float(rounded - exact)) > 1e-4
    method = build()
    method.uses_bfloat16 = True
    loss = method.training_step(batch(method), 0)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(simclr_loss_func(*method.projected, temperature=0.2)), abs=1e-6)


def test_gap_6_their_nt_xent_gathers_nothing(solo):
    import solo.losses.simclr as losses

    assert "gather" not in inspect.getsource(losses) and "gather" not in inspect.getsource(solo.simclr)


def test_gap_7_their_tau_is_in_no_checkpoint(solo):
    method = build(method="byol")
    assert not any("tau" in name for name in method.state_dict())
    assert not hasattr(method.momentum_updater, "state_dict")


def test_gap_8_only_two_depths_are_offered(solo):
    assert {"resnet34", "resnet101"}.isdisjoint(solo.base.BaseMethod._SUPPORTED_ENCODERS)


@pytest.mark.parametrize("backbone, tensors", [("resnet34", 216), ("resnet101", 624)])
def test_other_depths_are_put_in_place(backbone, tensors):
    method = build(backbone=backbone)
    found = convert_state(method.state_dict())
    assert found.architecture == backbone and len(found.backbone) == tensors


@pytest.mark.parametrize("name", adapter.METHODS)
def test_every_method_takes_a_step_and_converts(name):
    method = build(method=name, method_options={"queue_size": 16} if name == "mocov2plus" else {})
    before = {key: value.clone() for key, value in method.encoder.state_dict().items()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    loss = method.training_step(batch(method), 0)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss) and len(method.projected) == 2 and method.projected[0].shape == (4, 16)
    assert not torch.equal(before["conv1.weight"], method.encoder.conv1.weight)
    found = convert_state(method.state_dict())
    assert found.prefix == "encoder." and torch.equal(found.backbone["conv1.weight"], method.encoder.conv1.weight)
    if hasattr(method, "momentum_encoder"):
        assert torch.equal(method.momentum_encoder.conv1.weight, before["conv1.weight"])
        assert not any(parameter.requires_grad for parameter in method.momentum_encoder.parameters())


@pytest.mark.parametrize("name", ["dino", "swav", "simclrv2"])
def test_methods_that_are_not_tested_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"method is '{name}'; choose one of simclr, mocov2plus, byol"):
        build(method=name)


def test_options_of_another_method_are_refused():
    with pytest.raises(ValueError, match=r"simclr has no method_options\.queue_size"):
        build(method_options={"queue_size": 16})


def test_gray_becomes_three_normalized_channels():
    method = build(pixel_mean=[0, 51, 102], pixel_std=[255, 51, 102])
    gray = torch.full((1, 2, 2), 102, dtype=torch.uint8)
    values = method.normalized(gray)
    assert values.shape == (1, 3, 2, 2) and values.is_contiguous(memory_format=torch.channels_last)
    assert values[0, :, 0, 0].tolist() == pytest.approx([0.4, 1.0, 0.0])


def test_a_loss_that_is_no_number_names_the_images():
    method = build()
    numbers, views, targets = batch(method)
    views[0][2] = torch.nan
    with pytest.raises(
        adapter.NotFiniteError, match="the loss is nan at step 0; images of the batch: image0, image1, image2, image3"
    ):
        method.training_step((numbers, views, targets), 0)


def test_warmup_and_cosine_have_their_values():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = adapter.WarmupCosine(optimizer, warmup_epochs=3, max_epochs=7, warmup_start_lr=0.2, eta_min=0.1)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    # 0.2, 0.6, 1.0, then 0.1 + 0.9 (1 + cos(pi k / 4)) / 2
    assert rates == pytest.approx([0.2, 0.6, 1.0, 1.0, 0.868198, 0.55, 0.231802, 0.1], abs=1e-6)


def test_gap_9_rates_change_once_an_epoch(solo):
    assert '"interval"' not in inspect.getsource(solo.base.BaseMethod.configure_optimizers)  # Lightning's default


def test_a_warm_up_goes_by_steps_and_may_be_a_part_of_an_epoch(monkeypatch):
    monkeypatch.setattr(adapter, "steps_per_epoch", lambda method: 4)
    rule = {"name": "warmup_cosine", "warmup_epochs": 0.5}
    method = build(optimizer={"name": "adamw", "lr": 1.0}, scheduler=rule)
    (optimizer,), (plan,) = method.configure_optimizers()
    rates = []
    for _ in range(12):  # three epochs
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        plan["scheduler"].step()
    assert plan["interval"] == "step" and (method.warmup_epochs, method.max_epochs) == (0.5, 3)
    assert rates[:3] == [0, 1, 1] and rates[7] == pytest.approx(0.5)  # two steps up, then half of ten down
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match=r"warmup_epochs is 3, the run has 3 epochs; give a shorter warm-up"):
        build(scheduler={"name": "warmup_cosine", "warmup_epochs": 3})


def test_another_version_of_solo_learn_is_refused(monkeypatch):
    monkeypatch.setattr(adapter.importlib.metadata, "version", lambda name: "1.0.6")
    with pytest.raises(ValueError, match=r"solo-learn 1\.0\.6 is installed.*pip install --no-deps solo-learn==1\.0\.2"):
        adapter.import_solo()
