"""What `--resume` may continue: the same config, a checkpoint that is there, a finished run whose files are whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from d2_cxr import artifacts
from d2_cxr.checkpoint.fingerprint import require_same_tensors
from d2_cxr.checkpoint.loading import load_weights_file, load_yaml
from d2_cxr.config import RENAMED_KEYS
from d2_cxr.engine import anchors, run_record

logger = logging.getLogger(__name__)

# Keys that change where or how fast a run computes, not what: a resumed run may have other values.
MAY_CHANGE = (
    "OUTPUT_DIR",
    "SOLVER.CHECKPOINT_PERIOD",
    "DATALOADER.NUM_WORKERS",
    "CXR.KEEP_CHECKPOINTS",
    "CXR.NUM_THREADS",
    "CXR.CHECK_IMAGES",
    "CXR.DATASETS",  # where sets lie; which images they hold is compared by fingerprint
    "VIS_PERIOD",
)


def finished_results(cfg: CfgNode, resume: bool) -> dict | None:
    """Return the results of the run that finished in OUTPUT_DIR, None where none did.

    Args:
        cfg: of the requested run.
        resume: whether the results of the same, finished run are wanted.

    Raises:
        ValueError: a run is finished here and `resume` is False, its config differs, or its weights are damaged.
    """
    path = Path(cfg.OUTPUT_DIR) / "run.json"
    record = artifacts.read_json(path) if path.is_file() else {}
    if record.get("status") != run_record.FINISHED:
        return None
    if not resume:
        raise ValueError(
            f"{cfg.OUTPUT_DIR} holds a finished run; choose another OUTPUT_DIR, or give --resume to get its results"
        )
    require_same_config(cfg, "the run that finished here")
    for name in ("model_final.pth", "model_best.pth"):
        path = Path(cfg.OUTPUT_DIR) / name
        if name == "model_final.pth" or path.is_file():
            _require_whole(path)
    return record.get("results", {})


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the checkpoint that a run in this folder continues from, None where there is none.

    Raises:
        FileNotFoundError: `last_checkpoint` names a file that is gone.
    """
    note = Path(output_dir) / "last_checkpoint"
    if not note.is_file():
        return None
    path = note.parent / Path(note.read_text(encoding="utf-8", errors="replace").strip()).name
    if not path.is_file():
        raise FileNotFoundError(
            f"{note} names {path.name}, which is missing; restore it, or train anew without --resume"
        )
    return path


def require_same_config(cfg: CfgNode, whose: str = "the run that was interrupted here") -> None:
    """Raise if the config in OUTPUT_DIR differs from the requested one in a key outside MAY_CHANGE.

    Raises:
        ValueError: lists the keys with both values.
    """
    path = Path(cfg.OUTPUT_DIR) / "config.yaml"
    if not path.is_file():
        logger.warning("%s is missing: the config of %s cannot be compared", path, whose)
        return
    changed = changed_keys(load_yaml(path), cfg)
    if changed:
        listed = "; ".join(f"{key} was {old!r}, is {new!r}" for key, (old, new) in changed.items())
        raise ValueError(
            f"{whose} ({cfg.OUTPUT_DIR}) had another config: {listed}. Give the same values, or another OUTPUT_DIR"
        )


def changed_keys(stored: Mapping, cfg: CfgNode) -> dict[str, tuple[object, object]]:
    """Return key -> (stored, requested) where a stored config differs; a key that only one of them has is not compared.

    Args:
        stored: plain values of a run's config.yaml, with the schedule resolved.
        cfg: as `setup` returns it.
    """
    asked = _flat(yaml.safe_load(cfg.dump()))
    stored = {RENAMED_KEYS.get(key, key): value for key, value in _flat(stored).items()}
    ignored = set(MAY_CHANGE)
    if cfg.CXR.EPOCHS > 0:  # the schedule follows from the epochs and the set
        ignored |= {"SOLVER.MAX_ITER", "SOLVER.STEPS"}
    else:
        asked["SOLVER.STEPS"] = [step for step in asked["SOLVER.STEPS"] if step < asked["SOLVER.MAX_ITER"]]
    if cfg.CXR.ANCHORS == "auto":  # fitted when the run began, and kept
        ignored |= set(anchors.FITTED_KEYS)
    return {
        key: (stored[key], value)
        for key, value in asked.items()
        if key in stored and key not in ignored and _plain(stored[key]) != _plain(value)
    }


def _require_whole(path: Path) -> None:
    """Raise if the weights of a finished run are missing or damaged."""
    try:
        require_same_tensors(load_weights_file(path), str(path))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"the run in {path.parent} is finished, but {error}; or train in another OUTPUT_DIR"
        ) from error


def _flat(values: Mapping, prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> value of nested mappings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _plain(value: object) -> object:
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value
