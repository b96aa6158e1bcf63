"""One training step, Detectron2's or the same with a forward pass in bfloat16; optimizer, processes, memory format."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine.train_loop import AMPTrainer, SimpleTrainer
from detectron2.solver.build import build_optimizer as detectron2_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from d2_cxr import precision
from d2_cxr.counted import counted


class DivergenceError(ValueError):
    """The loss of a training became infinite or NaN."""


class _Step:
    """Detectron2's metrics, without its traceback in the log when the loss is not finite."""

    iter: int  # of Detectron2's TrainerBase

    def _write_metrics(
        self, loss_dict: Mapping[str, torch.Tensor], data_time: float, prefix: str = "", iter: int | None = None
    ) -> None:
        SimpleTrainer.write_metrics(loss_dict, data_time, self.iter if iter is None else iter, prefix)


class Float32Trainer(_Step, SimpleTrainer):
    """Detectron2's step."""


class Float16Trainer(_Step, AMPTrainer):
    """Detectron2's step under float16 autocast with a scaled loss; for GPUs."""


class BFloat16Trainer(_Step, SimpleTrainer):
    """Detectron2's step with the forward pass under bfloat16 autocast; works on the CPU, unlike `AMPTrainer`.

    bfloat16 has float32's range, so no gradient scaling is needed.
    """

    def run_step(self) -> None:
        """Take one step."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(next(self.model.parameters()).device.type, dtype=torch.bfloat16):
            losses = self.model(batch)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()


def build_stepper(
    cfg: CfgNode, model: nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer
) -> tuple[SimpleTrainer, tuple[str, str]]:
    """Return the trainer of single steps, and its number format with the reason.

    Raises:
        ValueError: CXR.AMP is not one of off, bf16, auto, or both kinds of mixed precision are on.
    """
    if cfg.SOLVER.AMP.ENABLED:
        if cfg.CXR.AMP != "off":
            raise ValueError("SOLVER.AMP.ENABLED (float16) and CXR.AMP (bfloat16) are both on; choose one")
        return Float16Trainer(model, loader, optimizer), ("fp16", "SOLVER.AMP.ENABLED")
    if cfg.CXR.AMP not in ("off", "bf16", "auto"):
        raise ValueError(f"CXR.AMP is {cfg.CXR.AMP!r}; choose off, bf16 or auto")
    if cfg.CXR.AMP == "off":
        return Float32Trainer(model, loader, optimizer), ("fp32", "CXR.AMP off")
    chosen = comm.all_gather(precision.choose(cfg.CXR.AMP, cfg.MODEL.DEVICE))[0]  # one answer for all processes
    kind = BFloat16Trainer if chosen[0] == "bf16" else Float32Trainer
    return kind(model, loader, optimizer), chosen


_NO_RATE_DOES_THIS = 1e3  # a first loss: that of random weights is below 10


def divergence(error: FloatingPointError, cfg: CfgNode, iteration: int, losses: Sequence[float]) -> DivergenceError:
    """Return the error in one line: the iteration, the last losses, and what to try.

    Args:
        error: Detectron2's.
        cfg: of the run.
        iteration: the last step, counted from 0.
        losses: total losses of earlier steps, oldest first.
    """
    tips = [f"a lower SOLVER.BASE_LR (it is {cfg.SOLVER.BASE_LR:g})", "a longer SOLVER.WARMUP_ITERS"]
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        tips.append("SOLVER.CLIP_GRADIENTS.ENABLED True")
    if cfg.CXR.AMP != "off" or cfg.SOLVER.AMP.ENABLED:
        tips.append("CXR.AMP off and SOLVER.AMP.ENABLED False")
    if losses and iteration <= len(losses) and losses[0] > _NO_RATE_DOES_THIS:
        tips = [
            "other MODEL.WEIGHTS: the loss was too high before the first update (BatchNorm statistics of a short "
            "pretraining may be why: MODEL.RESNETS.NORM SyncBN with MODEL.BACKBONE.FREEZE_AT 0 learns them anew)"
        ]
    before = ", ".join(f"{value:.3g}" for value in losses) or "none"
    reason = " ".join(str(error).split())
    return DivergenceError(
        f"training diverged after {counted(iteration, 'step')}: {reason} Total losses before: {before}. "
        f"Try {', '.join(tips)}"
    )


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Return Detectron2's SGD, or AdamW with the same parameter groups and clipping.

    Raises:
        ValueError: CXR.OPTIMIZER is another name.
    """
    if cfg.CXR.OPTIMIZER == "SGD":
        return detectron2_optimizer(cfg, model)
    if cfg.CXR.OPTIMIZER != "AdamW":
        raise ValueError(f"CXR.OPTIMIZER is {cfg.CXR.OPTIMIZER!r}; choose SGD or AdamW")
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    kind = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    # fused: one pass over each weight instead of a dozen. Not with float16: with a fused optimizer the gradients are
    # unscaled inside its step, which is after they were clipped.
    fused = not cfg.SOLVER.AMP.ENABLED
    return kind(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY, fused=fused)


def wrap_for_processes(model: nn.Module, device: str) -> nn.Module:
    """Return the model, wrapped in DistributedDataParallel if there are several processes.

    On the CPU no device ids are given: Detectron2 always passes them, and PyTorch then raises.
    """
    if comm.get_world_size() == 1:
        return model
    devices = None if device == "cpu" else [comm.get_local_rank()]
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


def to_channels_last(model: Any) -> nn.Module:
    """Store the weights and the backbone's input images channels-last, in place; results do not change."""
    model.to(memory_format=torch.channels_last)
    model.backbone.register_forward_pre_hook(_images_channels_last)
    return model


def _images_channels_last(_module: nn.Module, inputs: tuple) -> tuple:
    return (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])


def set_machine(threads: int, tf32: bool) -> None:
    """Set PyTorch's number of threads, where it is above 0, and TF32."""
    if threads > 0:
        torch.set_num_threads(threads)
    if tf32:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
