"""Detectron2's checkpointer with three differences: it reads without running pickles, writes all or nothing, and
remembers which tensors a file really gave.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import nn

from d2_cxr import artifacts
from d2_cxr.checkpoint.fingerprint import fingerprint, require_finite, require_same_tensors
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.engine.weights_report import LoadReport, compare


class CXRCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer.

    Attributes:
        report: what the last `load` gave the model.
        extra: goes into every file: `card` (plain values) and `images`.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", *, keep: int = 0, **checkpointables: object):
        """Bind a model to a folder.

        Args:
            model: saved without the wrapper of DistributedDataParallel.
            save_dir: folder of the checkpoints; "" writes none.
            keep: periodic checkpoints (`model_0000999.pth`) left in the folder; 0 keeps all.
            checkpointables: name -> object with state_dict and load_state_dict, saved with the model.
        """
        super().__init__(model, save_dir, **checkpointables)
        self._keep = keep
        self._content: dict[str, Mapping] = {}
        self.extra: dict = {}
        self.report = LoadReport()

    def take(self, path: str, content: Mapping) -> None:
        """Use the content of a file that is in memory already when `path` is loaded."""
        self._content[path] = content

    def load(self, path: str, *args: object, **kwargs: object) -> dict:
        """Load as Detectron2 does, and record the names; "" loads nothing.

        Raises:
            WeightsError: the file is damaged, or its tensors were changed after its card was written.
        """
        self.report = LoadReport(file=path or "")
        rest = super().load(path, *args, **kwargs)
        if path:
            self.report.sha256 = artifacts.sha256_file(self.path_manager.get_local_path(path))
        return rest

    def save(self, name: str, **kwargs: object) -> None:
        """Write `name`.pth with the model, the trainer's state and the card, and name it in `last_checkpoint`."""
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: value.state_dict() for key, value in self.checkpointables.items()}
        self._write(name, {**state, **kwargs})
        artifacts.write_text(Path(self.save_dir) / "last_checkpoint", f"{name}.pth")
        self._drop_old()

    def save_weights(self, name: str, **kwargs: object) -> None:
        """Write `name`.pth with model and card only; resume does not see it."""
        if self.save_dir and self.save_to_disk:
            self._write(name, kwargs)

    def _write(self, name: str, content: dict) -> None:
        model = {key: value.detach() for key, value in _module(self.model).state_dict().items()}
        content = {"model": model, **content, **self.extra}
        if "card" in content:
            require_finite(model, f"the model of {name}.pth")
            content["card"] = {**content["card"], "tensors_sha256": fingerprint(model)}
        artifacts.write_with(Path(self.save_dir) / f"{name}.pth", lambda path: torch.save(content, path))

    def _drop_old(self) -> None:
        periodic = sorted(Path(self.save_dir).glob("model_[0-9]*.pth"))
        for path in periodic[: -self._keep] if self._keep else []:
            os.remove(path)

    def _load_file(self, filename: str) -> dict:
        if not filename.endswith(".pkl"):
            return super()._load_file(filename)
        content = self._content_of(filename)  # Detectron2 would unpickle whatever the file asks for
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)
        model = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}

    def _torch_load(self, path: str) -> dict:
        content = self._content_of(path)
        require_same_tensors(content, path)
        return content

    def _content_of(self, path: str) -> dict:
        """Return a copy of what a file holds; loading takes entries out."""
        content = self._content.pop(path, None) or load_weights_file(path)
        return (
            {**content, "model": dict(content["model"])} if isinstance(content.get("model"), Mapping) else dict(content)
        )

    def _load_model(self, checkpoint: dict) -> object:
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            from_caffe2 = checkpoint.get("__author__") == "Caffe2"
            aligned = align_and_update_state_dicts(self.model.state_dict(), checkpoint["model"], from_caffe2)
            checkpoint["model"], checkpoint["matching_heuristics"] = aligned, False
        self._convert_ndarray_to_tensor(checkpoint["model"])
        given = {name.removeprefix("module."): tuple(value.shape) for name, value in checkpoint["model"].items()}
        self.report = compare(_module(self.model), given, self.report.file)
        return super()._load_model(checkpoint)


def _module(model: nn.Module) -> nn.Module:
    """The model itself, where DistributedDataParallel holds it (and fvcore has not taken it out already)."""
    return getattr(model, "module", model)
