"""Names in a study: of prepared sets, of registered data sets, of run folders, and of files of the repository."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import yaml

from d2_cxr import configs
from d2_cxr.artifacts import sha256_file

REPOSITORY = Path(__file__).resolve().parents[3]

# Images that an arm learns from without their labels: names behind the split's prefix.
POOLS = {
    "complement": ("{complement}",),  # the training images without labels at this label fraction, as in the paper
    "all": ("train_unlabeled",),  # all training images with findings
    "all+negative": ("train_unlabeled", "negative_train"),  # and the training images without findings
    "unlabeled": ("unlabeled",),  # images without annotations
    "all+unlabeled": ("train_unlabeled", "unlabeled"),
}


def set_name(settings: dict, seed: int) -> str:
    """Name of the prepared set that a seed uses; a study with `split_seeds` prepares one split for each seed."""
    name = settings["data"]["name"]
    return f"{name}_split{seed}" if settings["data"].get("split_seeds") else name


def train_name(settings: dict, label_fraction: int, seed: int) -> str:
    """Registered name of the labeled training images, e.g. phantom_cxr_train_labeled_30_seed0."""
    start = prefix(settings, seed)
    if label_fraction == 100:
        return f"{start}_train"
    return f"{start}_train_labeled_{label_fraction}{_fraction_suffix(settings, seed)}"


def test_name(settings: dict, seed: int, split: str = "test") -> str:
    """Return the registered name of the test (or val) images, e.g. phantom_cxr_test."""
    return f"{prefix(settings, seed)}_{split}"


def pool_names(settings: dict, plan: Mapping, label_fraction: int, seed: int) -> list[str]:
    """Return the registered names of a pool, never a labeled name.

    Args:
        settings: of the study.
        plan: of a pretraining or a teacher: `pool` (of POOLS) and `pool_fraction` (percent of its images, nested).
    """
    start, pool = prefix(settings, seed), plan.get("pool", "all")
    fraction = plan.get("pool_fraction", 100)
    cut = "" if fraction == 100 else f"_pool_{fraction}_seed{seed}"
    if pool == "complement" and label_fraction == 100:
        raise ValueError("pool: complement leaves no image at 100 % of the labels; drop the label fraction or take all")
    rest = f"train_unlabeled_{100 - label_fraction}{_fraction_suffix(settings, seed)}"
    return [f"{start}_{part.format(complement=rest)}{cut}" for part in POOLS[pool]]


def source(arm: dict) -> str | None:
    """Return the name (or path) of an arm's weights; `permuted(NAME)` is the negative control of NAME."""
    weights = arm.get("weights")
    return weights.removeprefix("permuted(").removesuffix(")") if weights else None


def run_folder(arm: str, label_fraction: int, seed: int) -> str:
    """Return a run's folder below the study's."""
    return f"runs/{arm}/{label_fraction}/seed{seed}"


def in_repository(path: str) -> Path:
    """Return a file of the repository; a config that an installed wheel holds elsewhere is found there."""
    packaged = configs.FOLDER / path.removeprefix("configs/")
    return packaged if packaged.is_file() and not (REPOSITORY / path).is_file() else REPOSITORY / path


@functools.cache
def config_files(path: str) -> tuple[str, ...]:
    """A YAML config and the files that it inherits from by `_BASE_`, from the repository's root.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    found = []
    while path:
        full = in_repository(path)
        if not full.is_file():
            raise FileNotFoundError(f"there is no config {path} in {REPOSITORY}")
        found.append(path)
        base = (yaml.safe_load(full.read_text(encoding="utf-8")) or {}).get("_BASE_")
        path = _from_root((full.parent / base).resolve()) if base else ""
    return tuple(found)


def _from_root(full: Path) -> str:
    """Inverse of `in_repository`."""
    if full.is_relative_to(configs.FOLDER):
        return f"configs/{full.relative_to(configs.FOLDER)}"
    return str(full.relative_to(REPOSITORY))


def file_fingerprint(path: str) -> str:
    """sha256 of a file of the repository or the user; "absent" where it is missing."""
    full = in_repository(path)
    if not full.is_file():
        return "absent"
    status = full.stat()
    return _file_fingerprint(full, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _file_fingerprint(full: Path, modified: int, size: int) -> str:
    return sha256_file(full)


def prefix(settings: dict, seed: int) -> str:
    """Return what the data-set names of a seed begin with."""
    return settings["data"].get("prefix") or set_name(settings, seed)


def _fraction_suffix(settings: dict, seed: int) -> str:
    return "" if settings["labels"].get("subsets", "nested") == "published" else f"_seed{seed}"
