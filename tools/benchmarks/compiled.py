"""How much faster training and inference are with torch.compile of backbone and FPN, measured beside eager in turns.

    python tools/benchmark.py compiled --config-file configs/quick_schedules/opacity_R_18.yaml
    python tools/benchmark.py compiled --config-file configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml --batch-size 2

Both start from the same weights and see the same batches. Seconds are the processor's, of this process and of the C++
compiler that Inductor calls, so other work on the machine hardly changes them. `pays_after` is the number of steps
(images) after which the compilation has paid for itself; null where it never does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks import _detector, _record, train

BACKEND = "inductor"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("compiled", __doc__)
    parser.add_argument(
        "--config-file",
        default="configs/quick_schedules/opacity_R_18.yaml",
        help="config of the detector (%(default)s)",
    )
    parser.add_argument("--images", type=int, default=32, help="synthetic images (%(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="steps of each kind in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds, the median counts (%(default)s)")
    parser.add_argument("--batch-size", type=int, help="images per step; default: the config's")
    parser.add_argument("--backend", default=BACKEND, help="backend of torch.compile (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # processes that stay would be counted at their end alone
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")  # nothing is compiled already
        import torch

        torch.set_num_threads(1)
        images = train.write_set(Path(folder), args.images)["array"]
        ways = {"eager": "", "compiled": args.backend}
        steppers = {name: _stepper(args, images, backend) for name, backend in ways.items()}
        inference = {name: _Inference(stepper.model, images, stepper.size) for name, stepper in steppers.items()}
        numbers = {
            "inference": in_turns(inference, args.steps, args.rounds),  # first, while both have the same weights
            "training": in_turns(steppers, args.steps, args.rounds),
        }
    return _record.finish("compiled", numbers, argv, args.json)


def in_turns(ways: dict, steps: int, rounds: int) -> dict:
    """Let the ways take steps in turns; return of each the first one's CPU seconds, those of a step, and the values."""
    values: dict[str, list[float]] = {name: [] for name in ways}
    first = {name: _cpu_seconds_of(way, 1, values[name]) for name, way in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(_cpu_seconds_of(way, steps, values[name]) / steps)
    step = {name: statistics.median(seconds) for name, seconds in taken.items()}
    gain = step["eager"] - step["compiled"]
    return {
        "first_step": first,
        "step": step,
        "times_faster": step["eager"] / step["compiled"],
        "pays_after": (first["compiled"] - first["eager"]) / gain if gain > 0 else None,
        "value": {name: [round(value, 5) for value in found] for name, found in values.items()},
    }


def _cpu_seconds_of(way, steps: int, values: list[float]) -> float:
    start = _cpu_seconds()
    for _ in range(steps):
        values.append(way.step())
    return _cpu_seconds() - start


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _stepper(args: argparse.Namespace, images: list[dict], backend: str) -> _Training:
    from d2_cxr.engine.config import load_config

    cfg = load_config(args.config_file)
    cfg.SOLVER.IMS_PER_BATCH = args.batch_size or cfg.SOLVER.IMS_PER_BATCH
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = train.CLASSES, "", "cpu"
    stepper = _detector.make_stepper(cfg, train.our_loader(cfg, images), backend)
    return _Training(stepper, cfg.INPUT.MIN_SIZE_TEST)


class _Training:
    """Training steps; a step's value is its loss."""

    def __init__(self, stepper, size: int):
        self._stepper, self._number = stepper, 0
        self.model, self.size = stepper.model, size

    def step(self) -> float:
        import torch
        from detectron2.utils.events import EventStorage

        self.model.train()
        torch.manual_seed(self._number)  # both ways sample the same anchors and proposals
        with EventStorage(self._number) as storage:
            self._stepper.iter = self._number
            self._stepper.run_step()
        self._number += 1
        return float(storage.latest()["total_loss"][0])


class _Inference:
    """One image after the other in float32, as prediction does; a step's value is the sum of its scores."""

    def __init__(self, model, images: list[dict], size: int):
        import cv2
        import torch

        read = [cv2.resize(cv2.imread(image["file_name"]), (size, size)) for image in images]
        self._images = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in read]
        self._model, self._number = model, 0

    def step(self) -> float:
        import torch

        self._model.eval()
        image = self._images[self._number % len(self._images)]
        self._number += 1
        with torch.inference_mode():
            return float(self._model([{"image": image}])[0]["instances"].scores.sum())
