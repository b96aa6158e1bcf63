"""A study's folder to plain values: the plan, every run with its cards and evaluation, the figures' data.

Only files of docs/formats.md, section 3, are read. A planned run that is missing is a gap, not an error.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path

from d2_cxr.projects.label_efficiency.study_state import read_study_json

from d2_cxr.artifacts import read_json
from d2_cxr.evaluation.evaluate import read_evaluation
from d2_cxr.evaluation.matching import Matches

MISTAKES = "mistakes.html"  # page in a run's folder
VAL_SELECTED = "val_selected"  # folder in a run's, with the evaluation of the weights that were best on validation


@dataclass(frozen=True)
class Run:
    """One planned run folder; `evaluation` and the cards are None until it exists."""

    arm: str
    label_fraction: int
    seed: int
    folder: Path
    test: str
    evaluation: dict | None = None
    card: dict | None = None  # run.json
    weights: dict | None = None  # weights.json
    record: dict = field(default_factory=dict)  # its stage in study.json

    @property
    def done(self) -> bool:
        """Whether the run is finished and evaluated."""
        return self.evaluation is not None

    @property
    def name(self) -> str:
        """The run in words."""
        return f"{self.arm} {self.label_fraction} % seed {self.seed}"

    def val_selected(self) -> Run:
        """Return the same run with its weights of the best validation; a gap if they were not tested."""
        folder = self.folder / VAL_SELECTED
        path = folder / "inference" / self.test / "evaluation.json"
        return replace(self, folder=folder, evaluation=_evaluation_of(path) if self.done else None)

    @functools.cached_property
    def matches(self) -> Matches:
        """The run's matches with the truth, read on first use."""
        return Matches.load(self.folder / "inference" / self.test / "matches.npz")


@dataclass(frozen=True)
class StudyResults:
    """Everything that the report shows."""

    folder: Path
    settings: dict  # the study file
    plan: list[dict]
    records: dict[str, dict]
    runs: tuple[Run, ...]  # trained arms
    prior_box: tuple[Run, ...]  # prior-box baseline, one for each split
    statistics: dict | None  # data/statistics.json
    pretraining: dict[str, dict] = field(default_factory=dict)  # "simclr/seed0" -> its pretraining.json
    tuned: dict[str, dict] = field(default_factory=dict)  # arm -> tuning/<arm>.json, where a value was tuned for it

    @property
    def endpoint(self) -> dict:
        """The primary endpoint that the study file fixes beforehand; {} without one."""
        return self.settings.get("primary_endpoint", {})

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms in the order of the plan."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    @property
    def label_fractions(self) -> tuple[int, ...]:
        """Label fractions of the runs in percent, ascending."""
        return tuple(sorted({run.label_fraction for run in self.runs}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs, ascending."""
        return tuple(sorted({run.seed for run in self.runs}))

    def select(self, arm: str, label_fraction: int | None = None) -> list[Run]:
        """Return the finished runs of an arm, at one label fraction or at all."""
        return [
            run for run in self.runs if run.done and run.arm == arm and label_fraction in (None, run.label_fraction)
        ]

    def val_selected(self) -> StudyResults | None:
        """Return the study with its runs' weights of the best validation; None if the study does not ask for it."""
        if not (self.settings.get("evaluation") or {}).get("val_selected"):
            return None
        return replace(self, runs=tuple(run.val_selected() for run in self.runs))

    def prior_box_for(self, run: Run) -> Run | None:
        """Return the prior-box baseline on the same test images."""
        return next((other for other in self.prior_box if other.done and other.test == run.test), None)


def read_results(study_dir: str | Path) -> StudyResults:
    """Read a study's folder.

    Raises:
        FileNotFoundError: it holds no study.json.
        ValueError: study.json is of another kind.
    """
    folder = Path(study_dir)
    path = folder / "study.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no study.json; give the folder that a study was run in")
    content = read_study_json(path)
    runs = [_read_run(folder, stage, content["stages"].get(stage["id"], {})) for stage in content["plan"]]
    runs = [run for run in runs if run]
    statistics = folder / "data" / "statistics.json"
    return StudyResults(
        folder=folder,
        settings=content["study"],
        plan=content["plan"],
        records=content["stages"],
        runs=tuple(run for run in runs if run.arm != "prior_box"),
        prior_box=tuple(run for run in runs if run.arm == "prior_box"),
        statistics=read_json(statistics) if statistics.is_file() else None,
        pretraining={
            path.parent.relative_to(folder / "pretraining").as_posix(): read_json(path)
            for path in sorted((folder / "pretraining").rglob("pretraining.json"))
        },
        tuned={path.stem: read_json(path) for path in sorted((folder / "tuning").glob("*.json"))},
    )


def _read_run(folder: Path, stage: dict, record: dict) -> Run | None:
    """Read the run folder of a stage of the plan; None for stages that are no runs."""
    if stage["kind"] not in ("train", "same_run", "prior_box"):
        return None
    _, arm, label_fraction, seed = stage["output"].split("/")
    run = folder / stage["output"]
    test = stage["test"]
    finished = record.get("state") == "finished"
    return Run(
        arm=arm,
        label_fraction=int(label_fraction),
        seed=int(seed.removeprefix("seed")),
        folder=run,
        test=test,
        evaluation=_evaluation_of(run / "inference" / test / "evaluation.json") if finished else None,
        card=_read_if_there(run / "run.json"),
        weights=_read_if_there(run / "weights.json"),
        record=record,
    )


def _evaluation_of(path: Path) -> dict | None:
    return read_evaluation(path) if path.is_file() else None


def _read_if_there(path: Path) -> dict | None:
    return read_json(path) if path.is_file() else None
