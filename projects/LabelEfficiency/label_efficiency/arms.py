"""What makes an arm more than a config and first weights: one row per key of `arms`, from study file to training.

A row says what the key may hold, what it adds to the training stage's settings in the plan, and which options of
Detectron2 that becomes when the stage runs. Work is counted, never timed, so that an arm has the same number of
iterations on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from d2_cxr.projects.label_efficiency.names import POOLS, in_repository, pool_names, source
from d2_cxr.projects.label_efficiency.study_schema import OPTION, Keys, Named, Shape, choice, text, whole

from d2_cxr.selection import STRATEGIES

# What an arm may set for itself: the input convention that its weights need, and the rate that was tuned for it.
ARM_OPTIONS = ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT", "MODEL.RESNETS.STRIDE_IN_1X1", "SOLVER.BASE_LR")

POOL_KEYS: dict[str, Shape] = {"pool": choice(*POOLS), "pool_fraction": whole(1, 100, 25)}  # percent of its images


@dataclass(frozen=True)
class ArmKind:
    """A key of an arm.

    Attributes:
        shape: what the study file may say.
        plan: (settings of the study, arm, label fraction, seed) -> plain values for the training stage.
        options: (those values, settings of the training stage) -> options of Detectron2.
        work: how much longer a run takes, as a factor, from those values; for the estimate of the cost alone.
    """

    shape: Shape
    plan: Callable[[dict, dict, int, int], dict]
    options: Callable[[dict, dict], dict]
    work: Callable[[dict], float]


def _plan_compute_matched(settings: dict, arm: dict, label_fraction: int, seed: int) -> dict:
    """Name the work that another arm does in addition to its iterations: a pretraining, a teacher, or both."""
    name, pretraining = arm["compute_matched"], settings.get("pretraining") or {}
    other = {"weights": name} if name in pretraining else settings["arms"][name]
    plan: dict = {"iterations": arm.get("iterations")}
    if source(other) in pretraining:
        made = pretraining[source(other)]
        plan |= {"config": made["config"], "options": made.get("options") or {}}
        plan["pool"] = pool_names(settings, made, label_fraction, seed)
    if "teacher" in other:
        plan["teacher"] = _teacher_options(other["teacher"])
    return plan


def compute_matched_iterations(plan: Mapping, stage: Mapping) -> int:
    """Return the iterations of an arm that trains for as much work as another spends on pretraining and on a teacher.

    Work is counted in pixels that pass forward and backward: views x size^2 of a pretraining, images x size^2 of a
    detector step. A teacher's forward pass counts a third of both. Stated `iterations` are taken as they are.
    """
    if plan["iterations"]:
        return plan["iterations"]
    from d2_cxr.engine.config import load_config

    options = [part for pair in stage["options"].items() for part in pair]
    cfg = load_config(in_repository(stage["config"]), [*options, "MODEL.WEIGHTS", ""])
    more = 0.0
    if "teacher" in plan:
        ratio = float(plan["teacher"].get("CXR.TEACHER.RATIO", cfg.CXR.TEACHER.RATIO))
        burn_in = float(plan["teacher"].get("CXR.TEACHER.BURN_IN", cfg.CXR.TEACHER.BURN_IN))
        more += cfg.SOLVER.MAX_ITER * 4 / 3 * ratio * (1 - burn_in)
    if "pool" in plan:
        views, size = _views(plan)
        sides = cfg.INPUT.MIN_SIZE_TRAIN
        more += views * size**2 / (cfg.SOLVER.IMS_PER_BATCH * sum(side**2 for side in sides) / len(sides))
    return round(cfg.SOLVER.MAX_ITER + more)


def _views(plan: Mapping) -> tuple[int, int]:
    """Return how many views a pretraining sees, and the side of one in pixels."""
    from d2_cxr.projects.label_efficiency.cost import num_views, pretraining_settings

    from d2_cxr.datasets import loading
    from d2_cxr.datasets.named_sets import named_set

    pool = loading.prepared_images(map(named_set, plan["pool"]))
    return num_views(plan, len(pool)), pretraining_settings(plan)["image_size"]


def _plan_teacher(settings: dict, arm: dict, label_fraction: int, seed: int) -> dict:
    pool = pool_names(settings, arm["teacher"], label_fraction, seed)
    return _teacher_options(arm["teacher"]) | {"CXR.TEACHER.POOL": pool}


def _teacher_options(teacher: dict) -> dict:
    options = {f"CXR.TEACHER.{key}": value for key, value in (teacher.get("options") or {}).items()}
    return options | ({"CXR.TEACHER.CONTROL": teacher["control"]} if "control" in teacher else {})


ARM_KINDS = {
    "compute_matched": ArmKind(
        text("a name under pretraining, or an arm with a teacher, whose compute this arm trains for"),
        _plan_compute_matched,
        lambda plan, stage: {"SOLVER.MAX_ITER": compute_matched_iterations(plan, stage)},
        lambda plan: 2.0,
    ),
    "acquire": ArmKind(
        choice(*STRATEGIES),
        lambda settings, arm, label_fraction, seed: {},  # replay.py changes the stages of the arm
        lambda plan, stage: {},
        lambda plan: 1.0,
    ),
    "teacher": ArmKind(
        Keys(
            {
                **POOL_KEYS,
                "control": choice("shuffled", "labeled"),
                "options": Named(OPTION, "keys of CXR.TEACHER, e.g. {BURN_IN: 0.3}", name=r"[A-Z_]+"),
            }
        ),
        _plan_teacher,
        lambda plan, stage: plan,
        lambda plan: 2.0,
    ),
}
