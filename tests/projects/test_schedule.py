"""Order, records, failures and logs of a study's stages, with stages that do nothing but write a file."""

import dataclasses
import multiprocessing.connection
import operator
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from d2_cxr.projects.label_efficiency import schedule, slurm, stage_kinds
from d2_cxr.projects.label_efficiency.plan import Stage, Study
from d2_cxr.projects.label_efficiency.study_state import FINISHED, StudyState


class Workers:
    """Runs what is submitted in threads of this process, without log files."""

    def __init__(self):
        self._pool, self.ran = ThreadPoolExecutor(2), []

    def submit(self, function, stage: dict, study_dir: str) -> Future:
        self.ran.append(stage["id"])
        return self._pool.submit(stage_kinds.run_stage, stage, study_dir)


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    def write(stage: dict, study_dir: Path) -> dict:
        if stage["settings"].get("fails"):
            raise ValueError("weights are broken")
        (study_dir / stage["results"][0]).write_text("done")
        return {"made": stage["id"]}

    for kind in ("pretrain", "train", "prepare"):
        monkeypatch.setitem(stage_kinds.KINDS, kind, dataclasses.replace(stage_kinds.KINDS[kind], run=write))
    made = (
        Stage("prepare", "prepare", {}, "prepared", ("prepared",)),
        Stage("pretrain", "pretrain", {}, "pretrain", ("pretrain",), ("prepare",)),
        Stage("train/a", "train", {}, "a", ("a",), ("prepare",)),
        Stage("train/b", "train", {}, "b", ("b",), ("pretrain",)),
    )
    return Study(tmp_path / "s.yaml", tmp_path, {"study": "s"}, made)


def test_stages_run_once_what_they_need_is_there(study):
    state, workers = StudyState(study), Workers()
    schedule.run(study, state, workers, {})
    assert all(state.state(stage) == FINISHED for stage in study.stages)
    assert workers.ran.index("train/b") > workers.ran.index("pretrain")
    assert "prepare" not in workers.ran  # it brings its own processes


def test_a_second_run_does_nothing(study):
    schedule.run(study, StudyState(study), Workers(), {})
    workers = Workers()
    schedule.run(study, StudyState(study), workers, {})
    assert workers.ran == []


def test_stages_that_took_no_time_before_are_shown_too(study, monkeypatch):
    """A run that another arm has trained is linked in 0.0 s, and the others of its kind are expected to be."""
    monkeypatch.setattr(schedule.cost, "measured_seconds", lambda *_: 0.0)
    state = StudyState(study)
    schedule.run(study, state, Workers(), {stage.id: 0.0 for stage in study.stages})
    assert state.to_do() == set()


def test_a_failing_stage_is_named_and_what_runs_beside_it_is_kept(study):
    broken = Stage("pretrain", "pretrain", {"fails": True}, "pretrain", ("pretrain",), ("prepare",))
    study = Study(study.path, study.output, study.settings, (study.stages[0], broken, *study.stages[2:]))
    state = StudyState(study)
    with pytest.raises(ValueError, match="stage pretrain failed: weights are broken; its log is"):
        schedule.run(study, state, Workers(), {})
    assert state.state(study.stages[2]) == FINISHED
    assert state.to_do() == {"pretrain", "train/b"}


def test_jobs_by_submitit_give_results_and_a_users_mistake_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", "")  # restored afterwards; jobs find the project by it
    workers = slurm.SubmititWorkers("local", tmp_path / "jobs", 2, 1, {})
    right, wrong = workers.submit(operator.add, 40, 2), workers.submit(int, "many")
    assert right.result(timeout=60) == 42
    with pytest.raises(ValueError, match=r"^invalid literal for int\(\) with base 10: 'many'$"):
        wrong.result(timeout=60)
    workers.shutdown()


