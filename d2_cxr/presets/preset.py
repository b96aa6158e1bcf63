"""`--preset`: resolution, batch, rate and length of a training from the set, the machine and the starting weights.

A pure function, printed before it runs. It decides how a detector is trained, never what is measured: test sets,
validation, seeds, classes, thresholds and metrics are out of its reach (ALLOWED, and tests/presets/test_preset.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from d2_cxr.counted import counted

PRESETS = ("auto", "quick")
ALLOWED = frozenset(  # every key that a preset may set, apart from the input convention that the weights require
    {
        "MODEL.ANCHOR_GENERATOR.SIZES",
        "MODEL.DEVICE",
        "INPUT.MIN_SIZE_TRAIN",
        "INPUT.MAX_SIZE_TRAIN",
        "INPUT.MIN_SIZE_TEST",
        "INPUT.MAX_SIZE_TEST",
        "SOLVER.IMS_PER_BATCH",
        "SOLVER.BASE_LR",
        "SOLVER.MAX_ITER",
        "SOLVER.WARMUP_ITERS",
        "SOLVER.CHECKPOINT_PERIOD",
        "CXR.EPOCHS",
        "CXR.STEP_EPOCHS",
        "CXR.NEGATIVE_RATIO",
        "DATALOADER.REPEAT_THRESHOLD",
    }
)

LARGE_GPU_GB = 6.0  # a GPU below this trains the small detector
_GB_OF_AN_IMAGE = 1.0  # R50-FPN at 512 px, training; a rough figure, on the safe side
_SMALLEST_BOX = 16  # pixels of the network's input: four cells of the finest feature map
_CPU_STEPS = 4000  # of batch 8: some hours on two cores
_QUICK = 5  # times shorter
_PASSES = ((300, 27.0), (1000, 20.0), (math.inf, 15.0))  # over the images with findings: up to so many images, so often


@dataclass(frozen=True)
class SetFacts:
    """What a preset may know of a set: its training part, nothing of validation and test.

    Attributes:
        num_images: with findings.
        num_negative: without.
        num_boxes: on the images with findings.
        num_classes: of the set.
        small_side: a tenth of the boxes has a smaller side (the root of the area), as a fraction of the image's side.
        size: side of the prepared images, pixels.
    """

    num_images: int
    num_negative: int
    num_boxes: int
    num_classes: int
    small_side: float
    size: int


@dataclass(frozen=True)
class Machine:
    """What a preset may know of the machine.

    Attributes:
        gpu_gb: memory of the GPU, 0 where there is none.
        memory_gb: of the machine.
        cores: that this process may use.
    """

    gpu_gb: float
    memory_gb: float
    cores: int


@dataclass(frozen=True)
class Preset:
    """A choice.

    Attributes:
        config: name below configs/.
        options: dotted key -> value.
        reasons: a sentence for each choice.
    """

    config: str
    options: dict[str, object]
    reasons: list[str]


@dataclass(frozen=True)
class _Base:
    """A config that presets build on; its values are those of the YAML (a test compares them)."""

    config: str
    size: int
    batch: int
    base_lr: float
    anchors: tuple[int, ...]
    by_epochs: bool
    warm_up: int


SMALL = _Base("quick_schedules/opacity_R_18.yaml", 192, 8, 0.0003, (16, 32, 64, 96, 128), False, 20)
SMALL_TIMM = _Base("quick_schedules/opacity_effnet_lite0.yaml", 192, 8, 0.0003, (16, 32, 64, 96, 128), False, 20)
R50_COCO = _Base("VinDr-CXR/faster_rcnn_R_50_FPN.yaml", 512, 8, 0.001, (32, 64, 128, 256, 512), True, 0)
R50_RANDOM = _Base("VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml", 512, 8, 0.001, (32, 64, 128, 256, 512), True, 0)
BASES = (SMALL, SMALL_TIMM, R50_COCO, R50_RANDOM)


def choose(
    facts: SetFacts,
    machine: Machine,
    required: Mapping[str, object] | None = None,
    name: str = "auto",
    whole_detector: bool = False,
) -> Preset:
    """Return how to train.

    Args:
        facts: of the training part.
        machine: this one.
        required: what the starting weights require of a config (`WeightsCard.required_config`); None: random weights.
        name: "auto"; "quick" trains a fifth as long, to see that everything works.
        whole_detector: the weights are Detectron2's Faster R-CNN R50-FPN, whose FPN and heads are kept.

    Raises:
        ValueError: there is no preset of this name, or nothing to train on.
    """
    if name not in PRESETS:
        raise ValueError(f"--preset {name} is unknown; choose one of {', '.join(PRESETS)}")
    if facts.num_images < 1 or facts.num_boxes < 1:
        raise ValueError("the training set has no image with findings; label some images, or choose another set")
    base, why = _base(machine, required, whole_detector)
    size = _size(facts, base)
    batch = _batch(machine, base, size)
    ratio = 1.0 if facts.num_negative else 0.0
    length, steps = _length(facts, machine, base, batch, ratio, name)
    options: dict[str, object] = {
        "MODEL.DEVICE": "cuda" if machine.gpu_gb else "cpu",
        "MODEL.ANCHOR_GENERATOR.SIZES": [[max(8, round(side * size / base.size))] for side in base.anchors],
        **{f"INPUT.MIN_SIZE_{part}": (size,) if part == "TRAIN" else size for part in ("TRAIN", "TEST")},
        **{f"INPUT.MAX_SIZE_{part}": size for part in ("TRAIN", "TEST")},
        "SOLVER.IMS_PER_BATCH": batch,
        "SOLVER.BASE_LR": base.base_lr * batch / base.batch,  # linear in the batch (arXiv 1706.02677)
        "SOLVER.WARMUP_ITERS": min(base.warm_up, steps // 10),
        "SOLVER.CHECKPOINT_PERIOD": max(50, steps // 4),
        "CXR.NEGATIVE_RATIO": ratio,
        "DATALOADER.REPEAT_THRESHOLD": 0.4 if facts.num_classes > 1 else 0.0,  # the paper's; one class has no balance
        **length,
        **(required or {}),
    }
    reasons = [
        f"{counted(facts.num_images, 'training image')} with findings, {facts.num_negative:,} without, "
        f"{counted(facts.num_boxes, 'box')}, {counted(facts.num_classes, 'class')}",
        f"{base.config}: {why}",
        f"{size} px of the prepared {facts.size}: a tenth of the boxes is below {facts.small_side * size:.0f} px",
        f"batch {batch}, learning rate {options['SOLVER.BASE_LR']:.3g}",
        f"{counted(steps, 'iteration')}: each image with findings is seen about "
        f"{_seen(facts, batch, ratio, steps):.0f} times",
    ]
    return Preset(base.config, options, reasons)


def _base(machine: Machine, required: Mapping[str, object] | None, whole_detector: bool) -> tuple[_Base, str]:
    """Return the config to build on, and why."""
    large = machine.gpu_gb >= LARGE_GPU_GB
    where = f"a GPU with {machine.gpu_gb:.0f} GB" if machine.gpu_gb else f"no GPU, {counted(machine.cores, 'core')}"
    if required and "MODEL.TIMM.NAME" in required:
        return SMALL_TIMM, f"{where}; weights of {required['MODEL.TIMM.NAME']}"
    if whole_detector:
        return R50_COCO, f"{where}; its FPN and heads need this config{'' if large else ', slow here'}"
    if large and (required is None or int(str(required.get("MODEL.RESNETS.DEPTH", 50))) >= 50):
        return (R50_RANDOM if required is None else R50_COCO), f"{where}, enough for ResNet-50 at 512 px"
    return SMALL, f"{where}: a small detector"


def _size(facts: SetFacts, base: _Base) -> int:
    """Return the smallest side, from the base's up, at which small boxes keep 16 px; never above the prepared side."""
    sides = [side for factor in (1.0, 4 / 3, 5 / 3, 2.0) if (side := round(base.size * factor / 32) * 32) <= facts.size]
    fit = [side for side in sides if side * facts.small_side >= _SMALLEST_BOX]
    return fit[0] if fit else (sides[-1] if sides else facts.size)


