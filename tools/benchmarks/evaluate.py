"""How long an evaluation with 1000 bootstrap resamples takes, against one evaluation by pycocotools without any.

    python tools/benchmark.py evaluate
    python tools/benchmark.py evaluate --growth

Simulated results, 100 detections on each of 880 images in 14 classes. `core` is matching, the COCO mAP family, FROC and
AUROC, per class and over all, each with its resamples; `everything` is what `tools/evaluate.py` computes, with the
prior-box row, errors and the comparison with three readers per image. `--growth` evaluates 500, 2,000 and 8,000 images,
each in a separate process, and gives seconds and peak memory; with `--readers` of everything, not of the metrics alone.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import multiprocessing
import resource
import statistics
import time

from benchmarks import _record

GROWTH = (500, 2000, 8000)  # images
FORK = multiprocessing.get_context("fork")  # nothing large is loaded yet
CORE = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "image_auroc")  # of each class, and their means


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = _record.parser("evaluate", __doc__)
    parser.add_argument("--images", type=int, default=880, help="images of the set (%(default)s)")
    parser.add_argument("--classes", type=int, default=14, help="classes of the set (%(default)s)")
    parser.add_argument("--detections", type=int, default=100, help="detections per image (%(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, the median counts (%(default)s)")
    parser.add_argument("--growth", action="store_true", help="measure time and memory for 500, 2,000 and 8,000 images")
    parser.add_argument(
        "--readers", action="store_true", help="with --growth: also the prior-box baseline and three readers"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.growth:
        return _record.finish("evaluate", growth(args.classes, args.resamples, args.readers), argv, args.json)
    truth, results, readers = simulate(args.images, args.classes, args.detections)
    numbers = measure(truth, results, readers, args.resamples, args.rounds)
    return _record.finish("evaluate", numbers, argv, args.json)


def measure(truth: dict, results: list[dict], readers: dict, resamples: int, rounds: int) -> dict:
    """Return the median seconds of each way, taken in turns, and how they compare."""
    ways = {
        "pycocotools_once": lambda: _pycocotools(truth, results),
        "faster_coco_eval_once": lambda: _faster_coco_eval(truth, results),
        "match": lambda: _match(truth, results),
        "core": lambda: _core(truth, results, resamples),
        "everything": lambda: _everything(truth, results, readers, resamples),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            values[name] = way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: round(statistics.median(taken), 3) for name, taken in seconds.items()}
    return {
        "seconds": medians,
        "core_over_pycocotools": round(medians["core"] / medians["pycocotools_once"], 3),
        "mAP": {name: values[name] for name in ("pycocotools_once", "faster_coco_eval_once", "core", "everything")},
        "images": len(truth["images"]),
        "truth_boxes": len(truth["annotations"]),
        "detections": len(results),
        "resamples": resamples,
    }


def growth(classes: int, resamples: int, with_readers: bool = False) -> dict:
    """Return a row per number of images, and what 8,000 take over 2,000; 62 detections per image."""
    rows = [_in_a_process(images, classes, resamples, with_readers) for images in GROWTH]
    print("| images | detections | seconds | CPU seconds | peak MB | input MB |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(f"{value:,}" for value in row.values()) + " |")
    ratio = {key: round(rows[-1][key] / rows[-2][key], 2) for key in ("seconds", "cpu_seconds")}
    return {"growth": rows, "last_over_the_one_before": ratio, "resamples": resamples, "readers": with_readers}


def _in_a_process(*arguments: int) -> dict:
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_one_size, args=(sender, *arguments))
    process.start()
    row = receiver.recv()
    process.join()
    return row


def _one_size(sender, images: int, classes: int, resamples: int, with_readers: bool) -> None:
    from d2_cxr.evaluation.evaluate import evaluate

    truth, results, readers = simulate(images, classes, 62)
    more = {"train_truth": truth, "readers": readers} if with_readers else {}
    held, start, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    evaluate(truth, results, resamples=resamples, **more)
    taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    row = {"images": images, "detections": len(results), **{key: round(value, 2) for key, value in taken.items()}}
    sender.send({**row, "peak_mb": _peak_mb(), "input_mb": held})


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # kB on Linux


def _pycocotools(truth: dict, results: list[dict]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = truth
        api.createIndex()
        run = COCOeval(api, api.loadRes(copy.deepcopy(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


def _faster_coco_eval(truth: dict, results: list[dict]) -> float | None:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(copy.deepcopy(truth))
        run = COCOeval_faster(api, api.loadRes(copy.deepcopy(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


def _match(truth: dict, results: list[dict]):
    from d2_cxr.evaluation.matching import match

    return match(truth, results)


def _core(truth: dict, results: list[dict], resamples: int) -> float:
    from d2_cxr.evaluation import estimates, froc, metrics

    matches = _match(truth, results)
    weights = estimates.with_original(estimates.image_weights(matches, resamples, 0))
    computation = metrics.Computation(matches, weights, range(len(matches.class_names)))
    for name in (*CORE, *(f"froc_sens_at_{rate}" for rate in froc.RATE_NAMES)):
        computation.per_class(name)
        if name in metrics.OVERALL:
            computation.overall(name)
    return float(computation.overall("mAP")[0])


def _everything(truth: dict, results: list[dict], readers: dict, resamples: int) -> float:
    from d2_cxr.evaluation.evaluate import evaluate

    return evaluate(truth, results, resamples=resamples, train_truth=truth, readers=readers).value("mAP")


def simulate(num_images: int, num_classes: int, per_image: int) -> tuple[dict, list[dict], dict]:
    """Return COCO truth (about 4 boxes per image), results (jittered copies, background), three readers' boxes."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = [{"id": n, "file_name": f"{n}.png", "width": 512, "height": 512} for n in range(1, num_images + 1)]
    boxes = [_box(rng, image["id"], num_classes) for image in images for _ in range(rng.poisson(3) + 1)]
    truth = {
        "images": images,
        "annotations": [{**box, "id": number, "iscrowd": 0} for number, box in enumerate(boxes, start=1)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, num_classes + 1)],
    }
    results = []
    for box in boxes:
        results += [_scored(_moved(rng, box), rng.beta(2, 3)) for _ in range(rng.integers(0, 6))]
    counts = np.bincount([row["image_id"] for row in results], minlength=num_images + 1)
    for image in images:
        missing = max(0, per_image - counts[image["id"]])
        results += [_scored(_box(rng, image["id"], num_classes), rng.beta(1, 6)) for _ in range(missing)]
    rng.shuffle(results)
    names = ["R1", "R2", "R3"]
    readers = {
        "images": [{**image, "readers": names} for image in images],
        "categories": truth["categories"],
        "annotations": [{**_moved(rng, box), "reader": name} for box in boxes for name in names if rng.random() < 0.8],
    }
    return truth, results, readers


def _box(rng, image: int, num_classes: int) -> dict:
    width, height = (float(side) for side in 10 ** rng.uniform(1, 2.4, 2))
    bbox = [float(rng.uniform(0, 512 - width)), float(rng.uniform(0, 512 - height)), width, height]
    return {"image_id": image, "category_id": int(rng.integers(num_classes)) + 1, "bbox": bbox, "area": width * height}


def _moved(rng, box: dict) -> dict:
    x, y, width, height = box["bbox"]
    dx, dy, dw, dh = rng.normal(0, 0.15, 4) * [width, height, width, height]
    bbox = [float(x + dx), float(y + dy), float(max(2, width + dw)), float(max(2, height + dh))]
    return {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": bbox}


def _scored(box: dict, score: float) -> dict:
    return {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(score)}
