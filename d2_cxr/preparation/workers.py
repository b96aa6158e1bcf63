"""Worker processes that can be ended one by one.

A pool of the standard library waits forever for a decoder that hangs, and breaks as a whole when one dies. Here each
worker is a separate process with one task at a time: if a task exceeds its limit, its worker is ended, the file is
quarantined, and a new worker continues.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import d2_cxr
from d2_cxr.preparation.image_worker import CANNOT_WRITE, READY

LIMIT_S = 60.0  # for one image, by the clock; the slowest real ones take one second
_SMALL_SHARE = 1 / 6  # of it, in CPU time, for a file below image_worker.SMALL_FILE
_START_LIMIT_S = 120.0  # imports on a cold network disk


class _Worker:
    """One process, the task it has, and until when."""

    def __init__(self) -> None:
        self.process = _start_process()
        self.task: dict | None = None
        self.is_ready = False
        self.deadline = time.monotonic() + _START_LIMIT_S
        self._received = b""

    def give(self, task: dict, limit_s: float) -> None:
        self.task, self.deadline = task, time.monotonic() + limit_s
        message = {**task, "small_file_s": limit_s * _SMALL_SHARE}
        with contextlib.suppress(BrokenPipeError):  # it is dead; its closed output will say so
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def read(self) -> list[str] | None:
        """Return the lines that have arrived whole, or None when the process has ended."""
        chunk = os.read(self.process.stdout.fileno(), 1 << 16)
        if not chunk:
            return None
        *lines, self._received = (self._received + chunk).split(b"\n")
        return [line.decode() for line in lines]

    def kill(self) -> int:
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


def _start_process() -> Any:  # the types do not know that both pipes are open
    paths = [str(Path(d2_cxr.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "d2_cxr.preparation.image_worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment)


def run(tasks: Sequence[dict], jobs: int, limit_s: float = LIMIT_S) -> Iterator[tuple[dict, dict]]:
    """Yield (task, result) in the order in which tasks end.

    Args:
        tasks: dicts with path, png, rules and perhaps refused_png and member, see image_worker.py; other keys come
            back as they are.
        jobs: number of processes.
        limit_s: seconds that one task may take by the clock; a file below 1 MB may compute for a sixth of it, however
            busy the machine is.

    Returns:
        results of `image_worker.prepare_file`, or {"outcome": "quarantined", "reason": ...} of a task that took too
        long or ended its process.

    Raises:
        RuntimeError: a worker does not start.
        OSError: a PNG cannot be written, say because the disk is full.
    """
    waiting = list(reversed(tasks))
    selector = selectors.DefaultSelector()
    workers: set[_Worker] = set()
    try:
        while waiting or any(worker.task for worker in workers):
            busy = sum(worker.task is not None for worker in workers)
            while len(workers) < min(jobs, busy + len(waiting)):
                _start(workers, selector)
            yield from _step(workers, selector, waiting, limit_s)
    finally:
        for worker in workers:
            worker.kill()
        selector.close()


def _start(workers: set[_Worker], selector) -> None:
    worker = _Worker()
    workers.add(worker)
    selector.register(worker.process.stdout, selectors.EVENT_READ, worker)


def _step(workers: set[_Worker], selector, waiting: list[dict], limit_s: float) -> Iterator[tuple[dict, dict]]:
    """Wait for something to happen, and deal with it."""
    soonest = min((worker.deadline for worker in workers if worker.task or not worker.is_ready), default=0)
    for key, _ in selector.select(max(0, soonest - time.monotonic())):
        worker = key.data
        lines = worker.read()
        if lines is None:
            yield from _end(worker, workers, selector, None)
            continue
        for line in lines:
            if line == READY:
                worker.is_ready = True
            else:
                task, worker.task = worker.task, None
                result = json.loads(line)
                if result["outcome"] == CANNOT_WRITE:
                    raise OSError(
                        f"{task['png']} cannot be written: {result['reason']}; make room, then run "
                        "the same command to continue"
                    )
                yield task, result
        if worker.is_ready and worker.task is None and waiting:
            worker.give(waiting.pop(), limit_s)
    now = time.monotonic()
    for worker in [worker for worker in workers if worker.deadline <= now and (worker.task or not worker.is_ready)]:
        yield from _end(worker, workers, selector, limit_s)


def _end(worker: _Worker, workers: set[_Worker], selector, limit_s: float | None) -> Iterator[tuple[dict, dict]]:
    """Take a dead or late worker away; its task is quarantined."""
    selector.unregister(worker.process.stdout)
    workers.remove(worker)
    code = worker.process.wait() if limit_s is None else None
    worker.kill()
    if not worker.is_ready:
        raise RuntimeError(f"a preparation worker did not start (exit code {code}); see its message above")
    if worker.task is None:
        return
    if code is not None and code > 0:
        raise RuntimeError(f"a preparation worker failed on {worker.task['path']}; see its message above")
    yield worker.task, {"outcome": "quarantined", "reason": _reason(code, limit_s)}


def _reason(code: int | None, limit_s: float | None) -> str:
    if code is None:
        return f"no result after {limit_s:g} s"
    if code == -signal.SIGXCPU:
        return "no result within the CPU time that a file below 1 MB may take"
    return f"its decoder ended the process (signal {-code})"
