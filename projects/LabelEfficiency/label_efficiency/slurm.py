"""A study's stages as jobs of a cluster, by submitit."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import submitit


class SubmititWorkers:
    """The same `submit` on a cluster: every stage is a job. `cluster` is submitit's name: slurm, or local."""

    patience = 60.0  # seconds between two checks whether Slurm still knows a job without a result

    def __init__(self, cluster: str, folder: Path, jobs: int, threads: int, options: dict):
        """
        Args:
            folder: of the jobs' scripts, pickles and logs; seen by every node.
            jobs: at most so many at once.
            options: parameters of submitit's executor; without `timeout_min` a job may take a day.
        """
        try:
            import submitit
        except ImportError as error:
            raise ValueError('--cluster slurm needs submitit: pip install -e ".[slurm]"') from error
        self._executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
        defaults = {"name": "label_efficiency", "cpus_per_task": threads, "timeout_min": _A_DAY}
        self._executor.update_parameters(**{**defaults, **options})
        self._slots = threading.Semaphore(jobs)
        self._threads = threads
        self._running: set = set()

    def submit(self, function: Callable, /, *arguments: object) -> Future:
        """Run `function(*arguments)` as a job; the future holds what it returns or raises."""
        future: Future = Future()
        threading.Thread(target=self._follow, args=(future, function, arguments), daemon=True).start()
        return future

    def _follow(self, future: Future, function: Callable, arguments: tuple) -> None:
        with self._slots:
            try:
                found = self._result(self._start(function, arguments))
            except Exception as error:
                found = error
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)

    def _start(self, function: Callable, arguments: tuple) -> submitit.Job:
        try:
            return self._executor.submit(_submitted, self._threads, function, *arguments)
        except Exception as error:  # a partition, an account, a limit
            way_out = "change `resources: slurm:` in the study file"
            raise ValueError(f"{self._executor.cluster} accepts no job: {error}; {way_out}") from error

    def _result(self, job: submitit.Job) -> object:
        """Wait for a job's result; a user's mistake is returned as a value.

        Raises:
            ChildProcessError: the job ended without one.
        """
        from submitit.core.utils import UncompletedJobError

        self._running.add(job)
        try:
            asked, missed = time.time(), 0
            while not job.done():
                time.sleep(1)
                if time.time() - asked > self.patience:
                    asked, missed = time.time(), missed + 1 if _is_forgotten(self._executor.cluster, job.job_id) else 0
                if missed == 2:  # a result may come late through a network's file system
                    raise ChildProcessError(
                        f"job {job.job_id} ended without a result, perhaps for exceeding its memory or time; "
                        f"its output is {job.paths.stderr}"
                    )
            return job.result()
        except UncompletedJobError as error:
            raise ChildProcessError(str(error)) from error
        finally:
            self._running.discard(job)

    def shutdown(self, **_) -> None:
        """Cancel running jobs. Jobs of a killed process keep running; those of the next command wait for them."""
        for job in list(self._running):
            if not job.done():
                job.cancel()


_A_DAY = 24 * 60  # minutes


def _is_forgotten(cluster: str, job_id: str) -> bool:
    """Whether Slurm no longer knows a job.

    submitit asks Slurm's accounting; without accounting a killed job would be waited for forever.
    """
    if cluster != "slurm":
        return False
    listed = subprocess.run(["squeue", "--noheader", "-j", job_id, "-o", "%T"], capture_output=True, text=True)
    return not listed.stdout.strip() and (listed.returncode == 0 or "Invalid job id" in listed.stderr)


def _submitted(threads: int, function: Callable, *arguments: object) -> object:
    """Run in a job; return a user's mistake as a value, because a failed job's message is its whole traceback."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        return function(*arguments)
    except (ValueError, FileNotFoundError) as error:
        return error
