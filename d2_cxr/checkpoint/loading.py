"""Weights and settings from files that may come from anywhere, without running what is inside them.

A pickle is a program. `.pth` and `.ckpt` files are read with PyTorch's `weights_only=True`; the `.pkl` files of
Detectron2's model zoo by an unpickler that admits numpy arrays, dtypes and scalars alone; YAML without Python tags.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path

MINIMUM_TORCH = (2, 6)  # below it `weights_only=True` is not a defense
_ZIP = b"PK\x03\x04"  # how files of torch.save begin since PyTorch 1.6
_TRUST = "if you made it yourself, load it with --trust"


class WeightsError(ValueError):
    """A weights file that cannot be read safely, or not at all; says why and what to do."""


def load_weights_file(path: str | Path, trust: bool = False) -> dict:
    """Return what a weights file holds, tensors on the CPU.

    Args:
        path: a file of `torch.save` (`.pth`, `.pt`, `.ckpt`), `.safetensors`, or a `.pkl` of Detectron2's model zoo.
        trust: also run whatever else the pickle asks for; only for files that you made yourself.

    Returns:
        The dict as stored, e.g. {"model": {name: tensor}} or {"state_dict": {name: tensor}, ...}; arrays of a
        `.pkl` stay numpy arrays.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is cut short, is not a weights file, or its pickle holds more than plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = _read_pkl(path, trust) if path.suffix == ".pkl" else _read_torch(path, trust)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return content


def load_yaml(path: str | Path):
    """Return the plain values of a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not YAML, or asks for Python objects.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"configuration {path} does not exist")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error


def require_safe_torch() -> None:
    """Raise on a PyTorch whose `weights_only=True` can be made to run code (CVE-2025-32434, fixed in 2.6).

    Raises:
        WeightsError: names the version.
    """
    import torch

    release = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if release < MINIMUM_TORCH:
        raise WeightsError(
            f"PyTorch {torch.__version__} does not read weights files safely (CVE-2025-32434); install "
            f"{MINIMUM_TORCH[0]}.{MINIMUM_TORCH[1]} or later"
        )


def _read_safetensors(path: Path) -> dict:
    """Return {"model": {name: tensor}}; the format holds nothing but tensors, so nothing can run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {"model": load_file(path, device="cpu")}
    except (SafetensorError, ValueError, OSError) as error:
        raise WeightsError(
            f"{path} is not a readable weights file ({_first_line(error)}); was it cut short?"
        ) from error


def _read_torch(path: Path, trust: bool):
    import torch

    require_safe_torch()
    with open(path, "rb") as file:
        mapped = file.read(4) == _ZIP  # only these can be memory-mapped
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} {_reason(error)}; {_TRUST}") from error
    except Exception as error:  # a broken pickle can raise nearly anything
        raise WeightsError(
            f"{path} is not a readable weights file ({_first_line(error)}); was it cut short?"
        ) from error


def _reason(error: Exception) -> str:
    """Say in a few words what PyTorch's refusal, many lines long, is about."""
    asked = re.search(r"GLOBAL (\S+) was not", str(error))
    if asked:
        return f"holds a pickle that asks for {asked[1]}, not only tensors and plain values"
    return "holds a pickle with more than tensors and plain values"


def _first_line(error: Exception) -> str:
    """Return what a library says of a file; what the interpreter says of a program in it helps nobody."""
    if isinstance(error, TypeError | AttributeError | LookupError):
        return type(error).__name__
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


class _NumpyUnpickler(pickle.Unpickler):
    """Admit what numpy arrays are made of, and nothing that could run a program."""

    def find_class(self, module: str, name: str):
        import numpy as np

        module = module.replace("numpy._core", "numpy.core")  # numpy 2 renamed it; files carry either
        rebuild = _numpy_rebuilders()
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): rebuild["_reconstruct"],
            ("numpy.core.multiarray", "scalar"): rebuild["scalar"],
            ("numpy.core.numeric", "_frombuffer"): rebuild["_frombuffer"],
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in allowed:
            raise WeightsError(f"asks for {module}.{name}, not only numpy arrays and plain values")
        return allowed[module, name]


def _numpy_rebuilders() -> dict:
    try:
        from numpy._core import multiarray, numeric
    except ImportError:  # numpy 1
        from numpy.core import multiarray, numeric  # type: ignore[no-redef]  # the same modules at their older place
    return {
        "_reconstruct": multiarray._reconstruct,
        "scalar": multiarray.scalar,
        "_frombuffer": getattr(numeric, "_frombuffer", None),
    }


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Replace `_codecs.encode`, which protocol 2 uses for the bytes of an array, and which may load modules."""
    if encoding not in ("latin1", "latin-1"):
        raise WeightsError(f"asks for the codec {encoding!r}; only latin1 occurs in numpy arrays")
    return text.encode("latin1")


def _read_pkl(path: Path, trust: bool):
    content = path.read_bytes()
    loader = pickle.Unpickler if trust else _NumpyUnpickler
    try:
        return loader(io.BytesIO(content), encoding="latin1").load()  # zoo files were pickled by Python 2
    except WeightsError as error:
        raise WeightsError(f"{path} holds a pickle that {error}; {_TRUST}") from None
    except Exception as error:  # a broken pickle can raise nearly anything
        raise WeightsError(f"{path} is not a readable pickle ({_first_line(error)}); was it cut short?") from error
