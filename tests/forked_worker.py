"""A preparation worker that is forked from a process with its imports, not started anew: half a second less each.

Only the start differs: the worker is a process of its own, with the same code between the same two pipes, and can be
ended alone. tests/preparation/test_workers.py and tests/test_flow.py start real ones.
"""

import multiprocessing
import os
import sys
from multiprocessing import reduction

import pytest

from d2_cxr.preparation import workers

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["d2_cxr.preparation.image_worker", "pydicom.pixels", "PIL.PngImagePlugin"])


@pytest.fixture(autouse=True)
def forked_workers(request, monkeypatch):
    """Replace the start of a worker where this is imported; a test that replaces the interpreter starts that one."""
    start, interpreter = workers._start_process, sys.executable
    if request.path.name != "test_workers.py":
        monkeypatch.setattr(
            workers, "_start_process", lambda: ForkedWorker() if sys.executable == interpreter else start()
        )


class ForkedWorker:
    """What workers.py uses of subprocess.Popen."""

    def __init__(self):
        tasks, ours_in = os.pipe()
        ours_out, answers = os.pipe()
        self._process = _context.Process(target=_work, args=(_Pipes(tasks, answers),))
        self._process.start()
        os.close(tasks)
        os.close(answers)
        self.stdin, self.stdout = open(ours_in, "wb", buffering=0), open(ours_out, "rb", buffering=0)  # noqa: SIM115
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode


class _Pipes:
    """Two file descriptors on their way into another process."""

    def __init__(self, tasks, answers):
        self.tasks, self.answers = tasks, answers

    def __getstate__(self):
        return reduction.DupFd(self.tasks), reduction.DupFd(self.answers)

    def __setstate__(self, state):
        self.tasks, self.answers = (duplicate.detach() for duplicate in state)


def _work(pipes: _Pipes) -> None:
    for source, target in ((pipes.tasks, 0), (pipes.answers, 1)):
        os.dup2(source, target)
        os.close(source)
    from d2_cxr.preparation import image_worker

    sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
    image_worker.main()
    os._exit(0)
