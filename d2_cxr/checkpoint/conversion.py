"""What every conversion checks and returns: a complete backbone, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from d2_cxr.counted import counted

COUNTER = "num_batches_tracked"


class ConversionError(ValueError):
    """Weights that cannot be converted completely; says which tensor and what is wrong."""


@dataclass
class Conversion:
    """A backbone under its own network's names, and what became of everything else in its file."""

    architecture: str  # resnet50, or timm:NAME
    prefix: str
    backbone: dict  # torchvision's or timm's name -> float32 or int64 tensor, complete
    left_out: list[str] = field(default_factory=list)  # names in the file that are not part of the backbone
    notes: list[str] = field(default_factory=list)


def add_counters(inside: dict, expected: Mapping[str, tuple]) -> list[str]:
    """Give a file without any `num_batches_tracked`, as the oldest are, zeros, and say so; some missing is an error."""
    import torch

    counters = [name for name in expected if name.endswith(COUNTER)]
    if not counters or any(name in inside for name in counters):
        return []
    inside.update({name: torch.zeros((), dtype=torch.int64) for name in counters})
    return [f"no {COUNTER} in the file: {counted(len(counters), 'counter starts', 'counters start')} at 0"]


def check_names(inside: Mapping, expected: Mapping, prefix: str, architecture: str) -> None:
    """Compare the names of a backbone with those that its architecture has.

    Raises:
        ConversionError: names the first that is missing, or unknown.
    """
    missing = sorted(expected.keys() - inside.keys())
    if missing:
        raise ConversionError(
            f"the file lacks {counted(len(missing), 'tensor', of=len(expected))} of {architecture}, "
            f"first: {prefix}{missing[0]}"
        )
    unknown = sorted(inside.keys() - expected.keys())
    if unknown:
        number = counted(len(unknown), "name below the prefix is", "names below the prefix are")
        raise ConversionError(f"{number} not part of {architecture}, first: {prefix}{unknown[0]}")


def checked_tensor(name: str, value, shape: tuple[int, ...], notes: list[str]):
    """Return a tensor as float32 (a counter as int64) after checking its shape and that it is finite.

    Raises:
        ConversionError: names the tensor.
    """
    import torch

    try:
        return _checked(name, torch.as_tensor(value), shape, notes)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # sparse, on no device, no numbers, ...
        raise ConversionError(f"{name} holds no numbers that can be read ({type(error).__name__})") from error


def _checked(name: str, value, shape: tuple[int, ...], notes: list[str]):
    import torch

    if value.layout != torch.strided or value.is_meta:
        raise ConversionError(f"{name} is a sparse tensor, or one without values; save the weights dense")
    if tuple(value.shape) != tuple(shape):
        raise ConversionError(f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    if name.endswith(COUNTER) and not value.is_quantized:
        return value.to(torch.int64)
    if value.is_quantized or not (value.is_floating_point() and value.element_size() >= 2):
        raise ConversionError(f"{name} is quantized ({value.dtype}); give the weights before quantization")
    if value.dtype != torch.float32:
        notes.append(f"{value.dtype} widened to float32")
    value = value.detach().to(torch.float32).contiguous()
    if not torch.isfinite(value).all():
        raise ConversionError(f"{name} holds NaN or infinite values: its training diverged")
    if name.endswith("running_var") and bool((value < 0).any()):
        raise ConversionError(f"{name} holds negative variances: the file is damaged")
    return value
