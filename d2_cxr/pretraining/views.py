"""Two views of an image: crop, flip, blur, noise, each as arXiv 2206.00344 states it.

In this order: (1) random resized crop, 20-100 % of the area; (2) horizontal flip, 50 %; (3) Gaussian blur, sigma
0.1-2 px, kernel 21; (4) Gaussian noise, either sigma uniform in 12.5-25 % of the view's mean pixel (the text) or mean
pixel / sigma drawn from {4, 5, 6, 7} (the released code). Every random number is a function of (seed, epoch, image id,
view), so that a view does not depend on the number of workers, processes or restarts.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np

_CROP_TRIES = 10  # as torchvision's RandomResizedCrop, whose definition of scale and ratio this is
_NUMBERS = 4 * _CROP_TRIES + 6
_ALIAS_FREE = 1.15  # shrinking by less than this, linear interpolation is as good as area averaging
_BANK = 1 << 22  # normals kept; a view reads a run of them from a random place, 8 times as fast as drawing them


@dataclass(frozen=True)
class ViewRules:
    """How views are made; `size` in pixels, `sigma` in pixels of the view, probabilities in [0, 1]."""

    size: int = 224
    crop_scale: tuple[float, float] = (0.2, 1.0)  # fraction of the image's area
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height, log-uniform
    flip: float = 0.5
    blur: float = 1.0  # probability of blurring at all
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int = 21
    noise: str = "text"  # text, code or none
    noise_share: tuple[float, float] = (0.125, 0.25)  # text: sigma / mean pixel
    noise_divisors: tuple[int, ...] = (4, 5, 6, 7)  # code: mean pixel / sigma

    def __post_init__(self):
        if self.noise not in ("text", "code", "none"):
            raise ValueError(f"augmentation.noise is {self.noise!r}; choose text, code or none")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"augmentation.crop_scale is {list(self.crop_scale)}; it needs 0 < least <= greatest <= 1")
        if self.blur_kernel % 2 == 0 or self.blur_kernel < 1:
            raise ValueError(f"augmentation.blur_kernel is {self.blur_kernel}; it must be odd")
        if self.size < 32:
            raise ValueError(f"image_size is {self.size}; a ResNet needs 32 pixels at least")


def two_views(image: np.ndarray, rules: ViewRules, seed: int, epoch: int, image_name: str) -> np.ndarray:
    """Return two views, uint8 (2, size, size), of a gray image, uint8 (H, W)."""
    return np.stack([make_view(image, rules, keyed_uniforms(seed, epoch, image_name, view)) for view in (0, 1)])


def make_view(image: np.ndarray, rules: ViewRules, uniforms: np.ndarray) -> np.ndarray:
    """Return one view, uint8 (size, size).

    Args:
        image: uint8 (H, W).
        uniforms: float64 (46,) in [0, 1), all the chance that the view takes.
    """
    crop, rest = uniforms[:-6], uniforms[-6:]
    view = crop_and_resize(image, crop_box(image.shape, rules, crop), rules.size)
    if rest[0] < rules.flip:
        view = cv2.flip(view, 1)
    if rest[1] < rules.blur:
        low, high = rules.blur_sigma
        view = blur(view, low + (high - low) * rest[2], rules.blur_kernel)
    if rules.noise != "none":
        view = add_noise(view, noise_sigma(cv2.mean(view)[0], rules, rest[3]), rest[4])
    return view


def keyed_uniforms(seed: int, epoch: int, image_name: str, view: int) -> np.ndarray:
    """Return float64 (46,) uniform in [0, 1), a function of the four arguments alone, on every machine."""
    digest = hashlib.shake_128(f"{seed}/{epoch}/{image_name}/{view}".encode()).digest(8 * _NUMBERS)
    return (np.frombuffer(digest, dtype="<u8") >> 11) * 2.0**-53  # 53 bits, as numpy's own `random`


def crop_box(shape: tuple[int, int], rules: ViewRules, uniforms: np.ndarray) -> tuple[int, int, int, int]:
    """Return a crop (x, y, width, height) in whole pixels of an image of shape (H, W).

    Area uniform in `crop_scale`, aspect log-uniform in `crop_ratio`; a crop that does not fit is drawn again, ten
    times at most, then the whole image is taken, cut to the allowed ratio (torchvision's definition).
    """
    height, width = shape
    log_low, log_high = math.log(rules.crop_ratio[0]), math.log(rules.crop_ratio[1])
    for u_area, u_ratio, u_x, u_y in uniforms.reshape(_CROP_TRIES, 4).tolist():
        area = height * width * (rules.crop_scale[0] + (rules.crop_scale[1] - rules.crop_scale[0]) * u_area)
        ratio = math.exp(log_low + (log_high - log_low) * u_ratio)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(u_x * (width - w + 1)), int(u_y * (height - h + 1)), w, h
    w = min(width, round(height * rules.crop_ratio[1]))
    h = min(height, round(width / rules.crop_ratio[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def crop_and_resize(image: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut (x, y, width, height) out and resize it to (size, size), averaging over area so as not to alias.

    Shrinking takes two steps: linear to 2 * size, then the mean of 2 x 2. That is area averaging to within 0.2
    gray levels beyond rounding, in a third of its time, because only whole ratios have a fast path in OpenCV.
    """
    x, y, width, height = box
    crop = image[y : y + height, x : x + width]
    if max(width, height) <= _ALIAS_FREE * size:
        return cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
    if max(width, height) > 2 * _ALIAS_FREE * size:  # small views of large images; the short way would alias
        return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    double = cv2.resize(crop, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(double, (size, size), interpolation=cv2.INTER_AREA)


def blur(view: np.ndarray, sigma: float, kernel: int = 21) -> np.ndarray:
    """Blur with a Gaussian of `sigma` pixels.

    The kernel is cut where its weight no longer moves an 8-bit value (4 sigma: less than 0.02 gray levels of 255),
    because time goes with its length. A separable filter with float weights, rounded once: exact, and twice to five
    times as fast as OpenCV's 8-bit GaussianBlur.
    """
    weights = cv2.getGaussianKernel(min(kernel, 2 * math.ceil(4 * sigma) + 1), sigma)
    return cv2.sepFilter2D(view, -1, weights, weights)


def noise_sigma(mean: float, rules: ViewRules, uniform: float) -> float:
    """Return the noise's standard deviation in gray levels for a view of this mean pixel, in the rules' form."""
    if rules.noise == "text":
        low, high = rules.noise_share
        return mean * (low + (high - low) * uniform)
    return mean / rules.noise_divisors[int(uniform * len(rules.noise_divisors))]


def add_noise(view: np.ndarray, sigma: float, uniform: float) -> np.ndarray:
    """Add Gaussian noise of `sigma` gray levels, rounded and clipped to 0-255; `uniform` chooses which noise."""
    bank = _standard_normals()
    start = int(uniform * (len(bank) - view.size))
    return cv2.addWeighted(view, 1.0, bank[start : start + view.size].reshape(view.shape), sigma, 0.0, dtype=cv2.CV_8U)


@functools.cache
def _standard_normals() -> np.ndarray:
    """Return the bank of standard normals, float32, the same on every machine (numpy keeps PCG64's stream stable)."""
    return np.random.Generator(np.random.PCG64(20200213)).standard_normal(_BANK, dtype=np.float32)
