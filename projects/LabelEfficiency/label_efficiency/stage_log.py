"""A stage's log file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def log_path(study_dir: Path, stage_id: str) -> Path:
    """Return a stage's log file."""
    return study_dir / "logs" / f"{stage_id.replace('/', '_')}.log"


@contextlib.contextmanager
def output_to(path: Path):
    """Send everything that this process writes to stdout and stderr, from Python or from C, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
