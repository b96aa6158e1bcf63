import cv2
import numpy as np
import pytest
import torch
import torchvision

from d2_cxr.pretraining.views import (
    ViewRules,
    add_noise,
    blur,
    crop_and_resize,
    crop_box,
    keyed_uniforms,
    make_view,
    noise_sigma,
    two_views,
)


def uniforms(count, epoch=0):
    return [keyed_uniforms(0, epoch, f"film{number}", 0) for number in range(count)]


def test_a_number_is_a_function_of_its_key_on_every_machine():
    numbers = keyed_uniforms(0, 0, "film", 0)
    assert numbers.shape == (46,)
    assert numbers[:3] == pytest.approx([0.7104889994897914, 0.2139906967731443, 0.8849469671588257], abs=1e-15)
    for other in ((1, 0, "film", 0), (0, 1, "film", 0), (0, 0, "Film", 0), (0, 0, "film", 1)):
        assert not np.isin(keyed_uniforms(*other), numbers).any()


def test_numbers_are_uniform():
    numbers = np.concatenate(uniforms(500))
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert np.abs(counts - len(numbers) / 10).max() < 5 * np.sqrt(len(numbers) / 10)


def test_crops_keep_area_and_aspect():
    boxes = np.array([crop_box((500, 400), ViewRules(), numbers[:-6]) for numbers in uniforms(500)])
    x, y, width, height = boxes.T
    share = width * height / (500 * 400)
    assert share.min() >= 0.199 and share.max() <= 1
    assert (width / height).min() >= 0.745 and (width / height).max() <= 1.342
    assert (x >= 0).all() and (y >= 0).all() and (x + width <= 400).all() and (y + height <= 500).all()


def test_crops_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    image = torch.zeros(1, 512, 512)
    theirs = [
        torchvision.transforms.RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)
    ]
    y1, x1, h1, w1 = np.array(theirs).T
    x2, y2, w2, h2 = np.array([crop_box((512, 512), ViewRules(), numbers[:-6]) for numbers in uniforms(1500)]).T
    for a, b in ((w1 * h1, w2 * h2), (w1 / h1, w2 / h2), (x1, x2), (y1, y2)):
        standard_error = np.sqrt((a.var() + b.var()) / 1500)
        assert abs(a.mean() - b.mean()) < 4 * standard_error
        assert abs(a.std() - b.std()) < 4 * standard_error


def test_an_image_too_narrow_for_any_crop_is_cut_to_the_ratio():
    rules = ViewRules(crop_scale=(1.0, 1.0))
    assert crop_box((100, 1000), rules, np.full(40, 0.5)) == (433, 0, 133, 100)
    assert crop_box((1000, 100), rules, np.full(40, 0.5)) == (0, 433, 100, 133)


@pytest.mark.parametrize("side", [200, 230, 300, 400, 512])
def test_resizing_is_area_averaging(side):
    image = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (5, 5), 1.0)
    resized = crop_and_resize(image, (3, 5, side - 5, side - 5), 224).astype(float)
    crop = image[5:side, 3 : side - 2].astype(np.float32)
    way = cv2.INTER_AREA if side > 224 * 1.15 else cv2.INTER_LINEAR
    assert np.abs(resized - cv2.resize(crop, (224, 224), interpolation=way)).mean() < 2.0


def test_shrinking_does_not_alias():
    board = (np.indices((510, 510)).sum(axis=0) % 2 * 255).astype(np.uint8)  # finer than any smaller image can show
    assert crop_and_resize(board, (0, 0, 510, 510), 224).std() < 20
    assert cv2.resize(board, (224, 224), interpolation=cv2.INTER_LINEAR).std() > 40  # what is avoided
    assert crop_and_resize(board, (0, 0, 510, 510), 96).std() < 10


def test_half_of_the_views_are_flipped():
    image = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    rules = ViewRules(size=64, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), blur=0.0, noise="none")
    flipped = sum(bool(view[0, 0] > view[0, -1]) for view in (make_view(image, rules, u) for u in uniforms(400)))
    assert abs(flipped - 200) < 4 * 10  # standard error of 400 coins: 10


@pytest.mark.parametrize("sigma", [0.8, 1.0, 2.0])
def test_blur_has_its_sigma(sigma):
    line = np.zeros((64, 64), np.uint8)
    line[:, 32] = 255
    profile = blur(line, sigma)[32].astype(float)
    offsets = np.arange(64) - 32
    assert np.sqrt((profile * offsets**2).sum() / profile.sum()) == pytest.approx(sigma, rel=0.04)
    assert profile[32] == pytest.approx(255 * cv2.getGaussianKernel(21, sigma)[10, 0], abs=1)


def test_blur_of_almost_nothing_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert np.array_equal(blur(image, 0.1), image)


def test_cutting_the_kernel_moves_no_gray_level():
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    weights = cv2.getGaussianKernel(21, 1.3)
    whole = cv2.sepFilter2D(image, -1, weights, weights)
    assert np.abs(blur(image, 1.3).astype(int) - whole.astype(int)).max() <= 1


def test_noise_in_the_form_of_the_text_is_a_share_of_the_mean():
    assert noise_sigma(100, ViewRules(), 0.0) == 12.5
    assert noise_sigma(100, ViewRules(), 0.5) == 18.75


def test_noise_in_the_form_of_the_code_divides_the_mean():
    rules = ViewRules(noise="code")
    assert [noise_sigma(140, rules, u) for u in (0.0, 0.26, 0.5, 0.99)] == [35, 28, 140 / 6, 20]


def test_noise_has_its_level_and_no_offset():
    gray = np.full((200, 200), 120, np.uint8)
    noisy = add_noise(gray, 20.0, 0.3).astype(float)
    assert noisy.std() == pytest.approx(20, rel=0.02) and noisy.mean() == pytest.approx(120, abs=0.5)
    other = add_noise(gray, 20.0, 0.7).astype(float)
    assert abs(np.corrcoef(noisy.ravel(), other.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("noise, low, high", [("text", 0.125, 0.25), ("code", 1 / 7, 1 / 4), ("none", 0, 0)])
def test_whole_views_carry_the_noise_that_was_asked_for(noise, low, high):
    gray = np.full((300, 300), 120, np.uint8)
    levels = [make_view(gray, ViewRules(size=128, noise=noise), u).std() / 120 for u in uniforms(40)]
    assert low - 0.005 <= min(levels) and max(levels) <= high + 0.005
    assert max(levels) - min(levels) >= 0.7 * (high - low)


def test_two_views_differ_and_come_again():
    image = np.random.default_rng(0).integers(0, 256, (100, 100), dtype=np.uint8)
    views = two_views(image, ViewRules(size=64), 0, 3, "film")
    assert views.shape == (2, 64, 64) and views.dtype == np.uint8
    assert not np.array_equal(views[0], views[1])
    assert np.array_equal(views, two_views(image, ViewRules(size=64), 0, 3, "film"))
    assert not np.array_equal(views, two_views(image, ViewRules(size=64), 0, 4, "film"))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"noise": "salt"}, "augmentation.noise is 'salt'"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"blur_kernel": 20}, "must be odd"),
        ({"size": 16}, "image_size is 16"),
    ],
)
def test_rules_that_can_not_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViewRules(**wrong)
