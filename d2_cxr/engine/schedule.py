"""Length of a run: epochs of the *resampled* set -> iterations, with the arithmetic in words.

An epoch is one pass over the images as the sampler repeats them, so iterations follow from the sum of the repeat
factors, not from the number of images: 15 epochs of VinDr-CXR's 3075 training images are 15 * 4657.88 / 8 = 8734
iterations of batch 8.
"""

from __future__ import annotations

import math

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler

_NEAR = 0.9  # of BASE_LR; a cosine after a warm-up never quite reaches it
_DETECTRON2_MAX_ITER = 40000  # its default; together with CXR.EPOCHS it means "not stated"


def iterations(epochs: float, epoch_length: float, batch: int) -> int:
    """Return the iterations of that many epochs, rounded up, at least 1."""
    return max(1, math.ceil(epochs * epoch_length / batch - 1e-9))


def resolve(cfg: CfgNode, epoch_length: float) -> dict:
    """Set `SOLVER.MAX_ITER` and `STEPS` from `CXR.EPOCHS` if that is positive; return the arithmetic.

    Args:
        cfg: changed in place.
        epoch_length: expected number of images per epoch, negative images included.

    Returns:
        plain values: epochs, epoch_length, batch, max_iter, steps, text (one line with the sum written out).

    Raises:
        ValueError: epochs and iterations are both stated and differ, or a step comes after the end.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    if cfg.CXR.EPOCHS > 0:
        _set_iterations(cfg, epoch_length, batch)
    max_iter, steps = cfg.SOLVER.MAX_ITER, [step for step in cfg.SOLVER.STEPS if step < cfg.SOLVER.MAX_ITER]
    cfg.SOLVER.STEPS = tuple(steps)  # Detectron2 warns about steps after the end and ignores them
    epochs = cfg.CXR.EPOCHS or max_iter * batch / epoch_length
    text = f"{epochs:.4g} epochs * {epoch_length:.2f} images / batch {batch} = {max_iter} iterations"
    if steps and cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        text += f"; learning rate {cfg.SOLVER.BASE_LR:g} drops by {cfg.SOLVER.GAMMA:g} at {', '.join(map(str, steps))}"
    return {
        "epochs": epochs,
        "epoch_length": epoch_length,
        "batch": batch,
        "max_iter": max_iter,
        "steps": steps,
        "text": text,
    }


def schedule_warnings(cfg: CfgNode) -> list[str]:
    """Return one warning for each fault of a schedule: the warm-up takes half of the run, or the learning rate never
    comes near BASE_LR.

    Args:
        cfg: with the schedule resolved.
    """
    warm_up, steps = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER
    found = []
    if warm_up * 2 >= steps and warm_up > 0:
        found.append(
            f"the warm-up (SOLVER.WARMUP_ITERS {warm_up}) takes at least half of the {steps} iterations; shorten it"
        )
    multiplier = build_lr_scheduler(cfg, torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0))._multiplier
    reached = cfg.SOLVER.BASE_LR * max(multiplier(step / steps) for step in range(steps))
    if reached < _NEAR * cfg.SOLVER.BASE_LR:
        found.append(
            f"the learning rate reaches {reached:.3g} at most, never SOLVER.BASE_LR {cfg.SOLVER.BASE_LR:g}; set "
            f"SOLVER.WARMUP_ITERS {steps // 10}, or lengthen the run"
        )
    return found


def _set_iterations(cfg: CfgNode, epoch_length: float, batch: int) -> None:
    max_iter = iterations(cfg.CXR.EPOCHS, epoch_length, batch)
    if cfg.SOLVER.MAX_ITER not in (_DETECTRON2_MAX_ITER, max_iter):
        raise ValueError(
            f"CXR.EPOCHS {cfg.CXR.EPOCHS} is {max_iter} iterations of this set, but SOLVER.MAX_ITER is "
            f"{cfg.SOLVER.MAX_ITER}; set CXR.EPOCHS 0 to train by iterations"
        )
    late = [epoch for epoch in cfg.CXR.STEP_EPOCHS if epoch >= cfg.CXR.EPOCHS]
    if late:
        raise ValueError(f"CXR.STEP_EPOCHS {late} are not before the end, CXR.EPOCHS {cfg.CXR.EPOCHS}")
    cfg.SOLVER.MAX_ITER = max_iter
    cfg.SOLVER.STEPS = tuple(iterations(epoch, epoch_length, batch) for epoch in cfg.CXR.STEP_EPOCHS)
