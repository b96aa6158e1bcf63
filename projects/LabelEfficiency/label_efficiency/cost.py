"""What a study costs: seconds of stages that are finished; before that, a few timed steps on this machine.

An estimate decides nothing: no arm's length depends on it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from d2_cxr.projects.label_efficiency.names import in_repository
from d2_cxr.projects.label_efficiency.pools import pool_lines
from d2_cxr.projects.label_efficiency.stage_log import output_to

from d2_cxr import artifacts
from d2_cxr.counted import counted

if TYPE_CHECKING:
    from d2_cxr.projects.label_efficiency.plan import Stage, Study
    from d2_cxr.projects.label_efficiency.study_state import StudyState

_SECONDS_PER_PHANTOM = 0.12  # one core, 256 px, with its DICOM file
_SECONDS_PER_IMAGE = 0.03  # one core, prepared
_IMPORTS = 12.0  # seconds of a fresh process
_MOMENT = 3.0
_ENOUGH = 6.0  # seconds of timed steps, for the detector and for the views
_IMAGES, _VIEWS = 2, 8  # of a timed step; a step of a whole batch takes as many times longer


class Workers(Protocol):
    """What runs stages elsewhere: processes of this machine, or jobs of a cluster."""

    def submit(self, function: Callable, /, *arguments: object) -> Future:
        """Start `function(*arguments)`; the future holds what it returns or raises."""


@dataclass(frozen=True)
class Timing:
    """A study's size and this machine's speed; seconds are 0 where nothing was timed."""

    images: int
    detector_image: float = 0.0  # seconds per image of a training step
    view: float = 0.0  # seconds per view of a pretraining step
    max_iter: int = 0
    epochs: float = 0.0  # of the config; 0 where it counts iterations
    batch: int = 1


def a_moment(settings: dict, timing: Timing) -> float:
    """Return the seconds of a short stage."""
    return _MOMENT


def phantoms(settings: dict, timing: Timing) -> float:
    """Return the seconds of rendering."""
    return timing.images * _SECONDS_PER_PHANTOM


def prepare(settings: dict, timing: Timing) -> float:
    """Return the seconds of preparation."""
    return timing.images * _SECONDS_PER_IMAGE


def pretrain(settings: dict, timing: Timing) -> float:
    """Return the seconds of a pretraining."""
    images = max(1, timing.images * settings.get("pool_fraction", 100) // 100)
    return _IMPORTS + num_views(settings, images) * timing.view


def train(settings: dict, timing: Timing) -> float:
    """Return the seconds of a run; loading and testing take a third more, a validation sees a tenth of the images."""
    from d2_cxr.projects.label_efficiency.arms import ARM_KINDS

    iterations = float(timing.max_iter)
    if timing.epochs:  # of a resampled set, which is about half as long again as its images
        iterations = timing.epochs * 1.5 * timing.images * settings["label_fraction"] / 100 / timing.batch
    for key, plan in settings.get("arm_kinds", {}).items():
        iterations *= ARM_KINDS[key].work(plan)
    period = settings["options"].get("TEST.EVAL_PERIOD", 0)
    validated = (iterations // period) * 0.1 * timing.images / 3 if period else 0  # forward only: a third of a step
    return _IMPORTS + (1.3 * iterations * timing.batch + validated) * timing.detector_image


def buy(settings: dict, timing: Timing) -> float:
    """Return the seconds of a purchase: at random nothing is predicted, else every image of the pool, forward only."""
    return _MOMENT if settings["strategy"] == "random" else _IMPORTS + timing.images * timing.detector_image / 3


def estimate(study: Study, state: StudyState, workers: Workers) -> dict[str, float]:
    """Return the estimated seconds of every stage that is not finished.

    Args:
        study: the study.
        state: which of its stages are finished.
        workers: one of them times steps where no training is finished yet.
    """
    from d2_cxr.projects.label_efficiency.stage_kinds import KINDS

    to_do = [stage for stage in study.stages if stage.id in state.to_do()]
    measured = {stage.id: measured_seconds(study, state, stage) for stage in to_do}
    timing = Timing(num_images(study.settings["data"]))
    if any(measured[stage.id] is None and stage.kind in ("train", "tune", "pretrain") for stage in to_do):
        first = [next((one for one in study.stages if one.kind == kind), None) for kind in ("train", "pretrain")]
        log = str(study.output / "logs" / "timing.log")
        future = workers.submit(time_steps, *(one and one.settings for one in first), log)
        timing = Timing(timing.images, **future.result())
    return {
        stage.id: KINDS[stage.kind].seconds(stage.settings, timing)
        if measured[stage.id] is None
        else measured[stage.id]
        for stage in to_do
    }


def measured_seconds(study: Study, state: StudyState, stage: Stage) -> float | None:
    """Return the median seconds of finished stages of the same kind (and arm, if any is); None before the first."""
    alike = [one for one in study.stages if one.kind == stage.kind and state.seconds(one.id) is not None]
    same_arm = [one for one in alike if one.settings.get("arm") == stage.settings.get("arm")]
    return statistics.median(state.seconds(one.id) for one in same_arm or alike) if alike else None


def describe(study: Study, costs: dict[str, float], jobs: int, threads: int) -> str:
    """Return the plan in words: how many stages of each kind, what they cost, and how long all of it takes."""
    lines = [
        f"Study {study.settings['study']} in {study.output}: {counted(len(study.stages), 'stage')}, {len(costs)} to do"
    ]
    for kind in dict.fromkeys(stage.kind for stage in study.stages):
        mine = [stage for stage in study.stages if stage.kind == kind]
        left = [costs[stage.id] for stage in mine if stage.id in costs]
        lines.append(f"  {kind:<14}{len(mine):>4}, {len(left):>4} to do, about {duration(sum(left))}")
    lines += pool_lines(study)
    arms, fractions = ", ".join(study.settings["arms"]), study.settings["labels"]["label_fractions"]
    lines.append(f"  arms {arms}; labels {', '.join(map(str, fractions))} %; seeds {study.settings['seeds']}")
    wall = max(sum(costs.values()) / jobs, max(costs.values(), default=0))
    lines.append(f"  about {duration(wall)} with {jobs} side by side, {threads} thread{'s' * (threads > 1)} each")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 1.5 * cores:
        lines.append(
            f"  other programs are running (load {load:.1f} on {counted(cores, 'core')}): "
            "on a quiet machine it takes less"
        )
    if wall > 2 * _DAY:
        lines.append(f"  {_CHEAPER}")
    if len(fractions) < 5:
        lines.append(
            f"  {counted(len(fractions), 'label fraction')}: the report cannot say what the next labels buy, which "
            "takes 5 (--plan certificate has them)"
        )
    return "\n".join(lines)


_DAY = 24 * 3600
_CHEAPER = (
    "cheaper: seeds=[0,1,2], fewer labels.label_fractions or arms, a smaller data.prepare.size, or a GPU; on a CPU "
    "configs/quick_schedules has ResNet-18 detectors that take minutes"
)


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use, e.g. "12 min" or "3.4 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} days"


def num_images(data: dict) -> int:
    """Return a study's images: as many as are rendered or found in its folder, or its prepared set's; else 3000."""
    if "phantoms" in data:
        return data["phantoms"]["num_images"]
    if "dicom_dir" in data:
        folder = Path(data["dicom_dir"])
        if folder.is_file():
            from d2_cxr.dicom import archives

            return max(1, len(archives.members(folder)))
        return max(1, sum(path.is_file() for path in folder.rglob("*")))
    from d2_cxr.datasets import set_folders

    card = (Path(data["root"]) if data.get("root") else set_folders.set_folder(data["name"])) / "dataset.json"
    counts = artifacts.read_json(card).get("counts", {}) if card.is_file() else {}
    return counts.get("images") or 3000


def num_views(settings: dict, images: int) -> int:
    """Return how many views a pretraining on this many images sees."""
    from d2_cxr.pretraining.settings import num_epochs

    return 2 * images * num_epochs(pretraining_settings(settings), images)


def pretraining_settings(settings: dict) -> dict:
    """Return the complete settings of a pretrain stage, without its data."""
    from d2_cxr.pretraining.settings import read_settings

    options = [f"{key}={value}" for key, value in settings["options"].items()]
    return read_settings(in_repository(settings["config"]), options)


def time_steps(train_settings: dict | None, pretrain_settings: dict | None, log: str) -> dict:
    """Time training steps of the detector and of the pretrained backbone on random images; values of `Timing`."""
    with output_to(Path(log)):
        timed = _time_detector(train_settings) if train_settings else {}
        return timed | ({"view": _time_view(pretrain_settings)} if pretrain_settings else {})


def _time_detector(settings: dict) -> dict:
    import torch
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from d2_cxr.engine.config import load_config
    from d2_cxr.engine.train_step import build_optimizer

    options = [part for pair in settings["options"].items() for part in pair]
    cfg = load_config(in_repository(settings["config"]), [*options, "MODEL.WEIGHTS", ""])
    cfg.MODEL.DEVICE = cfg.MODEL.DEVICE if torch.cuda.is_available() else "cpu"
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)  # with many weights and a small batch, a good part of the step
    side = cfg.INPUT.MIN_SIZE_TRAIN[0]
    boxes = Instances((side, side), gt_boxes=Boxes(torch.tensor([[0.1, 0.1, 0.4, 0.5]] * 3) * side))
    boxes.gt_classes = torch.zeros(3, dtype=torch.int64)
    batch = [{"image": torch.rand(3, side, side) * 255, "instances": boxes}] * _IMAGES

    def step() -> None:
        with EventStorage(), _autocast(cfg.CXR.AMP, cfg.MODEL.DEVICE):  # the heads log into a storage
            loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    schedule = {"epochs": cfg.CXR.EPOCHS, "max_iter": cfg.SOLVER.MAX_ITER, "batch": cfg.SOLVER.IMS_PER_BATCH}
    return {"detector_image": _median_seconds(step) / _IMAGES, **schedule}


def _time_view(settings: dict) -> float:
    import torch
    import torchvision

    from d2_cxr.checkpoint.timm_names import build_network, timm_name
    from d2_cxr.pretraining.method import pooled

    config = pretraining_settings(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    timm = timm_name(config["backbone"])
    network = build_network(timm) if timm else torchvision.models.get_model(config["backbone"])
    network = network.to(device, memory_format=torch.channels_last)
    views = torch.rand(_VIEWS, 3, config["image_size"], config["image_size"], device=device)
    views = views.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with _autocast(config["precision"], device):
            loss = pooled(network(views)).square().mean()
        loss.backward()

    return _median_seconds(step) / _VIEWS


def _autocast(requested: str, device: str):
    import torch

    from d2_cxr import precision

    bfloat16 = requested not in ("off", "fp32") and precision.choose(requested, device)[0] == "bf16"
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bfloat16)


def _median_seconds(step: Callable[[], None], repeats: int = 3) -> float:
    step()  # the first call compiles kernels and fills caches
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < _ENOUGH:
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
