"""How fast views are made, against solo-learn's own pipeline, and whether making them holds training up.

    python tools/benchmark.py pretrain
    python tools/benchmark.py pretrain --rate --backbone resnet50 --size 224 --batch-size 256

The first uses one core: two views of an image of 512 x 512 px, from the file (a PNG for solo-learn, a row of the
memory-mapped array or a PNG here). The second trains: views a second with images read and augmented, and with one batch
that is on the device already.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import _record

IMAGE = 512  # px, the prepared size


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("pretrain", __doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds, the median counts (%(default)s)")
    parser.add_argument("--images", type=int, default=24, help="images a round (%(default)s)")
    parser.add_argument("--rate", action="store_true", help="measure training with images against synthetic input")
    parser.add_argument("--backbone", default="resnet18", help="network to train (%(default)s)")
    parser.add_argument("--size", type=int, default=96, help="px of a view, with --rate (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images per step, with --rate (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps measured, with --rate (%(default)s)")
    parser.add_argument(
        "--num-workers", type=int, default=None, help="worker processes, with --rate (default: as in training)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder), args.images)
        numbers = measure_rate(images, args) if args.rate else measure_views(images, args.rounds)
    return _record.finish("pretrain", numbers, argv, args.json)


def write_images(root: Path, count: int) -> list[dict]:
    """Write smooth, noisy, equalized images as PNG and as an array; return what `prepared_images` would."""
    import cv2
    import numpy as np

    chance = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "png").mkdir()  # the same set without an array
    (root / "png" / "images").symlink_to(root / "images")
    stack, images = [], []
    for number in range(count):
        coarse = chance.integers(0, 200, (12, 12)).astype(np.float32)
        coarse = cv2.resize(coarse, (IMAGE, IMAGE), interpolation=cv2.INTER_CUBIC)
        image = np.clip(coarse + chance.normal(0, 6, (IMAGE, IMAGE)), 0, 255).astype(np.uint8)
        stack.append(image)
        path = root / "images" / f"image{number:03d}.png"
        cv2.imwrite(str(path), image)
        images.append({"image_name": path.stem, "file_name": str(path)})
    np.save(root / "images.npy", np.stack(stack))
    (root / "images.csv").write_text("image_name\n" + "".join(f"{image['image_name']}\n" for image in images))
    return images


def measure_views(images: list[dict], rounds: int) -> dict:
    """Return milliseconds for two views of an image, one core, medians of interleaved rounds, and the ratios."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    results = {}
    for size in (224, 512):
        ways = {"solo-learn, PNG": solo_views(images, size)}
        for noise in ("none", "text", "code"):
            ways[f"ours, noise {noise}, array"] = our_views(images, size, noise, array=True)
        ways["ours, noise text, PNG"] = our_views(images, size, "text", array=False)
        ways["ours, noise text, array, normalized float"] = our_views(images, size, "text", array=True, normalize=True)
        times = interleaved(ways, rounds, len(images))
        base = times["solo-learn, PNG"]
        results[f"{size} px"] = {
            name: {"ms": round(value, 3), "times faster": round(base / value, 1)} for name, value in times.items()
        }
    return results


def interleaved(ways: dict, rounds: int, count: int) -> dict:
    """Return name -> median milliseconds per image; the ways take turns, so that a busy moment falls on all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            for number in range(count):
                run(number)
            if turn:  # the first warms up
                seconds[name].append((time.perf_counter() - start) / count * 1000)
    return {name: statistics.median(values) for name, values in seconds.items()}


def solo_views(images: list[dict], size: int):
    """solo-learn's own loader with the paper's crop, flip and blur; it has no noise."""
    from d2_cxr.pretraining.method import import_solo

    import_solo()
    from solo.utils.pretrain_dataloader import (
        CustomDatasetWithoutLabels,
        CustomTransform,
        FullTransformPipeline,
        NCropAugmentation,
    )

    transform = CustomTransform(
        0, 0, 0, 0, color_jitter_prob=0, gray_scale_prob=0, gaussian_prob=1.0, min_scale=0.2, crop_size=size
    )
    pipeline = FullTransformPipeline([NCropAugmentation(transform, 2)])
    dataset = CustomDatasetWithoutLabels(Path(images[0]["file_name"]).parent, pipeline)
    return lambda number: dataset[number]


def our_views(radiographs: list[dict], size: int, noise: str, array: bool, normalize: bool = False):
    import torch

    from d2_cxr.pretraining.data import TwoViews
    from d2_cxr.pretraining.views import ViewRules

    if not array:
        images = Path(radiographs[0]["file_name"]).parents[1] / "png" / "images"
        radiographs = [{**image, "file_name": str(images / f"{image['image_name']}.png")} for image in radiographs]
    dataset = TwoViews(radiographs, ViewRules(size=size, noise=noise), seed=0)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])

    def run(number: int):
        views = dataset[(0, number)][1]
        return ((views[..., None].float() - mean) / std).permute(0, 3, 1, 2) if normalize else views

    return run


def measure_rate(images: list[dict], args) -> dict:
    """Return views a second of training steps with images, and with one batch that is on the device already."""
    import torch

    from d2_cxr import precision
    from d2_cxr.pretraining import settings as rules
    from d2_cxr.pretraining.data import EpochSampler, TwoViews, make_loader
    from d2_cxr.pretraining.method import build_method

    device = "cuda" if torch.cuda.is_available() else "cpu"
    overrides = {"datasets": ["images"], "epochs": 1, "backbone": args.backbone, "image_size": args.size}
    settings = rules.complete({**overrides, "batch_size": args.batch_size})
    workers = args.num_workers
    if workers is None:
        workers = min(16, max(1, (os.cpu_count() or 2) - 1)) if device == "cuda" else 0
    needed = args.batch_size * (args.steps + 3)  # one epoch: at the end of each the loader's queue runs empty
    images = [dict(image) for _ in range(-(-needed // len(images))) for image in images]
    dataset = TwoViews(images, rules.view_rules(settings), 0)
    loader = make_loader(dataset, EpochSampler(len(images), args.batch_size, 0), workers, device == "cuda")
    method = build_method(settings, 1).to(device)
    name, reason = precision.choose("auto", device)
    method.uses_bfloat16, method.log_dict = name == "bf16", lambda *_, **__: None
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3)
    with_images = views_per_second(method, optimizer, endless(loader), args, device)
    batch = next(iter(loader))
    synthetic = views_per_second(method, optimizer, iter(lambda: batch, None), args, device)
    return {
        "views per second, images": round(with_images, 1),
        "views per second, synthetic": round(synthetic, 1),
        "share": round(with_images / synthetic, 3),
        "precision": f"{name} ({reason})",
        "workers": workers,
    }


def endless(loader):
    epoch = 0
    while True:
        loader.batch_sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def views_per_second(method, optimizer, batches, args, device: str) -> float:
    import torch

    for step in range(args.steps + 3):
        if step == 3:  # the first compile and fill queues
            synchronize(device)
            start = time.perf_counter()
        numbers, views, targets = (part.to(device, non_blocking=True) for part in next(batches))
        loss = method.training_step(method.on_after_batch_transfer((numbers, views, targets), 0), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    synchronize(device)
    torch.cuda.empty_cache() if device == "cuda" else None
    return 2 * args.batch_size * args.steps / (time.perf_counter() - start)


def synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
