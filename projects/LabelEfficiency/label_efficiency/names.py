"""Names in a study: of prepared sets, of registered data sets, of run folders, and of files of the repository."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml

from d2_cxr.artifacts import sha256_file

REPOSITORY = Path(__file__).resolve().parents[3]


def set_name(settings: dict, seed: int) -> str:
    """Name of the prepared set that a seed uses; a study with `split_seeds` prepares one split for each seed."""
    name = settings["data"]["name"]
    return f"{name}_split{seed}" if settings["data"].get("split_seeds") else name


def train_name(settings: dict, percent: int, seed: int) -> str:
    """Registered name of the labeled training images, e.g. phantom_cxr_train_labeled_30_seed0."""
    start = prefix(settings, seed)
    if percent == 100:
        return f"{start}_train"
    return f"{start}_train_labeled_{percent}{_fraction_suffix(settings, seed)}"


def test_name(settings: dict, seed: int, split: str = "test") -> str:
    return f"{prefix(settings, seed)}_{split}"


def pool_names(settings: dict, pool: str, percent: int, seed: int) -> list[str]:
    """Registered names of the images that an arm pretrains on, never a labeled name.

    complement: the training images without labels at this share, as in the paper; all: all training images, without
    their labels; all+negative: these and the training images without findings.
    """
    start = prefix(settings, seed)
    pools = {
        "complement": [f"{start}_train_unlabeled_{100 - percent}{_fraction_suffix(settings, seed)}"],
        "all": [f"{start}_train_unlabeled"],
        "all+negative": [f"{start}_train_unlabeled", f"{start}_negative_train"],
        "unlabeled": [f"{start}_unlabeled"],
        "all+unlabeled": [f"{start}_train_unlabeled", f"{start}_unlabeled"],
    }
    if pool not in pools:
        raise ValueError(f"pool: {pool} is not one of {', '.join(pools)}")
    if pool == "complement" and percent == 100:
        raise ValueError("pool: complement leaves no image at 100 % labels; drop the share or take pool: all")
    return pools[pool]


def run_folder(arm: str, percent: int, seed: int) -> str:
    return f"runs/{arm}/{percent}/seed{seed}"


def config_files(path: str) -> tuple[str, ...]:
    """A YAML config and the files that it inherits from by `_BASE_`, from the repository's root.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    found = []
    while path:
        full = REPOSITORY / path
        if not full.is_file():
            raise FileNotFoundError(f"there is no config {path} in {REPOSITORY}")
        found.append(path)
        base = (yaml.safe_load(full.read_text(encoding="utf-8")) or {}).get("_BASE_")
        path = str((full.parent / base).resolve().relative_to(REPOSITORY)) if base else ""
    return tuple(found)


def file_fingerprint(path: str) -> str:
    """sha256 of a file of the repository or the user; "absent" where it is missing."""
    full = REPOSITORY / path
    if not full.is_file():
        return "absent"
    status = full.stat()
    return _file_fingerprint(full, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _file_fingerprint(full: Path, modified: int, size: int) -> str:
    return sha256_file(full)


def prefix(settings: dict, seed: int) -> str:
    return settings["data"].get("prefix") or set_name(settings, seed)


def _fraction_suffix(settings: dict, seed: int) -> str:
    return "" if settings["labels"].get("fractions", "nested") == "published" else f"_seed{seed}"
