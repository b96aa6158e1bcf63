"""`run.json`: what a run was made from, written when it starts and again when it ends (docs/formats.md, 3)."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from d2_cxr import __version__, artifacts
from d2_cxr.datasets.named_sets import NamedSet
from d2_cxr.datasets.provenance import images_fingerprint
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.start_weights import StartWeights

FORMAT_VERSION = 1
RUNNING, FINISHED, FAILED = "running", "finished", "failed"
_PACKAGES = ("torchvision", "numpy", "pycocotools", "faster-coco-eval", "opencv-python-headless")


class RunRecord:
    """The content of a run folder's `run.json`; every change is written at once."""

    def __init__(self, output_dir: str | Path, values: Mapping, writes: bool = True):
        """
        Args:
            values: plain values of `start_values`.
            writes: False on processes other than the first.
        """
        self._path, self._writes = Path(output_dir) / "run.json", writes
        self.values = dict(values)

    def start(self) -> None:
        """Say that the run has begun."""
        self.update(status=RUNNING, start=now(), end=None)

    def finish(self, results: Mapping) -> None:
        """Say that the run is finished, with its results."""
        self.update(status=FINISHED, end=now(), results=results)

    def fail(self, error: BaseException) -> None:
        """Say that the run ended early, and why."""
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit | KeyboardInterrupt):
            text = "stopped by SIGTERM or Ctrl-C; --resume continues from the last checkpoint"
        self.update(status=FAILED, end=now(), error=text)

    def update(self, **values) -> None:
        """Set values and write the record."""
        self.values |= plain(values)
        if self._writes:
            artifacts.write_json(self._path, self.values)


def start_values(
    sets: RunSets, start: StartWeights, seed: int, device: str, schedule: Mapping, preview: Mapping
) -> dict:
    """Return what is known of a run before its first step, plain values."""
    return {
        "format_version": FORMAT_VERSION,
        "command": sys.argv,
        "project_version": __version__,
        "commit": artifacts.project_commit(),
        "seed": seed,
        "versions": versions(),
        "hardware": hardware(device),
        "train": [named.name for named in sets.train],
        "test": [named.name for named in sets.test],
        "datasets": {named.name: dataset_record(named) for named in (*sets.train, *sets.test)},
        "num_train_images": preview["num_images"],
        "schedule": dict(schedule),
        "preview": dict(preview),
        "weights": start.stated or None,
        "weights_card": start.card.to_dict() if start.card else None,
        "weights_unchecked": start.unchecked,
    }


def dataset_record(named: NamedSet) -> dict:
    """Return fingerprints and preparation of the set behind a name.

    Raises:
        ValueError: the set is not the one that its fingerprints were computed from.
    """
    values = named.dataset_json()
    if not values:
        return {}
    return {
        "images_fingerprint": images_fingerprint(named.folder),
        **{key: values.get(key) for key in ("annotations_fingerprint", "preprocess", "fusion")},
    }


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in (*_PACKAGES, "detectron2", "sal-detectron2"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict:
    """Return the device and what it is."""
    values = {"device": device, "processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.startswith("cuda"):
        values["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return values


def plain(value: Any) -> Any:
    """Return JSON values: numpy and torch numbers become Python's, NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not (value == value and abs(value) != float("inf")):
        return None
    return value


def now() -> str:
    """Return the time in UTC, ISO 8601, in seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _processor() -> str:
    """Return the processor's name; `platform` knows it on few systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
