"""DICOM images to report to prediction, by the demo's own runner on a handful of phantoms."""

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from d2_cxr.projects.label_efficiency import schedule

from d2_cxr.datasets import builtin, set_folders

ROOT = Path(__file__).resolve().parents[1]


def script(path: str):
    """Import a script by its path; `tools` and `projects` are no packages."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Here:
    """A study's worker in this process, which has imported the stack; the slow tests start two and compare figures."""

    def __init__(self, jobs: int, threads: int):
        self.threads = threads

    def submit(self, work, *arguments) -> Future:
        future, threads = Future(), torch.get_num_threads()
        torch.set_num_threads(self.threads)
        future.set_result(work(*arguments))
        torch.set_num_threads(threads)
        return future

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        pass


@pytest.fixture(scope="module")
def study(tmp_path_factory, request):
    """The folder of a finished study."""
    patch = pytest.MonkeyPatch()
    request.addfinalizer(builtin.register_all)  # without the study's phantom_cxr
    request.addfinalizer(patch.undo)
    patch.setattr(set_folders, "FOLDERS", dict(set_folders.FOLDERS))
    patch.setattr(set_folders, "OWN", set(set_folders.OWN))
    patch.syspath_prepend(ROOT / "projects" / "LabelEfficiency")
    patch.chdir(ROOT)
    patch.setattr(schedule, "LocalWorkers", Here)
    patch.setattr(os, "cpu_count", lambda: 1)  # as many processes render images
    patch.setattr(sys, "argv", sys.argv)  # a worker sets another
    output = tmp_path_factory.mktemp("study")
    runner = script("projects/LabelEfficiency/run_study.py")
    command = ["--config-file", "projects/LabelEfficiency/test.yaml", "--output", str(output)]
    assert runner.main(command) == 0
    return output, lambda: runner.main(command)


def test_the_report_holds_every_planned_run(study):
    page = (study[0] / "report.html").read_text(encoding="utf-8")
    assert "planned runs are not there yet" not in page
    for heading in ("Table I", "Table II", "Figure 1", "Figure 2", "Figure 3", "Figure 4", "FROC", "Controls"):
        assert heading in page, heading


def test_run_folders_hold_what_the_formats_say(study):
    run = study[0] / "runs" / "simclr" / "50" / "seed0"
    for name in ("config.yaml", "run.json", "weights.json", "metrics.json", "model_final.pth"):
        assert (run / name).is_file(), name
    tested = run / "inference" / "phantom_cxr_test"
    assert (tested / "matches.npz").is_file()
    assert json.loads((tested / "evaluation.json").read_text())["metrics"]["mAP"]["value"] is not None
    selected = run / "val_selected" / "inference" / "phantom_cxr_test" / "evaluation.json"
    assert (run / "model_best.pth").is_file() == selected.is_file()
    assert selected.is_file()
    command = ["projects/LabelEfficiency/run_study.py", "--config-file", "projects/LabelEfficiency/test.yaml"]
    assert json.loads((run / "run.json").read_text())["command"][:3] == command
    groups = json.loads((run / "weights.json").read_text())["groups"]
    assert {row["origin"] for name, row in groups.items() if "bottom_up" in name} == {"file"}


def test_a_second_call_runs_nothing_again(study):
    output, again = study
    before = (output / "study.json").read_bytes()
    assert again() == 0
    assert (output / "study.json").read_bytes() == before


def test_the_detector_predicts_on_a_dicom_image_in_its_own_pixels(study, tmp_path):
    image = next((study[0] / "phantoms" / "dicom").glob("*.dicom"))
    weights = study[0] / "runs" / "random" / "50" / "seed0" / "model_final.pth"
    script("tools/predict.py").main(["--weights", str(weights), str(image), "--output", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "findings.json").read_text())
    images = found["images"] if isinstance(found, dict) else found
    assert images[0]["image_name"] == image.stem
    for finding in images[0]["findings"]:
        x_min, y_min, x_max, y_max = finding["box_xyxy"]
        assert 0 <= x_min < x_max <= images[0]["width"]
        assert 0 <= y_min < y_max <= images[0]["height"]


