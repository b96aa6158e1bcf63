import pytest
import torch

from d2_cxr.pretraining import health


def test_top1_counts_views_whose_nearest_is_their_pair():
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    assert health.contrastive_top1(first, second) == 1.0
    assert health.contrastive_top1(first, second.flip(0)) == 0.0
    assert health.chance_level(2) == pytest.approx(1 / 3)


def test_top1_of_random_projections_is_chance():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 400, 64, generator=generator)
    assert health.contrastive_top1(first, second) < 10 * health.chance_level(400)


def test_alignment_is_the_squared_distance_on_the_sphere():
    a = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert health.alignment(a, a) == 0
    assert health.alignment(a, -a) == pytest.approx(4)
    assert health.alignment(a, a.flip(0)) == pytest.approx(2)


def test_uniformity_is_0_in_one_point_and_falls_as_points_spread():
    assert health.uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-5)
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert health.uniformity(two) == pytest.approx(-8)  # log exp(-2 * 2 ** 2)


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(3, 64, generator=generator)
    features = torch.randn(500, 3, generator=generator) @ torch.linalg.qr(basis.T)[0].T
    assert health.effective_rank(features) == pytest.approx(3, abs=0.1)
    assert health.effective_rank(torch.ones(20, 8)) == 1.0


def test_collapse_is_told():
    assert health.relative_spread(torch.ones(10, 16)) == pytest.approx(0, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    assert health.relative_spread(torch.randn(500, 64, generator=generator)) == pytest.approx(1, abs=0.05)
    epoch = health.EpochHealth()
    constant = torch.ones(8, 16) + 1e-4 * torch.randn(8, 16, generator=generator)
    epoch.add([constant, constant], [constant, constant])
    assert any("one direction" in alarm for alarm in epoch.summary()["alarms"])
    epoch = health.EpochHealth()
    alive = torch.randn(64, 16, generator=generator)
    epoch.add([alive, alive], [alive, alive])
    assert epoch.summary()["alarms"] == [] and epoch.summary()["contrastive_top1"] == 1.0


def test_a_run_that_ends_without_its_task_learned_is_told():
    (alarm,) = health.unlearned_alarms(0.075, batch_size=64)
    assert alarm.startswith("hardly learned: 8 % of the views find their image's other view among 127 (chance 0.8 %)")
    assert health.unlearned_alarms(0.3, batch_size=64) == []
    assert health.unlearned_alarms(None, batch_size=64) == []  # nothing is contrasted


def test_contrasting_the_channels_of_one_image_is_refused():
    with pytest.raises(health.NotPairsError, match=r"1 image but projections of \[2048, 2048\] rows"):
        health.check_pairs(torch.tensor([3]), [torch.zeros(2048, 8), torch.zeros(2048, 8)])


def test_one_image_twice_in_a_batch_is_refused():
    views = [torch.zeros(2, 8), torch.zeros(2, 8)]
    health.check_pairs(torch.tensor([3, 4]), views)
    with pytest.raises(health.NotPairsError, match="twice"):
        health.check_pairs(torch.tensor([3, 3]), views)
