"""Launch training or evaluation in one process or one per GPU; user errors are reported on one line."""

from __future__ import annotations

import torch
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from d2_cxr import cli
from d2_cxr.engine import trainer


def launch(
    config_file: str,
    opts: list[str],
    resume: bool = False,
    eval_only: bool = False,
    *,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> int:
    """Train or evaluate in `num_gpus` processes on each machine, with Detectron2's own launcher; return the exit code.

    Raises:
        ValueError: PyTorch sees fewer GPUs, where it sees any; else as `trainer.train`.
    """
    seen = torch.cuda.device_count()
    if 0 < seen < num_gpus:
        raise ValueError(f"--num-gpus is {num_gpus}, but PyTorch sees {seen}; check CUDA_VISIBLE_DEVICES")
    where = {"num_machines": num_machines, "machine_rank": machine_rank, "dist_url": dist_url}
    try:
        detectron2_launch(_run, num_gpus, **where, args=(config_file, opts, resume, eval_only))
    except ProcessExitedException as error:
        if error.exit_code not in (cli.MISTAKE, cli.UNEXPECTED):
            raise
        return error.exit_code  # the process has said what it is
    return 0


def _run(config_file: str, opts: list[str], resume: bool, eval_only: bool) -> None:
    cli.leave_on_sigterm()
    try:
        cfg = trainer.setup(config_file, opts)
        what = trainer.evaluate_only if eval_only else trainer.train
        what(cfg, resume)
    except Exception as error:
        if comm.get_world_size() == 1:
            raise
        cli.end_with(error)  # an exception would reach the first process as the text of a traceback
