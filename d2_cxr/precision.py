"""Which number format pays on this machine: asked of the machine, not of its name.

bfloat16 halves the time of a training step on processors with instructions for it, and makes it nine times slower on
those without, where PyTorch emulates it. CPU flags mislead: they ignore emulation layers, and a processor can have
AVX512 without its bfloat16 part. So a small convolution is timed in both.
"""

from __future__ import annotations

import functools
import statistics
import time

WORTHWHILE = 1.2  # bfloat16 must be at least this much faster: below, its rounding buys nothing
_NAMES = {"fp32": "fp32", "float32": "fp32", "32": "fp32", "32-true": "fp32", "bf16": "bf16", "bfloat16": "bf16"}


def choose(requested: str = "auto", device: str = "cpu") -> tuple[str, str]:
    """Return the number format to compute in, and the reason in a few words.

    Args:
        requested: "fp32", "bf16", or "auto" to try both on the device.
        device: "cpu", "cuda" or "cuda:N".

    Returns:
        ("fp32" or "bf16", reason), e.g. ("fp32", "bf16 is 0.11 times as fast as fp32 here; ...").

    Raises:
        ValueError: the request is not one of these.
    """
    if requested == "auto":
        return _measured(device) if str(device).startswith("cpu") else _of_gpu(device)
    if str(requested) not in _NAMES:
        raise ValueError(f"precision is {requested!r}; choose auto, fp32 or bf16")
    return _NAMES[str(requested)], "as asked for"


def speedup(device: str = "cpu", rounds: int = 5) -> float:
    """Return how many times as fast bfloat16 is as float32 for a small convolutional step on the device."""
    import torch

    block = _probe_network().to(device=device, memory_format=torch.channels_last)
    images = torch.ones(8, 64, 24, 24, device=device).contiguous(memory_format=torch.channels_last)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for bfloat16 in (False, True):
        _step(block, images, bfloat16)  # the first call compiles kernels
    for _ in range(rounds):  # interleaved, so that a neighbor's load falls on both
        for bfloat16 in (False, True):
            seconds[bfloat16].append(_step(block, images, bfloat16))
    return statistics.median(seconds[False]) / statistics.median(seconds[True])


@functools.cache
def _measured(device: str) -> tuple[str, str]:
    ratio = speedup(device)
    name = "bf16" if ratio >= WORTHWHILE else "fp32"
    return name, f"bf16 is {ratio:.2f} times as fast as fp32 here; it is used from {WORTHWHILE:g} times on"


def _of_gpu(device: str) -> tuple[str, str]:
    import torch

    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", f"{torch.cuda.get_device_name(device)} computes in bf16"
    return "fp32", f"{torch.cuda.get_device_name(device)} has no bf16"


def _probe_network():
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):  # asking must not move the random numbers of the training that follows
        layers = [(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()) for _ in range(3)]
    return nn.Sequential(*(module for layer in layers for module in layer))


def _step(block, images, bfloat16: bool) -> float:
    """Run forward and backward once; return seconds."""
    import torch

    block.zero_grad(set_to_none=True)
    start = time.perf_counter()
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        output = block(images)
    output.float().sum().backward()
    return time.perf_counter() - start
