import cv2
import numpy as np
import pytest
import torch

from d2_cxr.datasets import image_array
from d2_cxr.pretraining.data import EpochSampler, TwoViews, load_images, make_loader
from d2_cxr.pretraining.views import ViewRules

RULES = ViewRules(size=32)


@pytest.fixture
def images(prepared):
    return load_images(["tiny_train_unlabeled"], [["tiny", str(prepared)]])


def test_names_are_joined_and_an_image_counts_once(prepared, write_set, tmp_path):
    other = write_set(tmp_path, num_images=5, seed=1)
    sets = [["tiny", str(prepared)], ["other", str(other)]]
    images = load_images(["tiny_train_unlabeled", "other_train_unlabeled", "tiny_train"], sets)
    assert len(images) == 24 + 5
    assert [image["image_name"] for image in images] == sorted(image["image_name"] for image in images)


@pytest.mark.parametrize(
    "name", ["vindr_cxr_test", "vindr_cxr_val", "vindr_cxr_negative_test", "vindr_cxr_official_test"]
)
def test_held_out_images_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is held out"):
        load_images([name])


def test_a_cut_pool_is_a_part_of_the_whole_one(prepared, images):
    cut = load_images(["tiny_train_unlabeled_pool_25_seed3"], [["tiny", str(prepared)]])
    assert len(cut) == 6 and all(image in images for image in cut)  # a quarter of 24


def test_an_unknown_name_is_one_line():
    with pytest.raises(ValueError, match="no data set 'vindr_train'"):
        load_images(["vindr_train"])
    with pytest.raises(ValueError, match="datasets is empty"):
        load_images([])


def test_the_array_and_the_pngs_hold_the_same_images(write_set, tmp_path):
    with_array = write_set(tmp_path / "a", num_images=4, seed=2, array=True)
    images = load_images(["a_train"], [["a", str(with_array)]])
    rows = [image_array.read(image["file_name"]) for image in images]
    assert image_array.open_array(with_array)[0] is not None
    (with_array / "images.npy").unlink()
    for image, row in zip(images, rows, strict=True):
        assert np.array_equal(image_array.read(image["file_name"]), row)


def test_a_missing_image_is_named_before_training_starts(write_set, tmp_path):
    root = write_set(tmp_path, num_images=4)
    (root / "images/0image002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 prepared image is missing, first: .*0image002\.png; prepare"):
        load_images(["gap_train"], [["gap", str(root)]])
    with pytest.raises(FileNotFoundError, match=r"0image002\.png is missing or not an image"):
        image_array.read(root / "images/0image002.png")


def test_an_epoch_is_a_permutation_that_its_number_decides():
    sampler = EpochSampler(10, 3, seed=0)
    first = list(sampler)
    assert len(first) == len(sampler) == 3
    numbers = [number for batch in first for _, number in batch]
    assert len(set(numbers)) == 9 and set(numbers) <= set(range(10))
    sampler.set_epoch(1)
    assert {epoch for batch in sampler for epoch, _ in batch} == {1}
    assert [[n for _, n in batch] for batch in sampler] != [[n for _, n in batch] for batch in first]
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_two_processes_share_the_batches_of_one():
    whole = list(EpochSampler(12, 4, seed=5))
    shares = [list(EpochSampler(12, 2, seed=5, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole


def test_too_few_images_for_a_batch_say_what_would_fit():
    with pytest.raises(ValueError, match=r"10 images do not fill a batch of 16 .* lower batch_size to 10"):
        EpochSampler(10, 16, seed=0)


def test_views_do_not_depend_on_the_number_of_workers(images):
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (0, 0), 9)  # starts OpenCV's threads, which a fork loses
    batches = []
    for num_workers in (0, 2):
        dataset = TwoViews(images, RULES, seed=0)
        loader = make_loader(dataset, EpochSampler(len(images), 8, seed=0), num_workers, pin_memory=False)
        batches.append(list(loader))
    for (numbers, views, targets), (numbers2, views2, _) in zip(*batches, strict=True):
        assert views.shape == (8, 2, 32, 32) and views.dtype == torch.uint8
        assert torch.equal(views, views2) and torch.equal(numbers, numbers2)
        assert targets.tolist() == [0] * 8
