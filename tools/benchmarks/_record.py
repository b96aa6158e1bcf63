"""What every benchmark's numbers carry: the command, the commit and the machine that gave them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

from d2_cxr import artifacts
from d2_cxr.artifacts import project_commit


def parser(stage: str, description: str | None) -> argparse.ArgumentParser:
    """Return a stage's parser with the option that all of them have."""
    made = argparse.ArgumentParser(
        prog=f"benchmark.py {stage}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", metavar="FILE", help="also write the numbers here")
    return made


def finish(stage: str, numbers: dict, argv: list[str] | None, json_file: str | os.PathLike | None) -> int:
    """Print numbers, and write them where asked; return the exit code."""
    numbers |= {"command": " ".join(["python tools/benchmark.py", stage, *(sys.argv[2:] if argv is None else argv)])}
    numbers |= origin()
    if json_file:
        artifacts.write_json(json_file, numbers)
    print(json.dumps(numbers, indent=1))
    return 0


def origin() -> dict[str, str | None]:
    """Return the commit and the machine that a number comes from."""
    return {"commit": project_commit(), "machine": _machine()}


def _machine() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    about = f"{platform.machine()}, {cores} cores, {torch.backends.cpu.get_cpu_capability()}{gpu}"
    return f"{about}; Python {platform.python_version()}, torch {torch.__version__}"
