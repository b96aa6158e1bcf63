"""Measure a GPU in parts, the most valuable first; each part is written as soon as it is measured.

    python tools/benchmark.py gpu --minutes 9 --output output/gpu
    python tools/benchmark.py gpu --tiny --output output/gpu_tiny

Parts: doctor and versions; rendered images of 512 px; 200 iterations of Faster R-CNN R50 each of stock Detectron2 in
fp32, TF32 and AMP and of ours in bf16, also compiled; SimCLR R50 at 224 px against synthetic input; a whole run in the
time that is left (pretraining, conversion, fine-tuning, AP50 against the prior box). The same command skips the parts
whose JSON is in the output folder, and its exit code is 0 when all are there. Each part is a separate process, so
that a failure costs that part alone; its log is PART.log. --tiny runs small sizes on any machine. Nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _detector, _record

from d2_cxr import artifacts
from d2_cxr.cli import run_tool

ROOT = Path(__file__).resolve().parents[2]
_RESERVE = 25  # seconds that a whole run needs in addition to its two trainings: imports, conversion, evaluation


@dataclass(frozen=True)
class Scale:
    """How large the parts are; `seconds` are the least that a part needs to be begun."""

    images: int
    rendered: int  # px of the longer side
    prepared: int  # px
    detector: str  # config file
    detector_opts: tuple
    warm: int
    steps: int
    compiler: str
    simclr: tuple[str, ...]  # options of `benchmark.py pretrain --rate`
    pretraining: tuple[str, ...]  # settings of the whole run's pretraining
    least_seconds: dict[str, int]


FULL = Scale(
    images=600,
    rendered=640,
    prepared=512,
    detector="configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml",
    detector_opts=("SOLVER.IMS_PER_BATCH", 8, "DATALOADER.NUM_WORKERS", 8, "MODEL.DEVICE", "cuda"),
    warm=20,
    steps=200,
    compiler="inductor",
    simclr=("--backbone", "resnet50", "--size", "224", "--batch-size", "256", "--steps", "30"),
    pretraining=("backbone=resnet50", "image_size=224", "batch_size=128", "augmentation.blur_sigma=[0.1,2.0]"),
    least_seconds={"machine": 0, "images": 60, "detector": 45, "simclr": 45, "whole_run": 90},
)
TINY = Scale(
    images=40,
    rendered=128,
    prepared=96,
    detector="configs/quick_schedules/demo_R_18.yaml",
    detector_opts=("SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 1, "INPUT.MIN_SIZE_TRAIN", [96]),
    warm=1,
    steps=3,
    compiler="aot_eager",  # traced as on a GPU; what Inductor would compile for a minute is run as it is
    simclr=("--backbone", "resnet18", "--size", "32", "--batch-size", "4", "--steps", "3"),
    pretraining=("image_size=32", "batch_size=4"),
    least_seconds={},
)
DETECTORS = {f"detector_{way.lower().replace(' ', '_')}": way for way in _detector.WAYS}
_COMPILED = "detector_ours_bf16_compiled"  # last: a compiler that hangs must not cost the other parts their time
PARTS = ("machine", "images", *(part for part in DETECTORS if part != _COMPILED), "simclr", "whole_run", _COMPILED)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("gpu", __doc__)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the parts; a later call skips those that are there"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit of all parts (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, which run on a CPU too")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, in this process")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    args.output = args.output.resolve()
    if not args.tiny:
        _require_gpu()
    deadline = time.monotonic() + 60 * args.minutes
    if args.part:
        numbers = measure(args.part, args.output, TINY if args.tiny else FULL, deadline)
        artifacts.write_json(args.output / f"{args.part}.json", numbers)
        return 0
    left_out = {}
    for part in PARTS:
        if (args.output / f"{part}.json").is_file():
            continue
        reason = _run_part(part, args, deadline)
        if reason:
            left_out[part] = reason
            sys.stderr.write(f"{part}: {reason}\n")
    parts = {part: artifacts.read_json(path) for part in PARTS if (path := args.output / f"{part}.json").is_file()}
    _record.finish("gpu", {"parts": parts, "left_out": left_out}, argv, args.json or args.output / "gpu.json")
    return 1 if left_out else 0


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise ValueError("PyTorch sees no GPU (torch.cuda.is_available() is False); --tiny runs without one")


def _run_part(part: str, args: argparse.Namespace, deadline: float) -> str | None:
    """Measure a part in a separate process that ends by the deadline; return why there is nothing, else None."""
    seconds = deadline - time.monotonic()
    least = (TINY if args.tiny else FULL).least_seconds.get("detector" if part in DETECTORS else part, 5)
    if seconds < max(least, 1):
        return f"not begun: {max(seconds, 0):.0f} s are left, {least} are needed; the same command measures it"
    sys.stderr.write(f"{part} ({seconds:.0f} s left) ...\n")
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "gpu", "--part", part]
    command += ["--output", str(args.output), "--minutes", str(seconds / 60), *(["--tiny"] if args.tiny else [])]
    log = args.output / f"{part}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream, _gpu_use(args.output / f"{part}.use.csv"):
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its loaders' workers too, and those of an interrupted part
            process.wait()
    if (args.output / f"{part}.json").is_file():  # the last thing that a part does
        return None
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1]
    return f"{'out of time' if code is None else f'exit code {code}'}: {last} (see {log})"


@contextlib.contextmanager
def _gpu_use(path: Path):
    """Let nvidia-smi write use (percent) and memory (MiB) of the GPU into a file once a second, where there is one."""
    query = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--loop=1"]
    with path.open("w", encoding="utf-8") as stream:
        try:
            process = subprocess.Popen(["nvidia-smi", *query], stdout=stream, stderr=subprocess.DEVNULL)
        except OSError:
            process = None
        try:
            yield
        finally:
            if process:
                process.terminate()
                process.wait()


def measure(part: str, folder: Path, scale: Scale, deadline: float) -> dict:
    """Return what a part measures, with the seconds that it took, imports included."""
    os.chdir(ROOT)  # names of configs are relative to it
    start = time.perf_counter()
    if part in DETECTORS:
        numbers = measure_detector(DETECTORS[part], folder, scale)
    else:
        ways = {"machine": about_machine, "images": make_images, "simclr": measure_simclr, "whole_run": whole_run}
        numbers = ways[part](folder, scale, deadline)
    return {**numbers, "seconds": round(time.perf_counter() - start, 1)}


def about_machine(*_: object) -> dict:
    """Return the doctor's lines and the driver's description of the GPU."""
    from d2_cxr import doctor

    lines = [f"{'ok' if found.ok else 'missing'} {found.subject}: {found.seen}" for found in doctor.examine()]
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        driver = None
    return {"doctor": lines, "driver": driver, "command": " ".join(sys.argv), **_record.origin()}


def make_images(folder: Path, scale: Scale, _deadline: float) -> dict:
    """Render phantoms as DICOM and prepare them; what is there already is kept."""
    from d2_cxr.projects.phantom_cxr.make import make_phantoms

    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.preparation.options import PrepareOptions
    from d2_cxr.preparation.prepare import prepare

    source = folder / "phantoms"
    began = time.perf_counter()
    make_phantoms(source, scale.images, size=scale.rendered, seed=11)
    rendered = time.perf_counter()
    tables = {"annotations": source / "train.csv", "patients": source / "patients.csv"}
    options = {"name": "phantom_cxr", "preprocess": Preprocess(size=scale.prepared), "array": True}
    prepare(PrepareOptions(source / "dicom", set_folder(folder), **tables, **options))
    done = time.perf_counter()
    return {"images": scale.images, "rendering_s": rendered - began, "preparation_s": done - rendered}


def set_folder(folder: Path) -> Path:
    return folder / "datasets" / "phantom_cxr"


def detector_config(folder: Path, scale: Scale, opts: tuple = (), output: Path | None = None):
    """Return the config of a detector on the rendered images."""
    from d2_cxr.engine.config import setup

    fixed = ["DATASETS.TRAIN", ("phantom_cxr_train",), "DATASETS.TEST", ("phantom_cxr_test",)]
    fixed += ["CXR.DATASETS", [["phantom_cxr", str(set_folder(folder))]], "CXR.EPOCHS", 0]
    return setup(scale.detector, [*fixed, *scale.detector_opts, *opts], output)


def measure_detector(way: str, folder: Path, scale: Scale) -> dict:
    """Return images a second, memory and losses of one way to train on the rendered images."""
    import torch

    from d2_cxr.engine.build_loaders import build_train_loader, training_images
    from d2_cxr.engine.run_sets import RunSets

    loader, _, compiled = _detector.WAYS[way]
    if way == "stock AMP" and not torch.cuda.is_available():
        return {"left_out": "Detectron2's AMPTrainer requires CUDA"}
    cfg = _detector.way_config(detector_config(folder, scale), way)
    images = training_images(cfg, RunSets.of(cfg))
    if loader == "stock":
        batches = _detector.stock_loader(cfg, images.findings)
    else:
        batches = build_train_loader(cfg, images, seed=0)[0]
    found = _detector.timed_steps(cfg, batches, scale.warm, scale.steps, scale.compiler if compiled else "")
    return {**found, "batch": cfg.SOLVER.IMS_PER_BATCH, "gpu_use": gpu_use(folder, way)}


def measure_simclr(folder: Path, scale: Scale, _deadline: float) -> dict:
    """Return views per second of pretraining, with images and with one batch that is kept on the device."""
    from benchmarks import pretrain

    target = folder / "simclr_rate.json"
    pretrain.main(["--rate", *scale.simclr, "--json", str(target)])
    return {**artifacts.read_json(target), "memory_mb": _detector.memory_mb(), "gpu_use": gpu_use(folder, "simclr")}


def whole_run(folder: Path, scale: Scale, deadline: float) -> dict:
    """Pretrain, convert, fine-tune and evaluate in the remaining seconds; return AP50 and the prior-box baseline's."""
    from d2_cxr.checkpoint.convert import convert_file
    from d2_cxr.engine import trainer
    from d2_cxr.pretraining.settings import read_settings
    from d2_cxr.pretraining.train import pretrain

    output = folder / "whole_run"
    budget = _budget(folder, scale, deadline)
    settings = read_settings("configs/pretraining/simclr_R_18_demo.yaml", scale.pretraining)
    settings |= {"sets": [["phantom_cxr", str(set_folder(folder))]], "num_views": budget["views"]}
    settings["checkpoint_every"] = 20
    checkpoint = pretrain(settings, output / "pretraining")
    weights = output / "weights.pth"
    convert_file(checkpoint, weights)
    opts = {"MODEL.WEIGHTS": str(weights), "SOLVER.MAX_ITER": budget["iterations"], "CXR.RESAMPLES": 200}
    opts |= {"CXR.OPTIMIZER": "AdamW", "SOLVER.BASE_LR": 0.0003, "SOLVER.WEIGHT_DECAY": 0.01, "CXR.AMP": "auto"}
    opts |= {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR", "SOLVER.WARMUP_ITERS": budget["iterations"] // 10}
    opts |= {"CXR.CHANNELS_LAST": True, "SOLVER.CHECKPOINT_PERIOD": 200}
    flat = tuple(part for key, value in opts.items() for part in (key, value))
    trainer.train(detector_config(folder, scale, flat, output / "detector"), resume=True)
    found = artifacts.read_json(output / "detector" / "inference" / "phantom_cxr_test" / "evaluation.json")
    row = next(iter(found["rows"].values()))  # the prior box is the one baseline of a run
    compared = {"AP50": found["metrics"]["AP50"], "prior_box_AP50": row["metrics"]["AP50"]}
    return {**budget, **compared, "difference": row["model_minus_row"]["AP50"], "gpu_use": gpu_use(folder, "whole_run")}


def _budget(folder: Path, scale: Scale, deadline: float) -> dict:
    """Return views of pretraining and iterations of fine-tuning for the time left, fixed at the first call.

    Half of the time goes to pretraining and a third to the detector, at the rates that the parts before have measured.
    """
    path = folder / "whole_run" / "budget.json"
    if path.is_file():
        return artifacts.read_json(path)
    if scale is TINY:
        budget = {"views": 100, "iterations": 4}
    else:
        seconds = deadline - time.monotonic() - _RESERVE
        views = artifacts.read_json(folder / "simclr.json")["views per second, images"]
        images = artifacts.read_json(folder / "detector_ours_bf16.json")["images_per_second"]
        budget = {"views": round(0.5 * seconds * views), "iterations": round(0.33 * seconds * images / 8)}
    artifacts.write_json(path, budget)
    return budget


def gpu_use(folder: Path, part: str) -> dict | None:
    """Return the mean use and the largest memory that nvidia-smi saw so far in a part; None without nvidia-smi."""
    names = {way: name for name, way in DETECTORS.items()}
    path = folder / f"{names.get(part, part)}.use.csv"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [[float(cell) for cell in line.split(",")] for line in lines if line.count(",") == 1 and "N/A" not in line]
    if not rows:
        return None
    use, memory = zip(*rows, strict=True)
    return {"median_percent": sorted(use)[len(use) // 2], "most_percent": max(use), "most_memory_mib": max(memory)}


if __name__ == "__main__":
    run_tool(main)
