"""Weights from elsewhere: fetched, compared by sha256, and converted unless they are Detectron2's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from d2_cxr import artifacts


def make_weights(settings: Mapping, target: Path, study_dir: Path) -> dict:
    """Write `target` (.json), which has the value for MODEL.WEIGHTS, and next to it the converted `.pth`.

    Args:
        settings: `file` (path or URL); optionally `sha256` (whole, or its first 8 digits or more), `timm`
            (name of timm's model), `pixel_mean` and `pixel_std` (RGB, 0-255 scale).

    Raises:
        FileNotFoundError: the file does not exist or cannot be fetched.
        ValueError: the file has another sha256, or cannot be converted completely.
    """
    from d2_cxr.checkpoint.convert import convert_file
    from d2_cxr.engine.start_weights import local_path, require_sha256

    path = Path(local_path(settings["file"]))
    stated = settings.get("sha256")
    found = require_sha256(settings["file"], stated) if stated else artifacts.sha256_file(path)
    weights = settings["file"]
    if not _is_detectron2s(path):
        options = {key: settings[key] for key in ("timm", "pixel_mean", "pixel_std") if key in settings}
        convert_file(path, target.with_suffix(".pth"), **options)
        weights = str(target.with_suffix(".pth").relative_to(study_dir))
    artifacts.write_json(target, {"weights": weights, "source": settings["file"], "sha256": found})
    return {"sha256": found}


def _is_detectron2s(path: Path) -> bool:
    """Whether a file is one of the zoo's pickles or contains a backbone under Detectron2's names."""
    from d2_cxr.checkpoint.loading import load_weights_file
    from d2_cxr.checkpoint.resnet_names import BOTTOM_UP

    content = load_weights_file(path).get("model")
    if path.suffix == ".pkl":
        return True
    return isinstance(content, dict) and any(name.startswith(BOTTOM_UP) for name in content)
