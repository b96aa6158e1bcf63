"""How time and memory grow with the amount of work: preparation, near duplicates, label statistics, report, planning.

    python tools/benchmark.py growth planning
    python tools/benchmark.py growth label_statistics --csv vinbigdata-train.csv.gz
    python tools/benchmark.py growth near_duplicates --sizes 1000 4000 15000

Every size is measured in a separate process, so that its memory peak is its own; what Python and the imports use
is given as well. `times` compares each size with the one before: linear growth takes as many times the processor's
seconds, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import _record

from d2_cxr import artifacts

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "preparation": [50, 200, 800],  # images
    "near_duplicates": [1000, 4000, 15000],  # images
    "label_statistics": [1, 4, 16],  # times the table
    "report": [2, 4, 8],  # seeds of a study with three runs a seed
    "planning": [250, 500, 1000],  # stages
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("growth", __doc__)
    parser.add_argument("work", choices=list(SIZES), help="what to measure")
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="sizes to measure, ascending (default: those of the stage)"
    )
    parser.add_argument("--csv", type=Path, help="table of annotations, for label_statistics")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.work == "label_statistics" and not (args.csv and args.csv.is_file()):
        raise ValueError(f"label_statistics needs --csv FILE, a table of annotations, not {args.csv}")
    rows = [measure(args.work, size, args.csv) for size in args.sizes or SIZES[args.work]]
    for before, row in itertools.pairwise(rows):
        row["times"] = {key: round(row[key] / before[key], 2) for key in ("size", "cpu_seconds")}
    return _record.finish("growth", {"work": args.work, "rows": rows}, argv, args.json)


def measure(work: str, size: int, csv: Path | None = None) -> dict:
    """Return seconds and peak memory (MB) of a size of some work, run in a separate process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(work, size, csv, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise ChildProcessError(f"{work} of size {size} ended without a result; its message is above") from None
    finally:
        process.join()


def _measure(work: str, size: int, csv: Path | None, answer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = make(work, size, Path(folder), csv)
        before = _peak_mb()
        start, start_cpu = time.perf_counter(), _cpu_seconds()
        run()
        row = {"size": size, "seconds": time.perf_counter() - start, "cpu_seconds": _cpu_seconds() - start_cpu}
        answer.send({**row, "memory_mb": _peak_mb(), "memory_before_mb": before})


def _cpu_seconds() -> float:
    """Of this process, its threads and its ended workers; other work on the machine hardly changes them."""
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def make(work: str, size: int, folder: Path, csv: Path | None = None) -> Callable[[], object]:
    """Make the input of some work of this size in an empty folder; return a function that does the work."""
    kinds = {"preparation": preparation, "near_duplicates": near_duplicates, "report": report, "planning": planning}
    if work == "label_statistics":
        return label_statistics(size, folder, csv)
    return kinds[work](size, folder)


def preparation(size: int, folder: Path) -> Callable[[], object]:
    """Phantoms of 256 px to 128 px, in this process and one worker, near duplicates included."""
    from d2_cxr.projects.phantom_cxr.make import make_phantoms

    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.preparation.options import PrepareOptions
    from d2_cxr.preparation.prepare import prepare

    make_phantoms(folder / "in", size, size=256, seed=5, progress=False)
    tables = {"annotations": folder / "in" / "train.csv", "patients": folder / "in" / "patients.csv"}
    how = {"name": "own", "preprocess": Preprocess(size=128), "jobs": 1, "progress": False}
    options = PrepareOptions(folder / "in" / "dicom", folder / "out", **tables, **how)
    return lambda: prepare(options)


def near_duplicates(size: int, _folder: Path) -> Callable[[], object]:
    """Smooth random images with noise; every hundredth is another one encoded anew."""
    import cv2
    import numpy as np

    from d2_cxr.audit import near_duplicates

    rng = np.random.default_rng(0)
    small = np.empty((size, 96, 96), np.uint8)
    for number in range(size):
        coarse = cv2.resize(rng.random((12, 12), np.float32), (96, 96), interpolation=cv2.INTER_CUBIC)
        small[number] = (200 * coarse + rng.normal(0, 8, (96, 96))).clip(0, 255)
        if number % 100 == 99:
            small[number] = cv2.GaussianBlur(small[number - 50], (0, 0), 0.5)
    return lambda: near_duplicates.find_near_duplicates(small)


def label_statistics(size: int, folder: Path, csv: Path) -> Callable[[], object]:
    """The table so many times, its images under other names."""
    import pandas as pd

    from d2_cxr.audit.label_report import report_labels
    from d2_cxr.labels.annotations import read_annotations

    table = pd.read_csv(csv, dtype=str)
    copies = [table.assign(image_id=table["image_id"] + f"_{number}" * (number > 0)) for number in range(size)]
    path = folder / "labels.csv"
    pd.concat(copies).to_csv(path, index=False)
    return lambda: report_labels(read_annotations(path), split="stratified", seed=1)


def report(size: int, folder: Path) -> Callable[[], object]:
    """A report with 100 resamples on so many runs of 60 images, each with its own results."""
    import numpy as np
    from benchmarks.evaluate import simulate
    from d2_cxr.projects.label_efficiency.report.build import build_report

    from d2_cxr.evaluation.evaluate import evaluate

    truth, results, _ = simulate(60, 4, 20)
    study = _study(folder, size)
    finish(study)
    for number, stage in enumerate(study.stages):
        if stage.kind in ("train", "prior_box"):
            kept = np.random.default_rng(number).random(len(results)) < 0.8
            found = [row for row, keep in zip(results, kept, strict=True) if keep]
            test = stage.settings["test"]
            evaluate(truth, found, resamples=0, dataset=test).write(folder / stage.output / "inference" / test)
            artifacts.write_json(folder / stage.output / "run.json", {"command": "", "seed": 0})
    (folder / "data" / "statistics.json").unlink(missing_ok=True)
    for path in folder.glob("tuning/*.json"):
        path.unlink()
    return lambda: build_report(folder, resamples=100)


def planning(size: int, folder: Path) -> Callable[[], object]:
    """Read a study of so many stages, and find what is left to do where all are finished."""
    from d2_cxr.projects.label_efficiency.study_state import StudyState

    num_seeds = max(1, round(size / 7))  # a seed of it has seven stages
    finish(_study(folder, num_seeds))

    def run() -> None:
        if StudyState(_study(folder, num_seeds)).to_do():
            raise ValueError("stages that were recorded as finished count as unfinished")

    return run


def _study(folder: Path, num_seeds: int):
    from d2_cxr.projects.label_efficiency.plan import read_study

    path = ROOT / "projects" / "LabelEfficiency" / "test.yaml"
    return read_study(path, folder, [f"seeds={list(range(num_seeds))}"])


def finish(study) -> None:
    """Write a study.json in which every stage is finished, and an empty file for each of its results."""
    from d2_cxr.projects.label_efficiency.study_state import StudyState

    state = StudyState(study)
    write, state.write = state.write, lambda: None  # once, not at each of so many stages
    for stage in study.stages:
        state.start(stage)
        for name in stage.results:
            artifacts.write_text(study.output / name, "")
        state.finish(stage, {}, 1.0)
    write()
