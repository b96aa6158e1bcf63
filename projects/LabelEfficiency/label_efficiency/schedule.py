"""Run a study's stages: several processes side by side on this machine, or jobs of a cluster by submitit.

The process that holds the plan never imports torch. It starts fresh interpreters ("spawn"): forking after torch has
started threads hangs. A worker keeps its imports (ten seconds) and takes one stage after another.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from label_efficiency import stages
from label_efficiency.ledger import Ledger
from label_efficiency.plan import Stage, Study

logger = logging.getLogger(__name__)

# Stages that use several processes by themselves or take a moment: done by the process that holds the plan.
_HERE = {"phantoms", "prepare", "statistics"}


def run(study: Study, ledger: Ledger, workers, costs: dict[str, float], jobs: int = 2) -> None:
    """Run everything that is not finished, `jobs` side by side, each stage as soon as what it needs is there.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: of the first stage that failed; stages that were running beside it
            are finished and recorded first.
    """
    pending = [stage for stage in study.stages if stage.id in ledger.to_do()]
    running: dict[Future, tuple[Stage, float]] = {}
    total = sum(costs.get(stage.id, 1.0) for stage in pending)
    failure: BaseException | None = None
    interval = 1 if sys.stderr.isatty() else 60
    with tqdm(total=round(total), bar_format=_BAR, mininterval=interval, maxinterval=interval) as bar:
        while (pending and not failure) or running:
            if not failure:
                pending = _start_ready(pending, running, study, ledger, workers, bar, jobs)
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                failure = _collect(future, running.pop(future), ledger, bar, costs) or failure
            bar.set_description_str(_description(study, running, pending), refresh=False)
            bar.update(0)
    if failure:
        raise failure


_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}"


def _start_ready(pending, running, study, ledger, workers, bar, jobs: int) -> list[Stage]:
    """Start what can start; return what must wait. A stage of this process is over when this returns."""
    waiting_for = {stage.id for stage in pending} | {stage.id for stage, _ in running.values()}
    later = []
    for stage in pending:
        if waiting_for & set(stage.needs) or len(running) >= jobs:
            later.append(stage)
            continue
        ledger.start(stage)
        began = time.time()
        if stage.kind in _HERE:
            bar.set_description_str(stage.id)
            future = _run_here(stage, study)
        else:
            future = workers.submit(run_in_worker, {**stage.to_dict(), "command": study.command}, str(study.output))
        running[future] = (stage, began)
    return later


def _run_here(stage: Stage, study: Study) -> Future:
    future: Future = Future()
    try:
        future.set_result(stages.run_stage(stage.to_dict(), str(study.output)))
    except Exception as error:  # recorded and raised again like that of a worker
        future.set_exception(error)
    return future


def _collect(future: Future, what: tuple[Stage, float], ledger: Ledger, bar, costs) -> BaseException | None:
    stage, began = what
    error = future.exception()
    if error is None:
        result = future.result()
        ledger.finish(stage, result, time.time() - began)
        bar.update(round(costs.get(stage.id, 1.0)))
        return None
    kind = type(error) if isinstance(error, (ValueError, FileNotFoundError)) else RuntimeError
    failure = kind(f"stage {stage.id} failed: {error}; its log is {stages.log_path(ledger.study.output, stage.id)}")
    failure.__cause__ = error
    return failure


def _description(study: Study, running, pending) -> str:
    done = len(study.stages) - len(pending) - len(running)
    names = ", ".join(stages.progress(study.output, stage.to_dict()) for stage, _ in running.values())
    return f"{done}/{len(study.stages)} stages; {names or 'between stages'}"


def run_in_worker(stage: dict, study_dir: str) -> dict:
    """Run one stage with its output in a log file, alone: a second process on the same stage waits, then raises.

    A worker of a start that was killed ends within a second; a job of a cluster goes on, and is waited for.
    """
    patience = float("inf") if "SUBMITIT_EXECUTOR" in os.environ else 60
    lock = Path(study_dir) / "locks" / f"{stage['id'].replace('/', '_')}.lock"
    if stage.get("command"):
        sys.argv = list(stage["command"])  # what run.json records as command; this process has none of its own
    with _alone(lock, patience=patience), stages.output_to(stages.log_path(Path(study_dir), stage["id"])):
        return stages.run_stage(stage, study_dir)


def local_workers(jobs: int, threads: int) -> ProcessPoolExecutor:
    """Worker processes of this machine; they end with the process that started them."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(os.getpid(), threads))


class SubmititWorkers:
    """The same `submit` on a cluster: every stage is a job. `cluster` is submitit's name: slurm, or local."""

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
        _show_jobs_the_project()
        self._executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
        self._executor.update_parameters(**{"cpus_per_task": threads, "timeout_min": _A_DAY, **options})
        self._slots = threading.Semaphore(jobs)
        self._threads = threads
        self._running: set = set()

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        threading.Thread(target=self._follow, args=(future, function, arguments), daemon=True).start()
        return future

    def _follow(self, future: Future, function, arguments) -> None:
        with self._slots:
            try:
                job = self._executor.submit(_submitted, self._threads, function, *arguments)
                self._running.add(job)
                found = job.result()
                self._running.discard(job)
            except BaseException as error:  # of submitit or of the cluster
                found = RuntimeError(str(error))
        if isinstance(found, BaseException):
            future.set_exception(found)
        else:
            future.set_result(found)

    def shutdown(self, **_) -> None:
        """Cancel what still runs. Jobs of a process that was killed go on; those of the next start wait for them."""
        for job in list(self._running):
            if not job.done():
                job.cancel()


_A_DAY = 24 * 60  # minutes


def _show_jobs_the_project() -> None:
    """Let jobs, which inherit the environment, import this package: it lies beside the script and is not installed."""
    project = str(Path(__file__).resolve().parents[1])
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != project]
    os.environ["PYTHONPATH"] = os.pathsep.join([project, *known])


def _submitted(threads: int, function, *arguments):
    """Run in a job; a user's mistake comes back as a value, because a job that fails has its traceback as message."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        return function(*arguments)
    except (ValueError, FileNotFoundError) as error:
        return error


@contextlib.contextmanager
def only_process(study_dir: Path):
    """Hold a study's folder for this process.

    Raises:
        ValueError: another process runs the same study now.
    """
    try:
        with _alone(study_dir / "locks" / "study.lock", patience=0):
            yield
    except BlockingIOError as error:
        raise ValueError(f"another process is running the study in {study_dir}; wait for it or stop it") from error


@contextlib.contextmanager
def _alone(path: Path, patience: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        until = time.time() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.time() >= until:
                    raise
                time.sleep(0.2)
        yield


def _begin_worker(parent: int, threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A killed parent leaves its workers waiting for ever, or writing beside the next start: end with it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
