"""How fast the detector gets its images, and trains on them, against Detectron2's own way.

    python tools/benchmark.py train
    python tools/benchmark.py train --steps 200 --config-file configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml
    python tools/benchmark.py train --profile --steps 5 --rounds 3 --config-file configs/quick_schedules/demo_R_18.yaml

The loader: our mapper from the memory-mapped array and from gray PNGs against Detectron2's DatasetMapper on the same
512 px images with five boxes each, in turns, medians. The steps: stock DefaultTrainer and ours on the same images, same
config, in float32 and (ours) in the number format that pays here; --profile takes them in turns and divides a step
into loader, backbone, FPN, RPN, RoI heads, backward passes and optimizer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import _detector, _record

SIZE, BOXES, CLASSES = 512, 5, 14
GOAL = 10.0  # times DatasetMapper, from the array


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("train", __doc__)
    parser.add_argument("--images", type=int, default=32, help="synthetic images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds, the median counts (%(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="training steps to time as well (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="also measure every part of those steps")
    parser.add_argument("--batch-size", type=int, help="images per step; default: the config's")
    parser.add_argument(
        "--config-file",
        default="configs/VinDr-CXR/faster_rcnn_R_50_FPN_random.yaml",
        help="config of those steps (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import torch

    torch.set_num_threads(1 if not torch.cuda.is_available() else torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        images = write_set(Path(folder), args.images)
        if args.profile:
            numbers = {"milliseconds": measure_parts(step_ways(images, args), args.steps or 10, args.rounds)}
            return _record.finish("train", numbers, argv, args.json)
        numbers = {"milliseconds_per_sample": measure_loading(images, args.rounds)}
        if args.steps:
            numbers["images_per_second"] = measure_steps(step_ways(images, args), args.steps)
    usual = numbers["milliseconds_per_sample"]["DatasetMapper"]
    numbers["times_faster"] = {key: usual / value for key, value in numbers["milliseconds_per_sample"].items()}
    numbers["goal"] = {"array": GOAL, "met": numbers["times_faster"]["array"] >= GOAL}
    return _record.finish("train", numbers, argv, args.json)


def write_set(folder: Path, count: int) -> dict[str, list[dict]]:
    """Write the same images with and without an array; return Detectron2's dicts of both."""
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    smooth = [cv2.resize(random.random((24, 24), np.float32), (SIZE, SIZE)) for _ in range(count)]
    images = np.stack(
        [(image * 200 + random.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8) for image in smooth]
    )
    for name in ("array", "png"):
        (folder / name / "images").mkdir(parents=True)
        for index, image in enumerate(images):
            cv2.imwrite(str(folder / name / "images" / f"{index}.png"), image)
    np.save(folder / "array" / "images.npy", images)
    rows = "".join(f"{index}\n" for index in range(count))
    (folder / "array" / "images.csv").write_text(f"image_name\n{rows}")
    return {name: [dataset_dict(folder / name, index, random) for index in range(count)] for name in ("array", "png")}


def dataset_dict(root: Path, index: int, random) -> dict:
    from detectron2.structures import BoxMode

    corners = random.uniform(10, SIZE / 2, (BOXES, 2))
    boxes = [[*map(float, corner), 80.0, 60.0] for corner in corners]
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": int(random.integers(CLASSES)), "iscrowd": 0}
        for box in boxes
    ]
    path = str(root / "images" / f"{index}.png")
    names = {"file_name": path, "image_name": str(index), "image_id": index}
    return {**names, "height": SIZE, "width": SIZE, "annotations": annotations}


def measure_loading(images: dict[str, list[dict]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds a training sample of each way."""
    from detectron2.data import DatasetMapper

    from d2_cxr.datasets.mapper import CXRMapper, ImageDataset
    from d2_cxr.engine.config import load_config

    cfg = load_config("configs/Base-Faster-RCNN-FPN.yaml")
    stock = DatasetMapper(cfg, is_train=True)
    array, png = (ImageDataset(images[name], CXRMapper.from_config(cfg, is_train=True)) for name in ("array", "png"))
    ways = {
        "DatasetMapper": lambda index: stock(images["png"][index]),
        "array": lambda index: array[index, index],
        "png": lambda index: png[index, index],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            for index in range(len(images["png"])):
                way(index)
            seconds[name].append((time.perf_counter() - start) / len(images["png"]))
    return {name: 1000 * statistics.median(values[1:]) for name, values in seconds.items()}  # the first warms up


def measure_steps(ways: dict[str, tuple], steps: int) -> dict[str, float]:
    """Return images a second of training: Detectron2's loader and step, then ours, over `steps` steps each."""
    warm = max(1, steps // 10)
    return {name: _detector.timed_steps(*way, warm, steps)["images_per_second"] for name, way in ways.items()}


def measure_parts(ways: dict[str, tuple], steps: int, rounds: int) -> dict[str, dict]:
    """Return for each way to train the milliseconds of every part of a step; the ways take `steps` steps in turns."""
    from benchmarks._profile import Profile

    profiles = {name: Profile(_detector.make_stepper(*way)) for name, way in ways.items()}
    for _ in range(rounds):
        for profile in profiles.values():
            profile.run(steps)
    return {name: profile.table() for name, profile in profiles.items()}


def step_ways(images: dict[str, list[dict]], args: argparse.Namespace) -> dict[str, tuple]:
    """Return for each way to train its config and its loader."""
    import torch

    from d2_cxr.engine.config import load_config

    cfg = load_config(args.config_file)
    cfg.SOLVER.IMS_PER_BATCH = args.batch_size or cfg.SOLVER.IMS_PER_BATCH
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.WEIGHTS = CLASSES, ""
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.CXR.AMP, cfg.CXR.CHANNELS_LAST = "off", False
    alone, format_alone, both = cfg.clone(), cfg.clone(), cfg.clone()
    alone.CXR.AMP, format_alone.CXR.CHANNELS_LAST = "auto", True
    both.CXR.AMP, both.CXR.CHANNELS_LAST = "auto", True
    ours = {
        "ours float32": cfg,
        "ours float32, channels-last": format_alone,
        "ours bf16 where it pays": alone,
        "ours, what pays here": both,
    }
    stock = {"stock float32": (cfg, _detector.stock_loader(cfg, images["png"]))}
    return stock | {name: (one, our_loader(one, images["array"])) for name, one in ours.items()}


def our_loader(cfg, images: list[dict]):
    import torch

    from d2_cxr.engine.build_loaders import TrainingImages, build_train_loader

    names = tuple(str(index) for index in range(CLASSES))
    return build_train_loader(cfg, TrainingImages(images, [], torch.ones(len(images)), names), seed=0)[0]
