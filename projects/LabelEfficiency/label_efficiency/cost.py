"""What a study will cost: a detector step and a SimCLR step are timed on this machine, the rest is arithmetic.

The measurement (a quarter of a minute) is kept in `timing.json`, because `random_longer` is sized by it and a restart
must not change the study. It is made again only when what it timed has changed: a config, or an option of one.
"""

from __future__ import annotations

import logging
import statistics
import time
from pathlib import Path

from d2_cxr.projects.label_efficiency.ledger import Ledger
from d2_cxr.projects.label_efficiency.logs import output_to
from d2_cxr.projects.label_efficiency.names import REPOSITORY, config_files, file_fingerprint
from d2_cxr.projects.label_efficiency.plan import Stage, Study

from d2_cxr import artifacts

logger = logging.getLogger(__name__)

_SECONDS_A_PHANTOM = 0.12  # one core, 256 px, with its DICOM file
_SECONDS_A_IMAGE = 0.03  # one core, prepared
_IMPORTS = 12.0  # seconds of a fresh process
_ENOUGH = 10.0  # seconds of timing; a ResNet-50 at 512 px takes as long for one step on two cores


def estimate(study: Study, ledger: Ledger, workers, threads: int) -> dict[str, float]:
    """Estimated seconds of every stage that is not finished."""
    timing = _timing(study, workers, threads)
    return {stage_id: _seconds(ledger.stages[stage_id], study, timing) for stage_id in sorted(ledger.to_do())}


def describe(study: Study, ledger: Ledger, costs: dict[str, float], jobs: int, threads: int) -> str:
    """The plan in words: how many stages of each kind, what they cost, and when it should be over."""
    lines = [f"Study {study.settings['study']} in {study.output}: {len(study.stages)} stages, {len(costs)} to do"]
    kinds = dict.fromkeys(stage.kind for stage in study.stages)
    for kind in kinds:
        mine = [stage for stage in study.stages if stage.kind == kind]
        left = [stage for stage in mine if stage.id in costs]
        seconds = sum(costs[stage.id] for stage in left)
        lines.append(f"  {kind:<14}{len(mine):>4}, {len(left):>4} to do, about {duration(seconds)}")
    arms, labels = ", ".join(study.settings["arms"]), ", ".join(map(str, study.settings["labels"]["percent"]))
    lines.append(f"  arms {arms}; labels {labels} %; seeds {', '.join(map(str, study.settings['seeds']))}")
    wall = max(sum(costs.values()) / jobs, max(costs.values(), default=0))
    lines.append(f"  about {duration(wall)} with {jobs} side by side, {threads} thread{'s' * (threads > 1)} each")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _timing(study: Study, workers, threads: int) -> dict:
    path = Path(study.output) / "timing.json"
    first = [next((stage for stage in study.stages if stage.kind == kind), None) for kind in ("train", "pretrain")]
    timed = artifacts.sha256_json([_what_is_timed(stage) for stage in first])
    known = artifacts.read_json(path) if path.is_file() else {}
    if known.get("timed_sha256") == timed:
        return known
    logger.info("Timing a step on this machine ...")
    log = str(Path(study.output) / "logs" / "timing.log")
    future = workers.submit(time_steps, *(stage and stage.to_dict() for stage in first), log)
    timing = {"threads": threads, **future.result(), "timed_sha256": timed}
    artifacts.write_json(path, timing)
    return timing


def _what_is_timed(stage: Stage | None) -> dict | None:
    if stage is None:
        return None
    files = {name: file_fingerprint(name) for name in config_files(stage.settings["config"])}
    return {"options": stage.settings["options"], "files": files}


def time_steps(train: dict | None, pretrain: dict | None, log: str) -> dict:
    """Time a detector step and a forward and backward pass of the pretraining backbone, on random images."""
    with output_to(Path(log)):
        return _time_steps(train, pretrain)


def _time_steps(train: dict | None, pretrain: dict | None) -> dict:
    return {
        **(_time_detector(train["settings"]) if train else {"detector_step": 0.0}),
        "pretrain_view": _time_view(pretrain["settings"]) if pretrain else 0.0,
    }


def _seconds(stage: Stage, study: Study, timing: dict) -> float:
    images = _num_images(study)
    if stage.kind == "phantoms":
        return images * _SECONDS_A_PHANTOM
    if stage.kind == "prepare":
        return images * _SECONDS_A_IMAGE
    if stage.kind == "pretrain":
        return _IMPORTS + num_views(stage.settings, images) * timing["pretrain_view"]
    if stage.kind in ("train", "tune"):
        # Evaluation and loading take about a third more; a validation, a tenth of the images, forward only.
        iterations = _iterations(stage.settings, images, timing)
        validations = iterations // stage.settings["options"].get("TEST.EVAL_PERIOD", float("inf"))
        steps = 1.3 * iterations + validations * 0.1 * images / timing["batch"] / 3
        return _IMPORTS + steps * timing["detector_step"]
    return 3.0


