"""A prepared set of a few pictures, written by hand in the form of docs/formats.md, and a detector as small."""

import importlib

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts
from d2_cxr.datasets import builtin

SIZE = 64
CLASSES = ("Disc", "Square")
PARTS = {"train": 12, "val": 4, "test": 5}
NORMALS = {"negative_train": 6, "negative_val": 2, "negative_test": 3}

TINY = [  # KEY VALUE pairs that make configs/quick_schedules/demo_R_18.yaml a matter of a second
    *("DATASETS.TRAIN", "('tiny_cxr_train',)", "DATASETS.TEST", "('tiny_cxr_test',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MAX_SIZE_TRAIN", "64"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "64"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0"),
    *("CXR.AMP", "off", "CXR.RESAMPLES", "20", "CXR.NUM_THREADS", "1", "TEST.DETECTIONS_PER_IMAGE", "10"),
]
NETWORK = ("MODEL.BACKBONE.NAME", "build_tiny_fpn_backbone")  # of tiny_network.py, which another process does not know


def picture(number: int, with_finding: bool) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """Return a noisy gray picture and its (class, XYWH) findings; even numbers hold a disc, every third a square."""
    random = np.random.default_rng(number)
    image = random.integers(40, 80, (SIZE, SIZE)).astype(np.uint8)
    found = []
    if with_finding:
        x, y = (int(value) for value in random.integers(4, 20, 2))
        if number % 2 == 0 or number % 3:
            cv2.circle(image, (x + 10, y + 10), 10, 220, -1)
            found.append((0, [x, y, 20, 20]))
        if number % 3 == 0:
            image[y + 20 : y + 36, x + 22 : x + 40] = 160
            found.append((1, [x + 22, y + 20, 18, 16]))
    return image, found


def write_tiny_set(root):
    """Write the set; every image's number decides its picture."""
    rows, next_id = [], 1
    for part, count in {**PARTS, **NORMALS}.items():
        coco = {
            "images": [],
            "annotations": [],
            "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
        }
        for _ in range(count):
            radiograph = f"image{next_id:03d}"
            image, found = picture(next_id, "negative" not in part)
            artifacts.write_with(
                root / "images" / f"{radiograph}.png", lambda path, image=image: cv2.imwrite(path, image)
            )
            size = {"width": SIZE, "height": SIZE, "source_width": 4 * SIZE, "source_height": 4 * SIZE}
            coco["images"].append({"id": next_id, "file_name": f"{radiograph}.png", **size})
            for category, box in found:
                annotation = {"id": len(coco["annotations"]) + 1, "image_id": next_id, "category_id": category + 1}
                annotation |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "num_readers": 1, "reader_ious": {}}
                coco["annotations"].append(annotation)
            hashes = {"source": b"source" + image.tobytes(), "image": image.tobytes()}
            hashes = {f"{key}_sha256": artifacts.sha256_bytes(value) for key, value in hashes.items()}
            rows.append({"image_name": radiograph, **hashes})
            next_id += 1
        artifacts.write_json(root / "annotations" / "stratified" / f"{part}.json", coco)
    artifacts.write_csv(root / "manifest.csv", rows, ["image_name", "source_sha256", "image_sha256"])
    preprocess = {"size": SIZE, "resize": "squash", "equalize": "histogram", "window": "file"}
    values = {"name": "tiny_cxr", "class_names": list(CLASSES), "preprocess": preprocess}
    artifacts.write_json(root / "dataset.json", {"format_version": 2, **values, **fingerprints_of(root, rows)})


def fingerprints_of(root, rows) -> dict:
    """Return what a preparation writes into dataset.json of these files."""
    files = {
        path.relative_to(root / "annotations").as_posix(): artifacts.read_json(path)
        for path in (root / "annotations").rglob("*.json")
    }
    pairs = sorted((row["image_name"], row["image_sha256"]) for row in rows)
    return {
        "images_fingerprint": artifacts.sha256_lines(f"{image} {sha256}" for image, sha256 in pairs),
        "annotations_fingerprint": artifacts.sha256_json(files),
    }


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    """The folder of the set `tiny_cxr`, registered."""
    root = tmp_path_factory.mktemp("tiny") / "tiny_cxr"
    write_tiny_set(root)
    builtin.register_prepared("tiny_cxr", root)
    return root


@pytest.fixture
def tiny_opts():
    """KEY VALUE pairs of the small detector."""
    return list(TINY)


def tiny_setup(tiny_set, opts, output):
    from d2_cxr.engine.config import setup

    importlib.import_module("tiny_network")  # registers the backbone
    config = "configs/quick_schedules/demo_R_18.yaml"
    return setup(config, [*TINY, *NETWORK, "CXR.DATASETS", f"[['tiny_cxr', '{tiny_set}']]", *opts], output)


@pytest.fixture
def tiny_cfg(tiny_set, tmp_path):
    """Return a function: KEY VALUE pairs -> config of a run on the tiny set, in a folder of its own."""

    def make(*opts, output="run"):
        return tiny_setup(tiny_set, opts, tmp_path / output)

    return make


@pytest.fixture(scope="session")
def trained_once(tiny_set, tmp_path_factory):
    """Return a function: KEY VALUE pairs -> config of a finished run, trained once for all tests that only read it."""
    from d2_cxr.engine import trainer

    done = {}

    def train(*opts):
        if opts not in done:
            done[opts] = tiny_setup(tiny_set, opts, tmp_path_factory.mktemp("once") / "run")
            trainer.train(done[opts])
        return done[opts]

    return train


@pytest.fixture(scope="session")
def finished(tiny_set, tmp_path_factory):
    """A run of 4 iterations with validation and negative images: its config, what it returned, its folder."""
    from d2_cxr.engine import trainer

    folder = tmp_path_factory.mktemp("finished") / "run"
    opts = ["SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "2", "CXR.NEGATIVE_RATIO", "0.5", "CXR.VAL_LOSS", "True"]
    cfg = tiny_setup(tiny_set, opts, folder)
    return cfg, trainer.train(cfg), folder


@pytest.fixture
def forget_fingerprints():
    """Return a function: take the fingerprints out of a set's dataset.json, as if an old version had prepared it."""

    def forget(root):
        values = artifacts.read_json(root / "dataset.json")
        kept = {key: value for key, value in values.items() if not key.endswith("_fingerprint")}
        artifacts.write_json(root / "dataset.json", kept)

    return forget
