"""A pretrained ResNet, or network of timm, to a weights file of Detectron2: complete, or it raises.

Detectron2 only warns when a weight is missing, has another shape or another name, and then trains on with random
values. So nothing is left to it: every parameter and buffer of the backbone must be there with its shape, what is left
out is named, and before anything is written the renamed tensors are loaded into Detectron2's backbone and its features
compared with the original network's, stage by stage (verify.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from d2_cxr import __version__, artifacts
from d2_cxr.checkpoint import resnet_names
from d2_cxr.checkpoint.config_file import detector_config, write_config
from d2_cxr.checkpoint.conversion import COUNTER, Conversion, ConversionError, add_counters, check_names, checked_tensor
from d2_cxr.checkpoint.fingerprint import fingerprint, never_updated
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP, torchvision_to_detectron2
from d2_cxr.checkpoint.sources import PREFIXES, is_head, is_momentum, state_dict_of
from d2_cxr.checkpoint.timm_names import NETWORK, convert_timm_state, input_convention, timm_name
from d2_cxr.checkpoint.weights_card import WeightsCard
from d2_cxr.counted import counted

__all__ = ["ConversionError", "convert_file", "convert_state", "state_dict_of", "torchvision_to_detectron2"]
logger = logging.getLogger(__name__)


def convert_file(
    source: str | Path,
    output: str | Path,
    verify: bool = True,
    detector: str | Path | None = None,
    pixel_mean: list[float] | None = None,
    pixel_std: list[float] | None = None,
    prefix: str | None = None,
    trust: bool = False,
    timm: str | None = None,
) -> WeightsCard:
    """Write `output` (.pth) with its card, and next to it the `.yaml` that the weights require.

    Args:
        source: pretraining's `last.ckpt`, a checkpoint of a self-supervised learner (sources.py), or a state dict of
            torchvision's ResNet; `.pth`, `.pt`, `.ckpt` or `.safetensors`.
        output: the `.pth` to write.
        verify: load the written file through Detectron2 and compare features at res2 ... res5.
        detector: a Detectron2 detector whose FPN, RPN and heads are kept and whose backbone is replaced.
        pixel_mean, pixel_std: three numbers each, RGB, 0-255 scale; for files that do not state them.
        prefix: of the backbone's names in the file, if the file has several.
        trust: also read pickles that hold more than tensors and plain values.
        timm: name of timm's model, for files that do not state it; None is a ResNet.

    Raises:
        ConversionError: the backbone is not complete, or its features differ after conversion.
    """
    from d2_cxr.checkpoint import verify as verification

    source, output = Path(source), Path(output)
    if output.suffix != ".pth":
        raise ConversionError(f"{output} must end in .pth: Detectron2 chooses the reader by the ending")
    content = load_weights_file(source, trust)
    timm = timm or timm_name((content.get("d2_cxr") or {}).get("architecture"))
    function, names = (convert_timm_state, (timm, prefix)) if timm else (convert_state, (prefix,))
    conversion = _named(source, function, state_dict_of(content, source), *names)
    card = _card(content, conversion, source, pixel_mean, pixel_std)
    kept = _detector_weights(detector, conversion, trust) if detector else {}
    backbone = {_detectron2_name(name, conversion): value for name, value in conversion.backbone.items()}
    if verify:
        card.parity = verification.file_parity(backbone, conversion.backbone, conversion.architecture)
    _write(output, {**kept, **backbone}, card, content, conversion, detector)
    _report(conversion, card, output, len(kept), detector)
    return card


def convert_state(state: Mapping[str, object], prefix: str | None = None) -> Conversion:
    """Take the ResNet out of a state dict, complete, with every shape checked.

    Raises:
        ConversionError: names the tensor that is missing, unknown, has another shape or is not finite.
    """
    prefix = _prefix(state, prefix)
    inside = resnet_names.below(state, prefix)
    outside = sorted(name for name in state if not name.startswith(prefix))
    architecture = resnet_names.recognize(inside)
    expected = resnet_names.expected_shapes(architecture)
    head = sorted(name for name in inside if is_head(name))
    inside = {name: value for name, value in inside.items() if name not in head}
    notes = add_counters(inside, expected)
    check_names(inside, expected, prefix, architecture)
    backbone = {name: checked_tensor(prefix + name, inside[name], shape, notes) for name, shape in expected.items()}
    return Conversion(architecture, prefix, backbone, [prefix + name for name in head] + outside, sorted(set(notes)))


def _prefix(state: Mapping[str, object], asked: str | None) -> str:
    found = resnet_names.find_prefixes(state)
    if asked is not None:
        if asked not in found:
            raise ConversionError(f"there is no ResNet below the prefix {asked!r}; prefixes found: {found}")
        return asked
    if any(name.startswith(BOTTOM_UP) for name in state):
        raise ConversionError("the file already has Detectron2's names; use it directly as MODEL.WEIGHTS")
    online = [prefix for prefix in found if not is_momentum(prefix)]
    if len(online) != 1:
        if not online:
            raise ConversionError("the file holds no ResNet (no names with layer1 ... layer4)")
        raise ConversionError(f"the file has several backbones, below {online}; choose one with --prefix")
    if online[0] not in PREFIXES:
        raise ConversionError(f"the backbone is below the unknown prefix {online[0]!r}; confirm it with --prefix")
    return online[0]


def _detectron2_name(name: str, conversion: Conversion) -> str:
    return NETWORK + name if timm_name(conversion.architecture) else BOTTOM_UP + torchvision_to_detectron2(name)


def _named(source: Path, function: Callable[..., Conversion], *arguments: object) -> Conversion:
    """Call a pure function and let its refusals name the file."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise ConversionError(f"{source}: {error}") from error


