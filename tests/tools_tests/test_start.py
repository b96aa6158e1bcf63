"""What starting costs, counted in modules: `--help` and `import d2_cxr` load no library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("projects/*/*.py")])
HEAVY = {"numpy", "torch", "torchvision", "cv2", "pandas", "scipy", "sklearn", "matplotlib", "PIL", "pydicom", "yaml"}
HEAVY |= {"detectron2", "fvcore", "pycocotools", "pytorch_lightning", "solo", "timm", "highdicom", "pynetdicom"}
HEAVY |= {"omegaconf", "imagecodecs", "iterstrat", "jinja2", "tqdm", "submitit"}


def imported(*arguments: str) -> set[str]:
    """Run Python; return the top-level names of all modules that it imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_the_count_sees_an_import():
    assert "yaml" in imported("-c", "import yaml")


def test_importing_the_package_imports_no_library():
    names = imported("-c", "import d2_cxr")
    assert "d2_cxr" in names and not names & HEAVY


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.name)
def test_help_of_a_tool_imports_no_library(tool):
    assert not imported(str(tool), "--help") & HEAVY
