"""What every test may use: the tools as modules, and the two sets of real data that a plain clone does not hold."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def load_tool():
    """Return a function: name of a script in tools/, which is no package -> its module."""

    def load(name: str):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def vinbigdata_csv() -> Path:
    """VinDr-CXR's annotation file as torchxrayvision ships it; its terms forbid a copy in this repository."""
    spec = importlib.util.find_spec("torchxrayvision")  # located, not imported: importing it needs imageio
    path = Path(spec.origin).parent / "data" / "vinbigdata-train.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        pytest.skip("VinDr-CXR's annotation file is missing: pip install torchxrayvision")
    return path


@pytest.fixture(scope="session")
def open_films() -> Path:
    """The folder of real open films named by D2_CXR_FILMS (docs/real_data.md)."""
    folder = os.environ.get("D2_CXR_FILMS")
    if not folder:
        pytest.skip("real open films are missing: set D2_CXR_FILMS to their folder (docs/real_data.md)")
    return Path(folder)