def test_a_training_says_how_far_it_is_by_the_length_that_its_own_run_has(tmp_path):
    stage = {"id": "train/a", "kind": "train", "output": "a", "settings": {"options": {"SOLVER.MAX_ITER": 600}}}
    assert stage_kinds.training_progress(tmp_path, stage) is None
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text("SOLVER: {MAX_ITER: 1200}\n")  # longer than what is the same for all
    (tmp_path / "a" / "metrics.json").write_text('{"iteration": 19}\n{"iteration": 299}\n')
    assert stage_kinds.training_progress(tmp_path, stage) == (300, 1200)
    (tmp_path / "a" / "metrics.json").write_text('{"iteration": 19}\n{"iterat')
    assert stage_kinds.training_progress(tmp_path, stage) is None


def test_the_bar_counts_running_stages_by_how_far_they_are(study, monkeypatch):
    said, bar = [], SimpleNamespace(total=400, n=0, update=lambda _: None)
    bar.set_description_str = lambda text, refresh: said.append(text)
    costs = {"prepare": 100.0, "pretrain": 100.0, "train/a": 100.0, "train/b": 100.0}
    _, pretrain, trains, waits = study.stages
    now = time.time()
    half_way = dataclasses.replace(stage_kinds.KINDS["train"], progress=lambda study_dir, stage: (30, 60))
    monkeypatch.setitem(stage_kinds.KINDS, "train", half_way)
    schedule._show(bar, study, {1: (trains, now), 2: (pretrain, now - 25)}, [waits], costs)
    assert bar.n == 100 + 50 + 25
    assert said == ["1/4 stages; train/a 30/60, pretrain"]
    schedule._show(bar, study, {2: (pretrain, now - 1e4)}, [waits], costs)
    assert bar.n == 200 + 95, "a stage that takes longer than was thought is not over"


@pytest.mark.parametrize(
    "jobs, gpus, shared",
    [
        (1, ["0", "1", "2"], [["0", "1", "2"]]),
        (2, ["0"], [["0"], ["0"]]),
        (2, ["4", "5"], [["4"], ["5"]]),
        (2, ["0", "1", "2", "3"], [["0", "2"], ["1", "3"]]),
        (3, ["0", "1"], [["0"], ["1"], ["0"]]),
    ],
)
def test_workers_of_a_machine_share_its_gpus(jobs, gpus, shared):
    assert [schedule.gpus_of_worker(number, jobs, gpus) for number in range(jobs)] == shared


def test_a_worker_is_told_its_gpus_before_it_works(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    workers = schedule.LocalWorkers(2, 1)
    asked = [workers.submit(os.getenv, "CUDA_VISIBLE_DEVICES") for _ in range(4)]
    assert {future.result(timeout=300) for future in asked} <= {"6", "7"}
    workers.shutdown()


def test_workers_that_are_not_waited_for_end_in_the_middle_of_a_stage():
    """The folder of an interrupted study is free at once, so nothing may write there any more."""
    workers = schedule.LocalWorkers(1, 1)
    running = workers.submit(time.sleep, 600)
    while not running.running():
        time.sleep(0.05)
    ends = [process.sentinel for process in workers._processes.values()]
    workers.shutdown(wait=False, cancel_futures=True)
    # Not by exit codes: the executor's own thread may have read them.
    assert multiprocessing.connection.wait(ends, timeout=60) == ends


def test_a_stage_that_another_process_runs_is_waited_for_and_then_named(tmp_path):
    path = tmp_path / "locks" / "train_a.lock"
    refused = pytest.raises(ValueError, match=r"^another process is running stage train/a; wait for it or stop it$")
    with schedule._alone(path, 0, "stage train/a"), refused, schedule._alone(path, 0.3, "stage train/a"):
        pass


def test_two_processes_do_not_run_one_study(tmp_path):
    refused = pytest.raises(ValueError, match="another process is running the study")
    with schedule.only_process(tmp_path), refused, schedule.only_process(tmp_path):
        pass
    with schedule.only_process(tmp_path):
        pass