def start(output: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "projects/LabelEfficiency/run_study.py", *options]
    command += ["--config-file", "projects/LabelEfficiency/test.yaml", "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **quiet)


def kill_when(output: Path, reached, *options: str) -> None:
    """Start the study and kill it, as `kill -9` does, at the first moment at which `reached()` holds."""
    process = start(output, *options)
    until = time.time() + 120
    while process.poll() is None and not reached() and time.time() < until:
        time.sleep(0.05)
    process.kill()
    process.communicate()


def begun(output: Path, kind: str) -> bool:
    """Whether a stage of this kind is begun and not finished, by study.json."""
    path = output / "study.json"
    records = json.loads(path.read_text())["stages"] if path.is_file() else {}
    return any(name.startswith(kind) and record["state"] == "unfinished" for name, record in records.items())


def figures(output: Path) -> dict:
    """Every metric of every run."""
    found = {}
    for path in sorted(output.glob("runs/*/*/*/inference/phantom_cxr_test/evaluation.json")):
        found[str(path.relative_to(output))] = json.loads(path.read_text())["metrics"]
    return found


@pytest.mark.slow  # its branches alone: a stage, a training and a pretraining that were killed each have a fast test
def test_a_study_killed_twice_ends_in_the_same_figures(study, tmp_path):
    kill_when(tmp_path, lambda: begun(tmp_path, "pretrain"))
    kill_when(tmp_path, lambda: any(tmp_path.glob("runs/*/*/*/last_checkpoint")))
    assert begun(tmp_path, "train"), "the second kill came too late to interrupt a training"
    process = start(tmp_path)
    assert process.wait() == 0, process.communicate()[1][-2000:]
    assert figures(tmp_path) == figures(study[0])


@pytest.mark.slow
def test_a_study_killed_at_ten_moments_ends_in_the_same_figures(study, tmp_path):
    """FUZZ_KILLS sets another number."""
    moments, kills = random.Random(0), int(os.environ.get("FUZZ_KILLS", "10"))
    interrupted = 0
    for _ in range(kills):
        over = time.time() + moments.uniform(0.5, 8)
        kill_when(tmp_path, lambda over=over: time.time() > over)
        interrupted += not (tmp_path / "report.html").is_file()
    assert interrupted >= kills // 2, f"only {interrupted} kills came before the end"
    process = start(tmp_path)
    assert process.wait() == 0, process.communicate()[1][-2000:]
    assert figures(tmp_path) == figures(study[0])


@pytest.mark.slow
def test_a_study_by_jobs_of_submitit_ends_in_the_same_figures(study, tmp_path):
    pytest.importorskip("submitit")
    process = start(tmp_path, "--cluster", "submitit-local")
    assert process.wait() == 0, process.communicate()[1][-2000:]
    assert len(list((tmp_path / "logs" / "submitit").glob("*_submitted.pkl"))) >= 6
    card = json.loads((tmp_path / "runs" / "random" / "50" / "seed0" / "run.json").read_text())
    assert card["command"][:3] == ["projects/LabelEfficiency/run_study.py", "--cluster", "submitit-local"]
    assert figures(tmp_path) == figures(study[0])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, request):
    """SLURM_CONF of a Slurm that runs while this module's tests do; they are left out where there can be none."""
    pytest.importorskip("submitit")
    one_node_slurm = script("tests/one_node_slurm.py")
    if one_node_slurm.missing():
        pytest.skip(f"no Slurm: {one_node_slurm.missing()}")
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    with one_node_slurm.running(tmp_path_factory.mktemp("slurm")) as conf:
        patch.setenv("SLURM_CONF", str(conf))
        patch.setenv("PYTHONPATH", str(ROOT))
        yield conf


@pytest.mark.slow
def test_a_study_by_jobs_of_slurm_killed_once_ends_in_the_same_figures(study, slurm, tmp_path):
    kill_when(tmp_path, lambda: begun(tmp_path, "train"), "--cluster", "slurm")
    assert not (tmp_path / "report.html").is_file(), "the kill came too late"
    process = start(tmp_path, "--cluster", "slurm")
    assert process.wait() == 0, process.communicate()[1][-2000:]
    assert len(list((tmp_path / "logs" / "submitit").glob("*_submission.sh"))) >= 6
    assert figures(tmp_path) == figures(study[0])


@pytest.mark.slow
def test_a_job_of_slurm_that_dies_and_one_that_is_refused_are_told_in_one_line(study, slurm, tmp_path):
    from d2_cxr.projects.label_efficiency import slurm as slurm_jobs  # importable by the fixture `study`

    workers = slurm_jobs.SubmititWorkers("slurm", tmp_path / "jobs", 2, 1, {})
    workers.patience = 2.0
    with pytest.raises(ChildProcessError, match=r"^job \d+ ended without a result, .*; its output is .*_0_log.err$"):
        workers.submit(os.abort).result(timeout=120)
    wrong = slurm_jobs.SubmititWorkers("slurm", tmp_path / "refused", 2, 1, {"slurm_partition": "nowhere"})
    with pytest.raises(ValueError, match=r"^slurm accepts no job: .*partition(.|\n)*resources: slurm:"):
        wrong.submit(os.getcwd).result(timeout=60)
