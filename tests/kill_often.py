"""Kill (SIGKILL) a training or a pretraining at random moments until it was killed often enough.

    python tests/kill_often.py train --kills 20 --output /tmp/kills

Each kind runs on a set of a few pictures that this script draws. A run is started again after every kill, with the
same command; the weights of every run that comes to its end must equal those of a run that was not killed, tensor by
tensor. The libraries are imported once: every run is a forked process. Prints one line of JSON, and ends with 1 where
weights differ or a run fails.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[[Path], object]  # trains in a folder, or goes on there


def load(path: str):
    """Import a file of the tests or a tool by its path."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def training(output: Path) -> Run:
    """Return a training of six steps with a checkpoint after each."""
    from d2_cxr.datasets import builtin
    from d2_cxr.engine import trainer

    tiny = load("tests/tiny_detector.py")
    tiny.write_tiny_set(output / "tiny_cxr")
    builtin.register_prepared("tiny_cxr", output / "tiny_cxr")
    opts = [*tiny.TINY, "CXR.DATASETS", f"[['tiny_cxr', '{output / 'tiny_cxr'}']]", "SOLVER.MAX_ITER", "6"]
    opts += ["SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "3", "DATASETS.TEST", "()"]
    config = str(ROOT / "configs/quick_schedules/demo_R_18.yaml")
    return lambda folder: trainer.train(trainer.setup(config, opts, folder), resume=True)


def pretraining(output: Path) -> Run:
    """Return a pretraining of four epochs of three steps."""
    from d2_cxr.pretraining.train import pretrain

    prepared = load("tests/conftest.py").write_prepared_set(output / "tiny")
    settings = {
        "datasets": ["tiny_train_unlabeled"],
        "sets": [["tiny", str(prepared)]],
        "backbone": "resnet18",
        "image_size": 32,
        "batch_size": 8,
        "epochs": 4,
        "precision": "fp32",
        "accelerator": "cpu",
        "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 0.0001, "momentum": 0.9},
        "projection": {"hidden_dim": 32, "output_dim": 16},
    }
    return lambda folder: pretrain(settings, folder)


KINDS = {"train": training, "pretrain": pretraining}


def weights_of(folder: Path) -> dict:
    """Return every tensor of the last weights of a run folder."""
    import torch

    found = {}
    for path in sorted([*folder.rglob("model_final.pth"), *folder.rglob("last.ckpt")]):
        content = torch.load(path, weights_only=True, map_location="cpu")
        state = content.get("model") or content["state_dict"]
        found |= {f"{path.relative_to(folder)} {name}": value for name, value in state.items()}
    return found


def same(a: dict, b: dict) -> bool:
    """Whether two sets of weights are equal, and not empty."""
    import torch

    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def started(run: Run, folder: Path) -> int:
    """Run in a forked process with a group of its own; return its number."""
    number = os.fork()
    if number == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.setsid()
            log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            run(folder)
            code = 0
        os._exit(code)
    return number


def ended(number: int, seconds: float | None = None) -> int | None:
    """Wait for a process, at most so long; return its exit code, None where it was killed then."""
    until = None if seconds is None else time.monotonic() + seconds
    while until is None or time.monotonic() < until:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return None


def kill_often(run: Run, output: Path, kills: int, seed: int = 0) -> dict:
    """Kill runs until `kills` were killed, and compare each that comes to its end with one that was not killed.

    Returns:
        kills, compared (runs that came to their end), differing (those with other weights), failed (exit code not 0),
        seconds (of the run that was not killed).
    """
    chance, began = random.Random(seed), time.monotonic()
    if ended(started(run, output / "whole")) != 0:
        raise RuntimeError(f"the run that nobody killed failed: {output / 'whole.log'}")
    seconds, whole = time.monotonic() - began, weights_of(output / "whole")
    counts = {"kills": 0, "compared": 0, "differing": 0, "failed": 0, "seconds": round(seconds, 1)}
    folder = output / "run0"
    while True:
        enough = counts["kills"] >= kills
        began = time.monotonic()
        code = ended(started(run, folder), None if enough else chance.uniform(0.02, 0.9) * seconds)
        if code is None:
            counts["kills"] += 1
            continue
        seconds = min(seconds, time.monotonic() - began)  # on a machine that has become faster
        counts["failed"] += code != 0
        counts["compared"] += 1
        counts["differing"] += not same(whole, weights_of(folder))
        shutil.rmtree(folder)
        folder = output / f"run{counts['compared']}"
        if enough:
            return counts


def main(argv: list[str] | None = None) -> int:
    """Kill one kind, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    counts = kill_often(KINDS[args.kind](args.output.resolve()), args.output.resolve(), args.kills, args.seed)
    sys.stdout.write(json.dumps({"kind": args.kind, **counts}) + "\n")
    return 1 if counts["differing"] or counts["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
