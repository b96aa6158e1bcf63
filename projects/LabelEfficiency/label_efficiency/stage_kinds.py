"""One row per kind of stage: what it runs, in which process, what is kept of it, what it costs, how far it is."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from d2_cxr.projects.label_efficiency import cost, stages


@dataclass(frozen=True)
class StageKind:
    """A kind of stage.

    Attributes:
        run: (Stage.to_dict(), study folder) -> outputs {name: fingerprint or plain value}, part of the inputs of what
            follows.
        in_main_process: the stage is short, or starts processes itself; otherwise a worker takes it.
        kept: the report reads its results, so they are made again when they are lost.
        seconds: (settings of the stage, cost.Timing) -> estimated seconds.
        progress: (study folder, stage) -> steps done and steps in all, None where that cannot be said.
    """

    run: Callable[[dict, Path], dict]
    in_main_process: bool = False
    kept: bool = False
    seconds: Callable[[dict, cost.Timing], float] = cost.a_moment
    progress: Callable[[Path, dict], tuple[int, int] | None] = lambda study_dir, stage: None


def run_stage(stage: dict, study_dir: str) -> dict:
    """Run one stage (Stage.to_dict()) of the study in `study_dir`; return its outputs."""
    return KINDS[stage["kind"]].run(stage, Path(study_dir))


def training_progress(study_dir: Path, stage: dict) -> tuple[int, int] | None:
    """Return the iterations of a running training and how many it will have; None before the first."""
    run = study_dir / stage["output"]
    try:
        config = run / "config.yaml"
        last = json.loads((run / "metrics.json").read_text(encoding="utf-8").splitlines()[-1])
        return last["iteration"] + 1, _max_iter(config, config.stat().st_mtime_ns)
    except (OSError, IndexError, KeyError, TypeError, ValueError, yaml.YAMLError):  # not begun, or half written
        return None


@functools.lru_cache(maxsize=64)
def _max_iter(config: Path, _modified: int) -> int:
    """As the run itself set it, from its epochs or another arm's compute."""
    return yaml.safe_load(config.read_text(encoding="utf-8"))["SOLVER"]["MAX_ITER"]


KINDS = {
    "phantoms": StageKind(stages.phantoms, in_main_process=True, seconds=cost.phantoms),
    "prepare": StageKind(stages.prepare, in_main_process=True, seconds=cost.prepare),
    "statistics": StageKind(stages.statistics, in_main_process=True, kept=True),
    "weights": StageKind(stages.made_elsewhere),
    "pretrain": StageKind(stages.pretrain, seconds=cost.pretrain),
    "convert": StageKind(stages.convert),
    "permute": StageKind(stages.permute),
    "prior_box": StageKind(stages.prior_box, kept=True),
    "buy": StageKind(stages.buy, seconds=cost.buy),
    "same_run": StageKind(stages.same_run, kept=True),
    "tune": StageKind(stages.train, seconds=cost.train, progress=training_progress),
    "choose": StageKind(stages.choose, kept=True),
    "train": StageKind(stages.train, kept=True, seconds=cost.train, progress=training_progress),
}
