"""Findings for files and folders, written as they are found: what `tools/predict.py` does.

Images are decoded in worker processes, as in preparation: a file whose decoder hangs or crashes is refused alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2_cxr.prediction import findings
from d2_cxr.prediction.findings import Findings
from d2_cxr.prediction.findings_folder import FindingsFolder
from d2_cxr.prediction.image_inputs import image_files, image_names
from d2_cxr.prediction.predictor import Predictor
from d2_cxr.preparation import workers
from d2_cxr.progress import Bar

__all__ = ["image_files", "predict"]
_MAX_JOBS = 4  # decoding processes


def predict(
    predictor: Predictor, inputs: Sequence[str | Path], output: str | Path, overlays: bool = True
) -> tuple[list[Findings], dict[str, str]]:
    """Write findings.json, findings.csv, detector.json, overlays/ and, if images were refused, refused.csv.

    findings.jsonl (one image per line), overlays/ and refused.csv are written image by image. The same call continues
    an interrupted one: results of the same detector on the same files stay (findings_folder.py), all others of an
    earlier call in the folder are removed.

    Args:
        predictor: the detector.
        inputs: files and folders.
        output: folder.
        overlays: also write one picture per image with the reported boxes.

    Returns:
        the findings of the images that could be read, in the order of the inputs, and file -> reason for the others.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder contains no image, another process writes to the output folder, or no image at all could
            be read (refused.csv names the reasons).
        OSError: a result cannot be written.
    """
    files, refused = image_files(inputs)
    folder = FindingsFolder(Path(output), predictor, image_names(files, inputs), overlays)
    with folder.opened():
        for file, reason in refused.items():
            folder.refuse(file, reason)
        left = [path for path in files if path not in folder.done]
        progress = Bar(desc="predict", total=len(files), initial=len(folder.done), unit="image")
        with progress:
            for decoded, parts in _decoded(left, folder):
                folder.add(decoded, parts)
                progress.update()
        images = [folder.done[path] for path in files if path in folder.done]
        if images:
            findings.write_csv(Path(output) / "findings.csv", images)
            findings.write_json(Path(output) / "findings.json", images)
    if not images:
        path, reason = next(iter(folder.refused.items()))
        raise ValueError(f"no image could be read; {path}: {reason} (all reasons: {Path(output) / 'refused.csv'})")
    return images, folder.refused


def _decoded(files: Sequence[Path], folder: FindingsFolder) -> Iterator[tuple[Path, dict[str, dict]]]:
    """Yield each file with the worker's results: "network", the detector's input, and "shown", the overlay's image."""
    views = {"network": folder.predictor.preprocess, **({"shown": findings.SHOWN} if folder.overlays else {})}
    tasks = [
        {"path": str(path), "png": f"{folder.scratch}/{index}-{view}.png", "rules": rules.to_dict(), "view": view}
        for index, path in enumerate(files)
        for view, rules in views.items()
    ]
    waiting: dict[str, dict[str, dict]] = {}
    for task, result in workers.run(tasks, jobs=min(_MAX_JOBS, os.cpu_count() or 1, len(tasks))):
        parts = waiting.setdefault(task["path"], {})
        parts[task["view"]] = {**result, "png": task["png"]}
        if len(parts) == len(views):
            yield Path(task["path"]), waiting.pop(task["path"])