def _num_images(study: Study) -> int:
    """Images of a study: as many as are rendered or lie in its folder, or as its prepared set says; 3000 without one."""
    data = study.settings["data"]
    if "phantoms" in data:
        return data["phantoms"]["num_images"]
    if "dicom_dir" in data:
        return max(1, sum(path.is_file() for path in Path(data["dicom_dir"]).rglob("*")))
    from d2_cxr.datasets import named_sets

    card = Path(data["root"]) if data.get("root") else named_sets.set_folder(data["name"])
    card = card / "dataset.json"
    counts = artifacts.read_json(card).get("counts", {}) if card.is_file() else {}
    return counts.get("images") or counts.get("images") or 3000


def _iterations(settings: dict, images: int, timing: dict) -> float:
    """Iterations of a run; where its config counts epochs, those of a resampled set half as long again as its images."""
    if not timing["epochs"]:
        return timing["max_iter"] if not settings.get("longer") else 2 * timing["max_iter"]
    return timing["epochs"] * 1.5 * images * settings["percent"] / 100 / timing["batch"]


def num_views(settings: dict, images: int) -> int:
    """Views that a pretraining on this many images sees."""
    from d2_cxr.pretraining.settings import num_epochs

    config = pretraining_settings(settings)
    return 2 * images * num_epochs(config, images)


def pretraining_settings(settings: dict) -> dict:
    """Complete settings of a pretrain stage, without its data."""
    from d2_cxr.pretraining.settings import read_settings

    options = [f"{key}={value}" for key, value in settings["options"].items()]
    return read_settings(REPOSITORY / settings["config"], options)


def _time_detector(settings: dict) -> dict:
    """Seconds of a training step of a run's detector on random images with three boxes each, and its schedule."""
    import torch
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    from d2_cxr.engine.setup import load_config
    from d2_cxr.engine.stepping import build_optimizer

    options = [part for key, value in settings["options"].items() for part in (key, value)]
    cfg = load_config(REPOSITORY / settings["config"], [*options, "MODEL.WEIGHTS", ""])
    cfg.MODEL.DEVICE = cfg.MODEL.DEVICE if torch.cuda.is_available() else "cpu"
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)  # with many weights and a small batch, a good part of the step
    side = cfg.INPUT.MIN_SIZE_TRAIN[0]
    boxes = Instances((side, side), gt_boxes=Boxes(torch.tensor([[0.1, 0.1, 0.4, 0.5]] * 3) * side))
    boxes.gt_classes = torch.arange(3)
    batch = [{"image": torch.rand(3, side, side) * 255, "instances": boxes}] * cfg.SOLVER.IMS_PER_BATCH

    def step() -> None:
        with EventStorage(), _autocast(cfg.CXR.AMP, cfg.MODEL.DEVICE):  # the heads log into a storage
            loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    schedule = {"epochs": cfg.CXR.EPOCHS, "max_iter": cfg.SOLVER.MAX_ITER, "batch": cfg.SOLVER.IMS_PER_BATCH}
    return {"detector_step": _median_seconds(step), **schedule}


def _time_view(settings: dict) -> float:
    """Seconds of a view's way forward and back through the backbone."""
    import torch
    import torchvision

    from d2_cxr.checkpoint.timm_names import build_network, timm_name
    from d2_cxr.pretraining.method import pooled

    config = pretraining_settings(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    timm = timm_name(config["backbone"])
    network = build_network(timm) if timm else torchvision.models.get_model(config["backbone"])
    network = network.to(device, memory_format=torch.channels_last)
    views = torch.rand(32, 3, config["image_size"], config["image_size"], device=device)
    views = views.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with _autocast(config["precision"], device):
            loss = pooled(network(views)).square().mean()
        loss.backward()

    return _median_seconds(step) / len(views)


def _autocast(requested: str, device: str):
    import torch

    from d2_cxr import precision

    bfloat16 = requested not in ("off", "fp32") and precision.choose(requested, device)[0] == "bf16"
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bfloat16)


def _median_seconds(step, repeats: int = 4) -> float:
    step()  # the first call compiles kernels and fills caches
    seconds = []
    for _ in range(repeats):
        if sum(seconds) > _ENOUGH:
            break
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
