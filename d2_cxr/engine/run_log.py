"""A run's log: to the console, and to `log.txt` of its own folder only.

Detectron2's `setup_logger` adds handlers that are never taken away, so that in one process a second run would write
into the first one's file, and every line twice to the console.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

_LOGGERS = ("d2_cxr", "detectron2", "fvcore")
_FILE_ONLY = "detectron2.utils.events"  # losses every 20 iterations: the console has the bar


class _LogFile(logging.FileHandler):
    """A log that cannot be written (full disk) does not write a traceback for each line: what fails next says it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Pass over the line."""


@contextlib.contextmanager
def log_to(output_dir: str | Path, rank: int = 0) -> Iterator[None]:
    """Log to `output_dir`/log.txt (log.txt.rank1, ... on other processes) and the console while this lasts."""
    path = Path(output_dir) / ("log.txt" if rank == 0 else f"log.txt.rank{rank}")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _LogFile(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    console = _console() if rank == 0 else None
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(file)
        if console:
            logger.addHandler(console)
    losses = logging.getLogger(_FILE_ONLY)
    losses.addHandler(file)
    losses.propagate = False
    try:
        yield
    finally:
        losses.removeHandler(file)
        losses.propagate = True
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.removeHandler(file)
            if console:
                logger.removeHandler(console)
            logger.setLevel(levels[name])
        file.close()


def _console() -> logging.Handler | None:
    """Return a handler for the console, None where the program has set one up already (`run_tool` does)."""
    if logging.getLogger().handlers:
        return None
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(logging.Formatter("%(message)s"))
    return console
