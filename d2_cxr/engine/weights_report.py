"""Where every weight of a run came from, written at iteration 0: `weights.json` and a table.

A parameter that silently kept its initial value is the commonest reason why pretraining "does not help". Detectron2
only warns when names or shapes do not match, and fills missing statistics of its FrozenBN with zeros and ones without
a word. Here the names that the file really gave are recorded, and a run with a hole in its backbone does not start.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from d2_cxr.checkpoint.fingerprint import fingerprint
from d2_cxr.counted import counted

logger = logging.getLogger(__name__)

BOTTOM_UP = "backbone.bottom_up."
RANDOM = "random"
_STATISTICS = ("running_mean", "running_var")
_INPUT_BUFFERS = ("pixel_mean", "pixel_std")  # from the config, never from a file
_GROUPS = (  # the first match names the group; without a match, the first two parts do
    r"backbone\.bottom_up\.network\.\w+(\.\d+)?",  # timm's: conv_stem, blocks.3, layer4.1
    r"backbone\.bottom_up\.\w+",
    r"backbone\.fpn",
    r"proposal_generator",
    r"roi_heads\.\w+",
)
_NORMS = {FrozenBatchNorm2d: "FrozenBN", nn.SyncBatchNorm: "SyncBN", nn.BatchNorm2d: "BN", nn.GroupNorm: "GN"}


@dataclass
class LoadReport:
    """What a weights file gave a model.

    Attributes:
        file: path or URL as configured; "" where nothing was loaded.
        sha256: of the file, None where there is none.
        names: the model's tensors that took their value from it.
        skipped: name -> reason, for tensors in the file whose shape is another one.
        folded_statistics: the file's normalization has no statistics because they are folded into its affine terms
            (Caffe2's ImageNet models).
    """

    file: str = ""
    sha256: str | None = None
    names: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    folded_statistics: bool = False


def groups_of(model: nn.Module) -> dict[str, list[str]]:
    """Return group -> names of its tensors (parameters and buffers that checkpoints hold), in the model's order."""
    groups: dict[str, list[str]] = {}
    for name in model.state_dict():
        if name not in _INPUT_BUFFERS:
            groups.setdefault(_group(name), []).append(name)
    return groups


def weights_report(model: nn.Module, loaded: LoadReport) -> dict:
    """Return the content of `weights.json`.

    Returns:
        file, sha256, skipped, and for each group: origin ("file", "random", "file and random"), tensors, from_file,
        fingerprint (sha256 of names and bytes), frozen ("yes", "no", "partly"), norm; and the same of the backbone.
    """
    state = model.state_dict()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = {name for name, _ in model.named_parameters()} | _frozen(model, ("weight", "bias"))
    norms = _norms(model)
    groups = {}
    for group, names in groups_of(model).items():
        own = [name for name in names if name in parameters]
        from_file = [name for name in names if name in loaded.names]
        groups[group] = {
            "origin": _origin(len(from_file), len([name for name in names if not _is_counter(name)])),
            "tensors": len(names),
            "from_file": len(from_file),
            "fingerprint": fingerprint({name: state[name] for name in names}),
            "frozen": _share(sum(name not in trainable for name in own), len(own)),
            "norm": ", ".join(sorted({norms[name] for name in names if name in norms})) or None,
        }
    backbone = {name: value for name, value in state.items() if name.startswith(BOTTOM_UP)}
    return {
        "file": loaded.file or None,
        "sha256": loaded.sha256,
        "skipped": loaded.skipped,
        "groups": groups,
        "backbone_fingerprint": fingerprint(backbone),
    }


def compare(model: nn.Module, given: Mapping[str, tuple], file: str = "") -> LoadReport:
    """Return which tensors of a model a file fills; before loading, because Detectron2 then adds what is missing.

    Args:
        model: the model itself, not wrapped.
        given: name -> shape of the file's tensors.
        file: for the report.
    """
    report = LoadReport(file)
    for name, value in model.state_dict().items():
        if name in given and given[name] == tuple(value.shape):
            report.names.add(name)
        elif name in given:
            report.skipped[name] = f"shape {given[name]} in the file, {tuple(value.shape)} in the model"
    norms = [name for name in given if ".norm." in name]
    report.folded_statistics = bool(norms) and not any("running_" in name for name in norms)
    return report


def missing_tensors(model: nn.Module, report: LoadReport) -> dict[str, str]:
    """Return name -> reason of the tensors that decide what the model computes and that no file filled."""
    missing = [name for name in model.state_dict() if name not in _INPUT_BUFFERS and not _is_counter(name)]
    missing = [name for name in missing if name not in report.names]
    if report.folded_statistics:
        frozen = _frozen(model, _STATISTICS)
        missing = [name for name in missing if name not in frozen]
    return {name: report.skipped.get(name, "it is not in the file") for name in missing}


def require_complete(model: nn.Module, report: LoadReport) -> None:
    """Raise if a part of a detector that is to be used kept its random values.

    Raises:
        ValueError: names the first tensor.
    """
    missing = missing_tensors(model, report)
    if missing:
        name, reason = next(iter(missing.items()))
        raise ValueError(
            f"{report.file} leaves {counted(len(missing), 'tensor')} of the model random, first: {name} ({reason}); "
            "give a detector trained with this config"
        )


def refusals(model: nn.Module, report: LoadReport) -> list[str]:
    """Return, one sentence each, why training must not start with these weights; [] if it may."""
    missing = missing_tensors(model, report)
    found = []
    holes = [name for name in missing if name.startswith(BOTTOM_UP)] if report.file else []
    if holes:
        number = counted(len(holes), "tensor of the backbone is", "tensors of the backbone are")
        found.append(
            f"{number} random although MODEL.WEIGHTS is {report.file}, first: {holes[0]} ({missing[holes[0]]}); "
            "convert the file with tools/convert_simclr_to_d2.py"
        )
    statistics = _frozen(model, _STATISTICS)
    without = [name for name in missing if name in statistics]
    if without:
        found.append(
            f"FrozenBN lacks {counted(len(without), 'statistic')}, first: {without[0]}; with the initial 0 and 1 "
            "training diverges: use MODEL.RESNETS.NORM BN and MODEL.BACKBONE.FREEZE_AT 0"
        )
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    stuck = [name for name in missing if name in fixed]
    if stuck:
        found.append(
            f"{counted(len(stuck), 'frozen parameter is', 'frozen parameters are')} random and would never learn, "
            f"first: {stuck[0]}; set MODEL.BACKBONE.FREEZE_AT 0"
        )
    return found


def log_report(report: Mapping) -> None:
    """Log the table of groups and what the file held in other shapes."""
    width = max(len(group) for group in report["groups"])
    lines = [f"{'group':{width}}  {'origin':15}  tensors  frozen  norm      fingerprint"]
    lines += [
        f"{group:{width}}  {row['origin']:15}  {row['from_file']:3d}/{row['tensors']:3d}  {row['frozen']:6}  "
        f"{row['norm'] or '-':8}  {row['fingerprint'][:12]}"
        for group, row in report["groups"].items()
    ]
    origin = f"{report['file']} (sha256 {str(report['sha256'])[:12]})" if report["file"] else "no file: all random"
    logger.info("Weights from %s\n%s", origin, "\n".join(lines))
    for name, reason in report["skipped"].items():
        logger.warning("%s was not taken from the file: %s", name, reason)


def _group(name: str) -> str:
    for pattern in _GROUPS:
        match = re.match(pattern, name)
        if match:
            return match[0]
    return ".".join(name.split(".")[:2])


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _frozen(model: nn.Module, buffers: tuple[str, ...]) -> set[str]:
    """Return the names of these buffers of every FrozenBN."""
    names = [name for name, module in model.named_modules() if isinstance(module, FrozenBatchNorm2d)]
    return {f"{name}.{buffer}" for name in names for buffer in buffers}


def _norms(model: nn.Module) -> dict[str, str]:
    """Return the kind of normalization of every tensor that belongs to one."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        kind = next((label for kind, label in _NORMS.items() if isinstance(module, kind)), None)
        if kind:
            found |= {f"{name}.{tensor}": kind for tensor in module.state_dict()}
    return found


def _origin(from_file: int, all_tensors: int) -> str:
    if from_file == 0:
        return RANDOM
    return "file" if from_file >= all_tensors else "file and random"


def _share(part: int, whole: int) -> str:
    if part == 0:
        return "no"
    return "yes" if part == whole else "partly"