def _batch(machine: Machine, base: _Base, size: int) -> int:
    """Return the base's batch, halved until it fits into the GPU's memory."""
    batch = base.batch
    if machine.gpu_gb:
        needed = _GB_OF_AN_IMAGE * (size / 512) ** 2
        while batch > 1 and 1.5 + batch * needed > machine.gpu_gb:
            batch //= 2
    return batch


def _length(
    facts: SetFacts, machine: Machine, base: _Base, batch: int, ratio: float, name: str
) -> tuple[dict[str, object], int]:
    """Return the keys that set the length, and the iterations."""
    passes = next(times for most, times in _PASSES if facts.num_images <= most)
    passes = passes / _QUICK if name == "quick" else passes
    steps = max(20, math.ceil(passes * facts.num_images * (1 + ratio) / batch))
    if not machine.gpu_gb:
        steps = min(steps, _CPU_STEPS * base.batch // batch)
    if not base.by_epochs:
        return {"SOLVER.MAX_ITER": steps}, steps
    drops = [round(passes * part, 2) for part in (8 / 15, 11 / 15)]  # where the paper's 15 epochs drop the rate
    return {"CXR.EPOCHS": passes, "CXR.STEP_EPOCHS": drops}, steps


def _seen(facts: SetFacts, batch: int, ratio: float, steps: int) -> float:
    return steps * batch / (1 + ratio) / facts.num_images
