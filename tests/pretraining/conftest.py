"""A prepared set of films that are easy to tell apart: smooth random textures, 64 px."""

import cv2
import numpy as np
import pytest

from d2_cxr import artifacts

NUM_FILMS = 24


def write_prepared_set(root, num_films=NUM_FILMS, size=64, seed=0, array=False):
    """Write a prepared set (docs/formats.md, 1) whose train.json names all its films; return its folder."""
    chance = np.random.default_rng(seed)
    images, manifest, pixels = [], [], []
    for number in range(num_films):
        coarse = chance.integers(0, 256, (6, 6), dtype=np.uint8)
        film = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        pixels.append(film)
        image_id = f"{seed}film{number:03d}"
        path = root / "images" / f"{image_id}.png"
        artifacts.write_bytes(path, cv2.imencode(".png", film)[1].tobytes())
        images.append({"id": number + 1, "file_name": path.name, "width": size, "height": size})
        hashes = {"source_sha256": artifacts.sha256_file(path), "image_sha256": artifacts.sha256_bytes(film.tobytes())}
        manifest.append({"image_id": image_id, "outcome": "prepared", **hashes})
    artifacts.write_csv(root / "manifest.csv", manifest, list(manifest[0]))
    if array:
        artifacts.write_with(root / "images.npy", lambda path: np.save(path, np.stack(pixels)))
        artifacts.write_csv(root / "images.csv", [{"image_id": row["image_id"]} for row in manifest], ["image_id"])
    truth = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "Cardiomegaly"}]}
    artifacts.write_json(root / "annotations/stratified/train.json", truth)
    artifacts.write_json(
        root / "dataset.json",
        {
            "format_version": 1,
            "name": "tiny",
            "class_names": ["Cardiomegaly"],
            "images_fingerprint": "f" * 64,
            "preprocess": {"size": size, "resize": "squash", "equalize": "histogram", "window": "file"},
        },
    )
    return root


@pytest.fixture(scope="session")
def write_set():
    return write_prepared_set


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    return write_prepared_set(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def tiny_config(prepared):
    """Settings of a run of seconds: ResNet-18 at 32 px, batch 8, two epochs of three steps."""
    return {
        "datasets": ["tiny_train_unlabeled"],
        "sets": [["tiny", str(prepared)]],
        "backbone": "resnet18",
        "image_size": 32,
        "batch_size": 8,
        "epochs": 2,
        "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 0.0001, "momentum": 0.9},
        "projection": {"hidden_dim": 32, "output_dim": 16},
        "precision": "fp32",
        "accelerator": "cpu",
    }
