"""Which stages of a study are finished: `study.json`, the plan with the inputs, outputs and seconds of every stage.

A stage is finished if its results exist and its inputs equal the recorded ones: its settings, the files it reads, and
the outputs of the stages before it. The commit is recorded but not compared: a changed comment makes no new study.
"""

from __future__ import annotations

import functools
import platform
import subprocess
import time
from pathlib import Path

from d2_cxr.projects.label_efficiency.names import REPOSITORY, file_fingerprint
from d2_cxr.projects.label_efficiency.plan import Stage, Study
from d2_cxr.projects.label_efficiency.stage_kinds import KINDS

from d2_cxr.artifacts import read_json, sha256_json, write_json

FORMAT_VERSION = 2
FINISHED, LOST, STALE, UNFINISHED, ABSENT = "finished", "lost", "stale", "unfinished", "absent"


class StudyState:
    """The state of a study's stages, read from and written to `study.json`; one process writes it."""

    def __init__(self, study: Study):
        self.study = study
        self.path = study.output / "study.json"
        self.stages = {stage.id: stage for stage in study.stages}
        self._records: dict[str, dict] = read_study_json(self.path)["stages"] if self.path.is_file() else {}

    def state(self, stage: Stage) -> str:
        """Return a stage's state.

        Returns:
            finished; lost (made from these inputs, results deleted since); stale (made or begun from other inputs);
            unfinished (begun from these inputs); or absent.
        """
        record = self._records.get(stage.id)
        if record is None:
            return ABSENT
        inputs = self.inputs(stage)
        if inputs is None or record["inputs_sha256"] != sha256_json(inputs):
            return STALE
        if record["state"] != FINISHED:
            return UNFINISHED
        return FINISHED if all((self.study.output / path).is_file() for path in stage.results) else LOST

    def inputs(self, stage: Stage) -> dict | None:
        """Return everything that decides a stage's result; None while a stage before it is not finished."""
        before = {}
        for stage_id in stage.needs:
            if self.state(self.stages[stage_id]) not in (FINISHED, LOST):
                return None
            before[stage_id] = self._records[stage_id]["outputs"]
        files = {path: file_fingerprint(path) for path in stage.files}
        return {"settings": stage.settings, "files": files, "before": before}

    def to_do(self) -> set[str]:
        """Return the ids of the stages that must run: unfinished ones, and those whose deleted results they need."""
        needed: set[str] = set()
        for stage in reversed(self.study.stages):
            state = self.state(stage)
            wanted = any(stage.id in self.stages[other].needs for other in needed)
            if state not in (FINISHED, LOST) or (state == LOST and (wanted or KINDS[stage.kind].kept)):
                needed.add(stage.id)
        return needed

    def start(self, stage: Stage) -> None:
        """Record that a stage begins; results of other inputs are first moved to `superseded/`, never resumed or
        deleted.
        """
        if self.state(stage) == STALE:
            self._set_aside(stage)
        inputs = self.inputs(stage)
        record = {"state": UNFINISHED, "inputs": inputs, "inputs_sha256": sha256_json(inputs), "output": stage.output}
        about = {"command": list(self.study.command), "commit": commit()}
        self._records[stage.id] = record | about | {"machine": platform.processor() or platform.machine()}
        self.write()

    def finish(self, stage: Stage, outputs: dict, seconds: float) -> None:
        """Record a stage's outputs {name: fingerprint or plain value}, which are inputs of the stages that follow."""
        record = self._records[stage.id]
        record |= {"state": FINISHED, "outputs": outputs, "seconds": round(seconds, 1)}
        self.write()

    def seconds(self, stage_id: str) -> float | None:
        """Return how long a finished stage took; None for others."""
        return self._records.get(stage_id, {}).get("seconds")

    def write(self) -> None:
        """Write `study.json`."""
        content = {
            "format_version": FORMAT_VERSION,
            "study": self.study.settings,
            "plan": [_planned(stage) for stage in self.study.stages],
            "stages": {
                key: value for key, value in self._records.items() if key in self.stages or value["state"] == FINISHED
            },
        }
        write_json(self.path, content)

    def _set_aside(self, stage: Stage) -> None:
        old = self.study.output / stage.output
        if old.exists():
            label = f"{stage.output.replace('/', '_')}-{time.strftime('%Y%m%d-%H%M%S')}"
            target = self.study.output / "superseded" / label
            target.parent.mkdir(parents=True, exist_ok=True)
            old.rename(target)


def read_study_json(path: Path) -> dict:
    """Read a study's `study.json`.

    Raises:
        ValueError: it is no plan of a study, or of an earlier format.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"study", "plan", "stages"} <= set(content):
        raise ValueError(f"{path} is not the plan of a study: study, plan or stages is missing")
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {content.get('format_version')}, not {FORMAT_VERSION}; read it with the commit "
            "that it names, or run the study again in another folder"
        )
    return content


def _planned(stage: Stage) -> dict:
    planned = {"id": stage.id, "kind": stage.kind, "needs": list(stage.needs), "output": stage.output}
    return planned | ({"test": stage.settings["test"]} if "test" in stage.settings else {})


@functools.cache
def commit() -> str | None:
    """Return the repository's commit, with "+" if tracked files differ from it; None outside a git checkout."""
    try:
        run = {"cwd": Path(REPOSITORY), "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")
