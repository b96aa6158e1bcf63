"""Teacher-student training: a teacher labels images that nobody has labeled, a student learns from both.

Unbiased Teacher (Liu et al. 2021, https://arxiv.org/abs/2102.09480) on Detectron2's own model. The student trains on
labels; the teacher is the exponential moving average of its weights. After the burn-in the teacher's boxes on weak
views of the pool, those above the threshold of their class, are the truth for the student's strong views. On them the
RPN's and the classifier's losses count, times a weight, and box regression does not: a teacher's confidence says
little about where its box ends. The teacher is what is validated, saved and tested.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation import inference_context
from detectron2.structures import Boxes, Instances
from torch import nn

from d2_cxr.engine.teacher_health import TeacherHealth
from d2_cxr.engine.teacher_pool import Pool

IGNORED = -1  # the class of a RoI that Detectron2 leaves out of the classification loss
LEARNED = ("loss_rpn_cls", "loss_cls")  # of the losses on the teacher's boxes


class TeacherStudent(nn.Module):
    """What a step trains: the student's losses on labels and on the teacher's boxes.

    The teacher is not a submodule: DistributedDataParallel and the optimizer have nothing to do with it.
    """

    def __init__(self, keys: CfgNode, teacher: nn.Module, classes: int):
        """
        Args:
            keys: CXR.TEACHER of the run.
            teacher: a model of Detectron2 in training mode; the student begins as its copy.
            classes: number of classes.
        """
        super().__init__()
        self.student = copy.deepcopy(teacher)
        self._teacher = (teacher,)
        self._weight, self._control, self._uncertain = keys.WEIGHT, keys.CONTROL, keys.UNCERTAIN
        fixed = list(keys.THRESHOLDS) or [float("inf")]
        self.thresholds = torch.tensor(fixed * (classes if len(fixed) == 1 else 1), dtype=torch.float32)
        self.pseudo: list[Instances] = []  # the boxes of the last step, one entry a pool image

    @property
    def teacher(self) -> nn.Module:
        """The model that makes the boxes; no part of `state_dict`."""
        return self._teacher[0]

    def forward(self, batch: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Return the student's losses on the labeled samples, and those on pool samples as `NAME_pseudo`."""
        pool = [sample for sample in batch if "strong" in sample]
        losses = self.student([sample for sample in batch if "strong" not in sample])
        self.pseudo = []
        if not pool:
            return losses
        boxes = self._boxes_for(pool)
        self.pseudo = [of_image[of_image.gt_classes != IGNORED] for of_image in boxes]
        views = [
            {**sample, "image": sample["strong"], "instances": of_image}
            for sample, of_image in zip(pool, boxes, strict=True)
        ]
        with _statistics_kept(self.student):
            found = self.student(views)
        return losses | {f"{name}_pseudo": self._weight * found[name] for name in LEARNED}

    def _boxes_for(self, pool: Sequence[dict]) -> list[Instances]:
        if self._control == "labeled":
            return [sample["instances"] for sample in pool]
        boxes = pseudo_boxes(self.teacher, pool, self.thresholds.clamp(max=self._uncertain))
        for of_image in boxes:
            limits = self.thresholds.to(of_image.scores.device)[of_image.gt_classes]
            of_image.gt_classes[of_image.scores <= limits] = IGNORED
        if self._control == "shuffled":  # as many boxes, on another image each
            boxes = boxes[1:] + boxes[:1]
        return boxes


def pseudo_boxes(teacher: Any, samples: Sequence[dict], thresholds: torch.Tensor) -> list[Instances]:
    """Return a teacher's boxes above the threshold of their class, in the images' own pixels.

    Args:
        teacher: a model of Detectron2 with `inference`.
        samples: model inputs; `image` is labeled.
        thresholds: (C,) float32.

    Returns:
        an entry a sample: gt_boxes XYXY, gt_classes, scores; without gradients.
    """
    with torch.no_grad(), inference_context(teacher):
        found = teacher.inference([{"image": sample["image"]} for sample in samples], do_postprocess=False)
    return [_above(instances, thresholds.to(instances.scores.device)) for instances in found]


def follow(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """Move the teacher towards the student: teacher = keep * teacher + (1 - keep) * student, statistics included."""
    ours, theirs = teacher.state_dict(), student.state_dict()
    moving = [name for name, value in ours.items() if value.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([ours[name] for name in moving], [theirs[name] for name in moving], 1 - keep)
        for name in ours.keys() - set(moving):  # counters
            ours[name].copy_(theirs[name])


def keep_rate(iteration: int, largest: float) -> float:
    """Return how much of the teacher stays: its memory is a tenth of the iterations so far, or 1 / (1 - largest)."""
    return min(largest, (1 + iteration) / (10 + iteration))


class Teaching(HookBase):
    """Lets the teacher follow the student, chooses thresholds, watches the teacher's boxes.

    This hook comes first: that step's validation and checkpoint must contain what it changes, and its evaluations
    come before a step is seeded.
    """

    def __init__(
        self, pool: Pool, stepped: TeacherStudent, health: TeacherHealth, choose: Callable[[], Sequence[float]]
    ):
        """
        Args:
            choose: () -> a threshold a class, from validation; called after the burn-in where the config has none.
        """
        self.stepped, self._health, self._choose = stepped, health, choose
        self._largest, self._burn_in = pool.keys.EMA, pool.burn_in
        self._chosen_on_validation = not pool.keys.THRESHOLDS and pool.keys.CONTROL != "labeled"

    def before_train(self) -> None:
        """Give the student the weights that the run begins with."""
        if self.trainer.start_iter == 0:  # the teacher has the weights that the run begins with
            self.stepped.student.load_state_dict(self.stepped.teacher.state_dict())

    def before_step(self) -> None:
        """Choose thresholds after the burn-in where the config has none."""
        if self._chosen_on_validation and self.trainer.iter == self._burn_in:
            self.stepped.thresholds = torch.tensor(self._choose(), dtype=torch.float32)

    def after_step(self) -> None:
        """Move the teacher, and count and report its boxes."""
        iteration = self.trainer.iter
        follow(self.stepped.teacher, self.stepped.student, keep_rate(iteration, self._largest))
        if iteration >= self._burn_in:
            self._health.add(self.stepped.pseudo)
            if self._health.is_due(iteration, self.trainer.max_iter):
                self._health.report(iteration, self.stepped.teacher, self.stepped.thresholds)

    def state_dict(self) -> dict:
        """Return what a resumed run needs."""
        student = {name: value.cpu() for name, value in self.stepped.student.state_dict().items()}
        return {"student": student, "thresholds": self.stepped.thresholds, "health": self._health.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Take what `state_dict` returned."""
        self.stepped.student.load_state_dict(state["student"])
        self.stepped.thresholds = state["thresholds"]
        self._health.load_state_dict(state["health"])


def _above(found: Instances, thresholds: torch.Tensor) -> Instances:
    kept = found[found.scores > thresholds[found.pred_classes]]
    boxes = Boxes(kept.pred_boxes.tensor.float())
    return Instances(kept.image_size, gt_boxes=boxes, gt_classes=kept.pred_classes, scores=kept.scores.float())


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalize by the batch without learning from it: the student is tested on plain images."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    states = [module.track_running_stats for module in norms]
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module, state in zip(norms, states, strict=True):
            module.track_running_stats = state