def _card(
    content: dict,
    conversion: Conversion,
    source: Path,
    pixel_mean: Sequence[float] | None,
    pixel_std: Sequence[float] | None,
) -> WeightsCard:
    stated = {key: value for key, value in (content.get("d2_cxr") or {}).items() if key != "images"}
    card = WeightsCard.from_dict(stated, str(source))
    if card.architecture not in (None, conversion.architecture):
        raise ConversionError(f"{source}: its card says {card.architecture}, its tensors are {conversion.architecture}")
    timm = timm_name(conversion.architecture)
    own = input_convention(timm) if timm else {}
    for key, given in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
        if getattr(card, key) is None:
            setattr(card, key, own.get(key))
        if given is not None and len(given) != 3:
            raise ConversionError(f"{key} needs three numbers (RGB, 0-255), got {given}")
        if given is not None:
            setattr(card, key, [float(value) for value in given])
    card.architecture = conversion.architecture
    if not timm:
        card.depth = resnet_names.depth_of(conversion.architecture)
        card.stride_in_1x1 = False  # torchvision's bottlenecks
    card.input_format = "RGB"  # every format that is read here
    card.norm = card.norm or (None if timm else "BN")
    card.source_sha256 = artifacts.sha256_file(source)
    if timm and not conversion.prefix:
        card.source_format = card.source_format or "timm"
    card.source_format = card.source_format or PREFIXES.get(conversion.prefix, f"prefix {conversion.prefix}")
    card.project_version, card.project_commit = __version__, artifacts.project_commit()
    return card


def _detector_weights(path: str | Path, conversion: Conversion, trust: bool) -> dict:
    """Return a detector's tensors outside its backbone, after checking that the backbone is of the same shape."""
    import torch

    state = state_dict_of(load_weights_file(path, trust), Path(path))
    state = {name: torch.as_tensor(value) for name, value in state.items()}
    theirs = {name: tuple(v.shape) for name, v in state.items() if name.startswith(BOTTOM_UP) and COUNTER not in name}
    ours = {_detectron2_name(name, conversion): tuple(v.shape) for name, v in conversion.backbone.items()}
    ours = {name: shape for name, shape in ours.items() if COUNTER not in name}
    if theirs != ours:
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise ConversionError(
            f"{path}: its backbone is not {conversion.architecture}: "
            f"{counted(len(differing), 'tensor differs', 'tensors differ')}, first: {differing[0]}"
        )
    return {name: value for name, value in state.items() if not name.startswith(BOTTOM_UP)}


def _write(
    output: Path, model: dict, card: WeightsCard, content: dict, conversion: Conversion, detector: str | Path | None
) -> None:
    import torch

    origins = {name: "source" if name.startswith(BOTTOM_UP) else "detector" for name in sorted(model)}
    record: dict[str, object] = {
        "prefix": conversion.prefix,
        "left_out": conversion.left_out,
        "notes": conversion.notes,
    }
    if detector:
        record |= {"detector_sha256": artifacts.sha256_file(detector), "origins": origins}
    card.tensors_sha256 = fingerprint(model)
    stored: dict[str, object] = {"model": model, "card": card.to_dict(), "conversion": record}
    images = (content.get("d2_cxr") or {}).get("images")
    stored["images"] = images if images is not None else torch.zeros((0, 16), dtype=torch.uint8)
    artifacts.write_with(output, lambda temporary: torch.save(stored, temporary))
    write_config(output.with_suffix(".yaml"), detector_config(card, weights=str(output)), card)


def _subtree(name: str, prefix: str) -> str:
    """Return which part of a file a tensor belongs to: "projector", or "module.prototypes" below the prefix."""
    inside = name.startswith(prefix)
    return (prefix if inside else "") + name.removeprefix(prefix if inside else "").split(".")[0]


def _report(
    conversion: Conversion, card: WeightsCard, output: Path, num_kept: int, detector: str | Path | None
) -> None:
    tensors = counted(len(conversion.backbone), "tensor")
    logger.info("%s: %s below %r", conversion.architecture, tensors, conversion.prefix)
    heads = sorted({_subtree(name, conversion.prefix) for name in conversion.left_out})
    if heads:
        logger.info("left out: %s of %s", counted(len(conversion.left_out), "tensor"), ", ".join(heads))
    for note in conversion.notes:
        logger.info("%s", note)
    if never_updated(conversion.backbone):
        logger.warning(
            "no BatchNorm of the file has seen a batch (every mean is 0, every variance 1): the weights are untrained, "
            "or their statistics were not saved; frozen norms would keep these values"
        )
    if detector:
        logger.info("%s outside the backbone kept from %s", counted(num_kept, "tensor"), detector)
    if card.pixel_mean is None or card.pixel_std is None:
        logger.warning("the file does not state its pixel mean and std; give --pixel-mean and --pixel-std if you know")
    if card.parity:
        logger.info("parity: %s", ", ".join(f"{stage} {value:.1e}" for stage, value in card.parity.items()))
    else:
        logger.warning("parity was not verified")
    logger.info("wrote %s and %s", output, output.with_suffix(".yaml"))
