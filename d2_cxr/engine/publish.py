"""A run's detector as files to give away: weights with card, model page, sha256; no optimizer, no path, no image."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.weights_card import WeightsCard, load_with_card
from d2_cxr.counted import counted

SHOWN = ("mAP", "AP50", "AP75", "AP40_vinbigdata", "froc_sens_at_1", "image_auroc", "image_auroc_mean", "mean_best_iou")
INTENDED_USE = (
    "Research on detecting findings on frontal chest radiographs. Not a medical device, not for diagnosis. The metrics "
    "below hold for images like those they were measured on; measure again for another hospital, device or population."
)


def publish(run: str | Path, output: str | Path, name: str | None = None, license_name: str | None = None) -> Path:
    """Write NAME-DIGEST.pth, its card.json, README.md (the model page) and SHA256SUMS; return the weights' path.

    The file holds model, card and the list of training images' hashes (docs/formats.md, 2), which lets a later run
    refuse to be tested on them.

    Args:
        run: a run's folder (its model_final.pth is taken), or a weights file in one.
        output: folder.
        name: of the model; default: of the run's folder.
        license_name: of the weights, e.g. "CC-BY-NC-4.0"; default: the card's.

    Raises:
        FileNotFoundError, WeightsError: there are no weights, or their tensors are not those of their card.
        ValueError: the weights have no card, no license is known, or the name is not a file name.
    """
    weights = Path(run) / "model_final.pth" if Path(run).is_dir() else Path(run)
    content, card = load_with_card(weights)
    if card is None:
        raise ValueError(f"{weights} has no card; publish a run's model_final.pth, or weights of `convert`")
    card.license = license_name or card.license
    if not card.license:
        raise ValueError("no license is known for these weights; name one with --license, e.g. CC-BY-NC-4.0")
    name = name or weights.parent.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise ValueError(f"{name!r} is not a name for a file; give --name letters, digits, - and _")
    kept = {"model": content["model"], "card": card.to_dict()}
    kept |= {"images": content["images"]} if "images" in content else {}
    buffer = io.BytesIO()  # a file's name would be written into the archive, and change its sha256
    torch.save(kept, buffer)
    digest = artifacts.sha256_bytes(buffer.getvalue())
    folder, file = Path(output), f"{name}-{digest[:8]}.pth"
    artifacts.write_bytes(folder / file, buffer.getvalue())
    artifacts.write_json(folder / "card.json", card.to_dict())
    artifacts.write_text(folder / "SHA256SUMS", f"{digest}  {file}\n")
    artifacts.write_text(folder / "README.md", _page(name, file, digest, card, _evaluations(weights.parent)))
    return folder / file


def metric_table(metrics: Mapping[str, Mapping], names: tuple[str, ...] = SHOWN) -> list[str]:
    """Return the lines of a Markdown table: metric, value, 95 % interval, n; undefined ones are left out."""
    lines = ["| metric | value | 95 % interval | n |", "| --- | --- | --- | --- |"]
    for key in [key for key in names if (metrics.get(key) or {}).get("value") is not None]:
        entry = metrics[key]
        edges = entry["interval"]
        interval = f"{edges[0]:.3f} to {edges[1]:.3f}" if edges else "none"
        lines.append(f"| {key} | {entry['value']:.3f} | {interval} | {entry['n']:,} {entry['unit']} |")
    return lines


def _evaluations(run: Path) -> list[dict]:
    found = [artifacts.read_json(path) for path in sorted((run / "inference").glob("*/evaluation.json"))]
    return [evaluation for evaluation in found if evaluation["resamples"]]  # validation has no intervals


def _page(name: str, file: str, digest: str, card: WeightsCard, evaluations: list[dict]) -> str:
    lines = [f"# {name}", "", INTENDED_USE, "", "## Use", ""]
    lines += [f"    d2cxr predict --weights '{file}#sha256:{digest}' image.dcm --output findings", ""]
    lines += ["The same form works in `MODEL.WEIGHTS`, with a URL in place of the path.", "", "## Model", ""]
    lines += [
        "| | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in _facts(card, digest).items() if value),
    ]
    for found in evaluations:
        images = (
            f"{counted(found['num_findings_images'], 'image')} with findings, {found['num_negative_images']:,} without"
        )
        lines += [
            "",
            f"## On {found['dataset']}",
            "",
            f"{images}, {counted(found['num_boxes'], 'box')}. Scores are fractions of 1.",
        ]
        lines += ["", *metric_table(found["metrics"])]
    if not evaluations:
        lines += ["", "No evaluation was found in the run's folder."]
    return "\n".join(lines) + "\n"


def _facts(card: WeightsCard, digest: str) -> dict[str, object]:
    prints = card.data_fingerprints or {}
    rules = card.preprocess or {}
    return {
        "license": card.license,
        "architecture": card.architecture,
        "classes": ", ".join(card.class_names or []),
        "method": card.method,
        "initialized from": card.initialized_from,
        "trained on": ", ".join(card.data_names or []),
        "training images": f"{card.num_images:,}" if card.num_images else None,
        "fingerprints of the data": ", ".join(f"{key} {str(value)[:16]}" for key, value in prints.items()),
        "preprocessing (done by `predict`)": ", ".join(f"{key} {value}" for key, value in rules.items()),
        "citation": " ".join((card.citation or "").split()),
        "made by": f"d2_cxr {card.project_version}, commit {card.project_commit}",
        "sha256": digest,
    }
