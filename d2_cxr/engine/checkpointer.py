"""Detectron2's checkpointer with three differences: it reads without running pickles, writes all or nothing, and
remembers which tensors a file really gave."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

from d2_cxr import artifacts
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.engine.weights_report import Loaded


class CXRCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer; `loaded` says what the last `load` gave the model, `extra` goes into every file."""

    def __init__(self, model, save_dir: str = "", *, keep: int = 0, **checkpointables):
        """
        Args:
            keep: periodic checkpoints (`model_0000999.pth`) left in the folder; 0 keeps all.
        """
        super().__init__(model, save_dir, **checkpointables)
        self._keep = keep
        self.extra: dict = {}  # goes into every file: card, images
        self.loaded = Loaded()

    def load(self, path: str, *args, **kwargs):
        """Load as Detectron2 does, and record the names; "" loads nothing."""
        self.loaded = Loaded(file=path or "")
        rest = super().load(path, *args, **kwargs)
        if path:
            local = self.path_manager.get_local_path(path)
            self.loaded.sha256 = artifacts.sha256_file(local)
        return rest

    def save(self, name: str, **kwargs) -> None:
        """Write `name`.pth with the model, the trainer's state and the card, and name it in `last_checkpoint`."""
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: value.state_dict() for key, value in self.checkpointables.items()}
        self._write(name, {**state, **kwargs})
        artifacts.write_text(Path(self.save_dir) / "last_checkpoint", f"{name}.pth")
        self._drop_old()

    def save_weights(self, name: str, **kwargs) -> None:
        """Write `name`.pth with model and card only; resume does not see it."""
        if self.save_dir and self.save_to_disk:
            self._write(name, kwargs)

    def _write(self, name: str, content: dict) -> None:
        content = {"model": _module(self.model).state_dict(), **content, **self.extra}
        artifacts.write_with(Path(self.save_dir) / f"{name}.pth", lambda path: torch.save(content, path))

    def _drop_old(self) -> None:
        periodic = sorted(Path(self.save_dir).glob("model_[0-9]*.pth"))
        for path in periodic[: -self._keep] if self._keep else []:
            os.remove(path)

    def _load_file(self, filename: str) -> dict:
        if not filename.endswith(".pkl"):
            return super()._load_file(filename)
        content = load_weights_file(filename)  # Detectron2 would unpickle whatever the file asks for
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)
        model = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}

    def _torch_load(self, path: str) -> dict:
        return load_weights_file(path)

    def _load_model(self, checkpoint: dict):
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            from_caffe2 = checkpoint.get("__author__") == "Caffe2"
            aligned = align_and_update_state_dicts(self.model.state_dict(), checkpoint["model"], from_caffe2)
            checkpoint["model"], checkpoint["matching_heuristics"] = aligned, False
        self._convert_ndarray_to_tensor(checkpoint["model"])
        given = {name.removeprefix("module."): tuple(value.shape) for name, value in checkpoint["model"].items()}
        self._record(given)
        return super()._load_model(checkpoint)

    def _record(self, given: Mapping[str, tuple]) -> None:
        """Note what fits; before loading, because FrozenBN adds the statistics that it misses to what it is given."""
        for name, value in _module(self.model).state_dict().items():
            if name in given and given[name] == tuple(value.shape):
                self.loaded.names.add(name)
            elif name in given:
                self.loaded.skipped[name] = f"shape {given[name]} in the file, {tuple(value.shape)} in the model"
        norms = [name for name in given if ".norm." in name]
        self.loaded.folded_statistics = bool(norms) and not any("running_" in name for name in norms)


def _module(model):
    """The model itself, where DistributedDataParallel holds it (and fvcore has not taken it out already)."""
    return getattr(model, "module", model)
