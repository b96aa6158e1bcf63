"""Run a study's stages: several processes side by side on this machine, or jobs of a cluster (slurm.py).

The main process never imports torch. It starts fresh interpreters ("spawn"), because forking after torch has started
threads hangs. A worker keeps its imports (ten seconds) and runs one stage after another.
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
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from d2_cxr.projects.label_efficiency import cost, stage_log
from d2_cxr.projects.label_efficiency.plan import Stage, Study
from d2_cxr.projects.label_efficiency.stage_kinds import KINDS, run_stage
from d2_cxr.projects.label_efficiency.study_state import StudyState

from d2_cxr.progress import Bar

logger = logging.getLogger(__name__)
Running = dict[Future, tuple[Stage, float]]  # what was submitted -> stage and when it began


def run(study: Study, state: StudyState, workers: cost.Workers, costs: dict[str, float], jobs: int = 2) -> None:
    """Run every stage that is not finished, `jobs` side by side, each as soon as the stages that it needs are finished.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: of the first stage that failed, after the other running stages
        have ended.
    """
    pending = [stage for stage in study.stages if stage.id in state.to_do()]
    running: Running = {}
    costs = {stage.id: max(costs.get(stage.id, 0.0), 1.0) for stage in pending}  # a stage may have taken no time before
    failure: BaseException | None = None
    with Bar(total=round(sum(costs.values())), bar_format=_BAR, mininterval=1, miniters=0) as bar:
        while (pending and not failure) or running:
            if not failure:
                pending = _start_ready(pending, running, study, state, workers, bar, jobs)
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                failure = _collect(future, running.pop(future), state) or failure
                bar.total = _update(costs, study, state, pending)
            _show(bar, study, running, pending, costs)
    if failure:
        raise failure


def _update(costs: dict[str, float], study: Study, state: StudyState, pending: list[Stage]) -> int:
    """Take what finished stages took as the cost of those to come; return the cost of all of this run."""
    for stage in pending:
        costs[stage.id] = cost.measured_seconds(study, state, stage) or costs[stage.id]
    return round(sum(costs.values()))


_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}"


def _start_ready(
    pending: list[Stage], running: Running, study: Study, state: StudyState, workers: cost.Workers, bar: Bar, jobs: int
) -> list[Stage]:
    """Start the stages that can start; return those that must wait. Stages of the main process have ended by then."""
    waiting_for = {stage.id for stage in pending} | {stage.id for stage, _ in running.values()}
    later = []
    for stage in pending:
        if waiting_for & set(stage.needs) or len(running) >= jobs:
            later.append(stage)
            continue
        state.start(stage)
        began = time.time()
        if KINDS[stage.kind].in_main_process:
            bar.set_description_str(stage.id)
            future = _run_here(stage, study)
        else:
            future = workers.submit(run_in_worker, {**stage.to_dict(), "command": study.command}, str(study.output))
        running[future] = (stage, began)
    return later


def _run_here(stage: Stage, study: Study) -> Future:
    future: Future = Future()
    try:
        future.set_result(run_stage(stage.to_dict(), str(study.output)))
    except Exception as error:  # recorded and raised again, as a worker's is
        future.set_exception(error)
    return future


def _collect(future: Future, what: tuple[Stage, float], state: StudyState) -> BaseException | None:
    stage, began = what
    error = future.exception()
    if error is None:
        result = future.result()
        state.finish(stage, result, time.time() - began)
        return None
    kind = type(error) if isinstance(error, (ValueError, FileNotFoundError, ChildProcessError)) else RuntimeError
    failure = kind(f"stage {stage.id} failed: {error}; its log is {stage_log.log_path(state.study.output, stage.id)}")
    failure.__cause__ = error
    return failure


def _show(bar: Bar, study: Study, running: Running, pending: list[Stage], costs: dict[str, float]) -> None:
    """Move the bar to the estimated seconds that are done; running stages count by their progress."""
    left, names = sum(costs[stage.id] for stage in pending), []
    for stage, began in running.values():
        steps = KINDS[stage.kind].progress(study.output, stage.to_dict())
        names.append(stage.id + (f" {steps[0]}/{steps[1]}" if steps else ""))
        share = steps[0] / steps[1] if steps else (time.time() - began) / costs[stage.id]
        left += costs[stage.id] * (1 - min(share, 0.95))  # its evaluation follows
    bar.n = max(bar.n, round(bar.total - left))
    done = len(study.stages) - len(pending) - len(running)
    what = f"{done}/{len(study.stages)} stages; {', '.join(names) or 'between stages'}"
    bar.set_description_str(what, refresh=False)
    bar.update(0)


def run_in_worker(stage: dict, study_dir: str) -> dict:
    """Run one stage with its output in a log file; a second process with the same stage waits, then raises ValueError.

    A worker of a killed command ends within a second. A job of a cluster keeps running, so its stage is waited for.
    """
    patience = float("inf") if "SUBMITIT_EXECUTOR" in os.environ else 60
    lock = Path(study_dir) / "locks" / f"{stage['id'].replace('/', '_')}.lock"
    if stage.get("command"):
        sys.argv = list(stage["command"])  # run.json records it as the command
    log = stage_log.log_path(Path(study_dir), stage["id"])
    with _alone(lock, patience, f"stage {stage['id']}"), stage_log.output_to(log):
        return run_stage(stage, study_dir)


class LocalWorkers(ProcessPoolExecutor):
    """Worker processes of this machine, its GPUs shared among them; they end with this process.

    `shutdown(wait=False)` ends them at once. An executor would let them finish their stages, which can take hours,
    while the study is already free for the next command.
    """

    def __init__(self, jobs: int, threads: int):
        context = multiprocessing.get_context("spawn")
        self._end = context.Value("b", 0)
        begin = (os.getpid(), self._end, threads, jobs, context.Value("i", 0))
        super().__init__(jobs, mp_context=context, initializer=_begin_worker, initargs=begin)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: when they are done, or at once."""
        self._end.value = not wait
        super().shutdown(wait, cancel_futures=cancel_futures)


@contextlib.contextmanager
def only_process(study_dir: Path):
    """Hold a study's folder for this process.

    Raises:
        ValueError: another process is running the same study.
    """
    with _alone(study_dir / "locks" / "study.lock", 0, f"the study in {study_dir}"):
        yield


@contextlib.contextmanager
def _alone(path: Path, patience: float, what: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        until = time.time() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.time() >= until:
                    raise ValueError(f"another process is running {what}; wait for it or stop it") from error
                time.sleep(0.2)
        yield


def _begin_worker(parent: int, end: Synchronized, threads: int, jobs: int, counter: Synchronized) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    gpus = _visible_gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus_of_worker(number, jobs, gpus))  # read at a GPU's first use
    threading.Thread(target=_end_with, args=(parent, end), daemon=True).start()


def gpus_of_worker(number: int, jobs: int, gpus: list[str]) -> list[str]:
    """Return the GPUs of one of `jobs` workers, numbered from 0. A single worker gets all of them."""
    return gpus[number % len(gpus) :: jobs]


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        import torch
    except ModuleNotFoundError:  # the first stage reports it
        return []
    return [str(index) for index in range(torch.cuda.device_count())]


def _end_with(parent: int, end: Synchronized) -> None:
    """End with the parent: workers of a killed command would wait forever, or write together with the next one's."""
    while os.getppid() == parent and not end.value:
        time.sleep(0.5)
    os._exit(1)
