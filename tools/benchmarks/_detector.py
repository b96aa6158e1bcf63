"""Steps of a detector, stock Detectron2's way or ours, timed, with the loss of each."""

from __future__ import annotations

import resource
import time

WAYS = {
    # name: (loader, keys of the config, backbone compiled)
    "stock fp32": ("stock", {}, False),
    "stock TF32": ("stock", {"CXR.TF32": True}, False),
    "stock AMP": ("stock", {"SOLVER.AMP.ENABLED": True}, False),
    "ours bf16": ("ours", {"CXR.AMP": "bf16", "CXR.TF32": True, "CXR.CHANNELS_LAST": True}, False),
    "ours bf16 compiled": ("ours", {"CXR.AMP": "bf16", "CXR.TF32": True, "CXR.CHANNELS_LAST": True}, True),
}


def way_config(cfg, way: str):
    """Return a copy of the config with a way's keys, and every other way's switched off.

    Args:
        cfg: Detectron2's config with the CXR keys.
        way: one of WAYS.
    """
    cfg = cfg.clone()
    cfg.defrost()
    keys = {"CXR.AMP": "off", "CXR.TF32": False, "CXR.CHANNELS_LAST": False, **WAYS[way][1]}
    cfg.merge_from_list([part for key, value in keys.items() for part in (key, value)])
    return cfg


def stock_loader(cfg, images: list[dict]):
    """Return Detectron2's own loader, which decodes the PNGs."""
    from detectron2.data import DatasetMapper, build_detection_train_loader
    from detectron2.data.samplers import TrainingSampler

    return build_detection_train_loader(
        images,
        mapper=DatasetMapper(cfg, is_train=True),
        sampler=TrainingSampler(len(images), seed=0),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def timed_steps(cfg, loader, warm: int, steps: int, compiled: str = "") -> dict:
    """Train from random weights; return images a second, the loss of every step, and the most memory held.

    Args:
        cfg: of the run; CXR.AMP, CXR.TF32, CXR.CHANNELS_LAST and SOLVER.AMP.ENABLED count.
        loader: yields batches of SOLVER.IMS_PER_BATCH images without end.
        warm: steps before the clock starts; they include compilation.
        steps: that are timed.
        compiled: name of a backend of torch.compile for backbone and FPN; "" compiles nothing.
    """
    from detectron2.utils.events import EventStorage

    stepper = make_stepper(cfg, loader, compiled)
    began = time.perf_counter()
    with EventStorage(0) as storage:
        for step in range(warm + steps):
            if step == warm:
                synchronize()
                start = time.perf_counter()
            storage.iter = step
            stepper.iter = step  # AMPTrainer and SimpleTrainer write their metrics under it
            stepper.run_step()
        synchronize()
        seconds = time.perf_counter() - start
        losses = [round(value, 4) for value, _ in storage.history("total_loss").values()]
    rate = steps * cfg.SOLVER.IMS_PER_BATCH / seconds
    return {"images_per_second": rate, "seconds_before": start - began, "loss": losses, "memory_mb": memory_mb()}


def make_stepper(cfg, loader, compiled: str = ""):
    """Return a trainer of single steps over a new model with random weights, the same for every call."""
    import torch
    from detectron2.modeling import build_model

    from d2_cxr.engine import train_step

    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cfg.CXR.TF32
    torch.manual_seed(0)
    model = build_model(cfg).train()
    if cfg.CXR.CHANNELS_LAST:
        train_step.to_channels_last(model)
    if compiled:
        model.backbone.compile(backend=compiled)
    return train_step.build_stepper(cfg, model, loader, train_step.build_optimizer(cfg, model))[0]


def memory_mb() -> int:
    """Return the most memory that was held: of the GPU's allocator where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
