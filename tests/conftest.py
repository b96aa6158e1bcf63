"""Fixtures that several rooms share: tools as modules, tiny DICOM files, weights, a prepared set, real data."""

import copy
import gc
import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from d2_cxr import artifacts
from d2_cxr.datasets import leakage, named_sets

ROOT = Path(__file__).resolve().parents[1]
if "D2_CXR_FILMS" in os.environ:  # the name until 0.2.0, which a shell's profile may still set
    os.environ.setdefault("D2_CXR_IMAGES", os.environ["D2_CXR_FILMS"])
pytest_plugins = ["tiny_detector"]  # a set and a detector that several rooms share
if yaml.__with_libyaml__:  # the same language, read and written ten times as fast; a run holds ten configs
    yaml.SafeLoader, yaml.SafeDumper = yaml.CSafeLoader, yaml.CSafeDumper


def pytest_collection_modifyitems(items):
    """Begin with the longest, a study: at the end, one of two processes would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_flow.py")


def pytest_collectstart():
    """Collect no garbage while the stack is imported."""
    gc.disable()


def pytest_collection_finish():
    """Leave what is imported, half a million objects, out of every later collection of garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def load_tool():
    """Return a function: name of a script in tools/, which is not a package -> its module."""

    def load(name: str):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def vinbigdata_csv() -> Path:
    """VinDr-CXR's annotation file as torchxrayvision ships it; its terms forbid a copy in this repository."""
    spec = importlib.util.find_spec("torchxrayvision")  # located, not imported: importing it needs imageio
    path = Path(spec.origin).parent / "data" / "vinbigdata-train.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        pytest.skip("VinDr-CXR's annotation file is missing: pip install torchxrayvision")
    return path


@pytest.fixture(scope="session")
def open_images() -> Path:
    """The folder of real open images named by D2_CXR_IMAGES (docs/real_data.md)."""
    folder = os.environ.get("D2_CXR_IMAGES")
    if not folder:
        pytest.skip("real open images are missing: set D2_CXR_IMAGES to their folder (docs/real_data.md)")
    return Path(folder)


@pytest.fixture(autouse=True)
def no_leak_stays_allowed(monkeypatch):
    """`--allow` sets a variable of the process, which would hold for every later test."""
    monkeypatch.setenv(leakage.ALLOW_VARIABLE, "")


@pytest.fixture
def small_disk(tmp_path):
    """Return a function: kilobytes -> a folder on a disk of that size; called again, the same disk is resized."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(kilobytes: int) -> Path:
        options = f"{'remount,' if mounted else ''}size={kilobytes}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", folder], check=True)


NATIVE = (ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@pytest.fixture
def make_dicom(tmp_path):
    """Return a function that writes pixels as DICOM; an element given as None is left out."""

    def make(
        pixels,
        bits_allocated=16,
        bits_stored=12,
        signed=False,
        syntax=ExplicitVRLittleEndian,
        frame=None,
        name="image.dicom",
        **elements,
    ) -> Path:
        kind = f"{'i' if signed else 'u'}{bits_allocated // 8}"
        pixels = np.asarray(pixels).astype(kind)
        dataset = Dataset()
        values = {
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": bits_allocated,
            "BitsStored": bits_stored,
            "HighBit": None if bits_stored is None else bits_stored - 1,
            "PixelRepresentation": int(signed),
        }
        for keyword, value in {**values, **elements}.items():
            if value is not None:
                setattr(dataset, keyword, value)
        if "PixelData" not in elements:
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
            raw = encapsulate([frame]) if frame is not None else raw + b"\0" * (len(raw) % 2)
            dataset.PixelData = raw
            dataset["PixelData"].VR = "OB" if frame is not None or bits_allocated == 8 else "OW"
            dataset["PixelData"].is_undefined_length = frame is not None
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
        dataset.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


def make_state(architecture, seed=0):
    import torch
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(torchvision.models, architecture)(weights=None)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
    return {name: value.detach() for name, value in network.state_dict().items()}


@pytest.fixture(scope="session")
def resnet18():
    return make_state("resnet18")


@pytest.fixture
def solo_file(tmp_path, resnet18):
    """Write a checkpoint as solo-learn 1.0.2 does; `change(state)` may damage it first."""
    import torch

    def write(change=None, name="last.ckpt", prefix="encoder."):
        state = {prefix + key: value.clone() for key, value in resnet18.items() if not key.startswith("fc.")}
        state |= {"projector.0.weight": torch.zeros(8, 512), "classifier.weight": torch.zeros(1, 512)}
        if change:
            state = change(state) or state
        path = tmp_path / name
        torch.save({"state_dict": state, "epoch": 3}, path)
        return path

    return write


NUM_IMAGES = 24


def write_prepared_set(root, num_images=NUM_IMAGES, size=64, seed=0, array=False):
    """Write a prepared set (docs/formats.md, 1) whose train.json names all its images; return its folder."""
    chance = np.random.default_rng(seed)
    images, manifest, pixels = [], [], []
    for number in range(num_images):
        coarse = chance.integers(0, 256, (6, 6), dtype=np.uint8)
        image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        pixels.append(image)
        image_name = f"{seed}image{number:03d}"
        path = root / "images" / f"{image_name}.png"
        artifacts.write_bytes(path, cv2.imencode(".png", image)[1].tobytes())
        images.append({"id": number + 1, "file_name": path.name, "width": size, "height": size})
        hashes = {"source_sha256": artifacts.sha256_file(path), "image_sha256": artifacts.sha256_bytes(image.tobytes())}
        manifest.append({"image_name": image_name, "outcome": "prepared", **hashes})
    artifacts.write_csv(root / "manifest.csv", manifest, list(manifest[0]))
    if array:
        artifacts.write_with(root / "images.npy", lambda path: np.save(path, np.stack(pixels)))
        artifacts.write_csv(
            root / "images.csv", [{"image_name": row["image_name"]} for row in manifest], ["image_name"]
        )
    truth = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "Cardiomegaly"}]}
    artifacts.write_json(root / "annotations/stratified/train.json", truth)
    artifacts.write_json(
        root / "dataset.json",
        {
            "format_version": named_sets.FORMAT_VERSION,
            "name": "tiny",
            "class_names": ["Cardiomegaly"],
            "images_fingerprint": artifacts.sha256_lines(
                f"{row['image_name']} {row['image_sha256']}"
                for row in sorted(manifest, key=lambda row: row["image_name"])
            ),
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
def tiny_config(tiny_settings):
    """A copy of `tiny_settings` to change."""
    return copy.deepcopy(tiny_settings)


@pytest.fixture(scope="session")
def tiny_settings(prepared):
    """Settings of a pretraining of seconds: ResNet-18 at 32 px, batch 8, two epochs of three steps."""
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


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Install a wheel into an environment that sees this one's packages, but not this checkout; return its bin."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("d2_cxr-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env"), "platbase": str(folder / "env")}))
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # The stack is 6.5 GB: lend it, behind the environment's own packages, without the .pth of an editable install.
    (target / "stack.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin", folder
