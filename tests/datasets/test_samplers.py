import itertools
import math

import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")

from d2_cxr.datasets.samplers import PositionedSampler, image_repeat_factors, with_negatives
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.fusion import fuse_annotations
from d2_cxr.labels.splits import published_split


def first(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def test_an_image_takes_the_factor_of_its_rarest_class():
    # class 0 on 10 of 10 images, class 1 on 1 of 10: sqrt(0.4 / 0.1) = 2
    factors = image_repeat_factors([{0, 1}] + [{0}] * 9, threshold=0.4)
    assert factors.tolist() == [2.0] + [1.0] * 9


def test_an_image_without_boxes_counts_in_the_frequencies_and_is_not_repeated():
    factors = image_repeat_factors([{0}, set(), set(), set(), set(), set(), set(), set(), set(), set()], threshold=0.9)
    assert factors[0].item() == pytest.approx(3.0)  # sqrt(0.9 / 0.1)
    assert factors[1:].tolist() == [1.0] * 9


def test_threshold_zero_repeats_nothing():
    assert image_repeat_factors([{0}, {1}, set()], threshold=0).tolist() == [1.0, 1.0, 1.0]


def test_the_published_training_images_make_an_epoch_of_4657_88(vinbigdata_csv):
    boxes = fuse_annotations(read_annotations(vinbigdata_csv).boxes)
    names = sorted(boxes["class_name"].unique())
    on_image = boxes.groupby("image_name")["class_name"].agg(lambda column: {names.index(name) for name in column})
    rows = read_annotations(vinbigdata_csv).boxes["image_name"]
    train = published_split(list(dict.fromkeys(rows)))["train"]
    factors = image_repeat_factors([on_image[image] for image in train], threshold=0.4)
    assert len(factors) == 3075
    assert float(factors.double().sum()) == pytest.approx(4657.88, abs=0.01)


def test_negative_images_are_drawn_at_the_stated_ratio_and_leave_the_other_factors_alone():
    factors = with_negatives(torch.tensor([2.0, 1.0, 1.0]), num_negatives=8, ratio=0.5)
    assert factors[:3].tolist() == [2.0, 1.0, 1.0]
    assert factors[3:].tolist() == [0.25] * 8  # 0.5 * 4 draws / 8 images
    sampler = PositionedSampler(factors, seed=0)
    draws = first(sampler, 30_000)
    negative = sum(draw.index >= 3 for draw in draws) / len(draws)
    assert negative == pytest.approx(1 / 3, abs=0.01)  # half as many as images with findings


def test_wanting_negative_images_where_there_are_none_is_refused():
    with pytest.raises(ValueError, match="no negative training images"):
        with_negatives(torch.ones(3), num_negatives=0, ratio=0.5)


def test_expected_draws_are_the_factors():
    sampler = PositionedSampler(torch.tensor([2.5, 1.0]), seed=3)
    counts = torch.bincount(torch.tensor([draw.index for draw in first(sampler, 35_000)]))
    assert counts[0] / counts[1] == pytest.approx(2.5, abs=0.05)


def test_a_fast_forwarded_sampler_continues_the_same_stream():
    factors = torch.tensor([1.7, 1.0, 2.2, 1.0])
    whole = first(PositionedSampler(factors, seed=5), 40)
    assert first(PositionedSampler(factors, seed=5, start=13), 27) == whole[13:]
    assert [draw.position for draw in whole] == list(range(40))


def test_processes_share_one_stream(monkeypatch):
    factors = torch.tensor([1.7, 1.0, 2.2])
    whole = first(PositionedSampler(factors, seed=5, start=6), 20)
    parts = []
    for rank in range(2):
        sampler = PositionedSampler(factors, seed=5, start=6)
        sampler._rank, sampler._world_size = rank, 2
        parts.append(first(sampler, 10))
    assert [draw for pair in zip(*parts, strict=True) for draw in pair] == whole


def test_another_seed_is_another_order():
    factors = torch.full((50,), math.sqrt(2))
    assert first(PositionedSampler(factors, seed=0), 50) != first(PositionedSampler(factors, seed=1), 50)
