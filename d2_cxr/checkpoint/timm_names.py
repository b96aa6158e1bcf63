"""timm's networks as feature extractors: how they are built, what their weights expect, and their names in files.

An architecture of timm is written `timm:NAME`, e.g. `timm:tf_efficientnet_lite0`. Here and in the detector it is the
network that `timm.create_model(NAME, features_only=True)` builds: its last layers, which only a classifier uses, are
left out. Its tensors keep that network's names, below `backbone.bottom_up.network.` in a detector.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from d2_cxr.checkpoint.conversion import Conversion, add_counters, check_names, checked_tensor
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP, STAGES, below
from d2_cxr.counted import counted

PREFIX = "timm:"
NETWORK = BOTTOM_UP + "network."  # prefix of the feature extractor in a detector
STRIDES = dict(zip(STAGES, (4, 8, 16, 32), strict=True))
_WRITERS = ("encoder.", "backbone.", "")  # who pretrained puts these before the names: solo-learn, old and new; timm


def timm_name(architecture: str | None) -> str | None:
    """timm:tf_efficientnet_lite0 -> tf_efficientnet_lite0; None for an architecture that is not timm's."""
    return architecture.removeprefix(PREFIX) if architecture and architecture.startswith(PREFIX) else None


def build_network(name: str):
    """Return timm's feature extractor with random weights; its `num_features` are the last stage's channels.

    Raises:
        ValueError: timm is missing, has no such model, or the model gives no features at strides 4, 8, 16 and 32.
    """
    network = _created(name, features_only=True)
    missing = set(STRIDES.values()) - set(network.feature_info.reduction())
    if missing:
        raise ValueError(
            f"timm's {name} gives features at strides {sorted(set(network.feature_info.reduction()))}; an FPN needs "
            "4, 8, 16 and 32: choose a hierarchical network, e.g. tf_efficientnet_lite0 or convnext_tiny"
        )
    if network.pretrained_cfg.get("fixed_input_size"):
        raise ValueError(f"timm's {name} reads images of one size only; choose one that reads any, e.g. convnext_tiny")
    network.num_features = network.feature_info.channels()[-1]
    return network


def stage_modules(network) -> dict[str, tuple[int, int, str]]:
    """Return stage (res2 ... res5) -> index among the network's outputs, channels, and name of the module behind it."""
    info = network.feature_info
    rows = list(zip(info.reduction(), info.channels(), info.module_name(), strict=True))
    last = {reduction: index for index, (reduction, _, _) in enumerate(rows)}
    return {stage: (last[stride], *rows[last[stride]][1:]) for stage, stride in STRIDES.items()}


def input_convention(name: str) -> dict[str, list[float]]:
    """Return `pixel_mean` and `pixel_std` (RGB, 0-255 scale) as the model's own `pretrained_cfg` states them."""
    config = _created(name, features_only=True).pretrained_cfg
    return {f"pixel_{key}": [255 * value for value in config[key]] for key in ("mean", "std")}


def convert_timm_state(state: Mapping[str, object], name: str, prefix: str | None = None) -> Conversion:
    """Take a timm network's feature extractor out of a state dict, complete, with every shape checked.

    The names may be the feature extractor's, those of timm's whole network, or another implementation's that lists
    the same tensors in the same order: same number, shapes and last words (weight, running_var ...).

    Raises:
        ConversionError: names the tensor that is missing, has another shape or is not finite.
    """
    expected, whole = _shapes(name)
    prefix, sources, notes = _sources(state, _matched_by_order(state, whole), expected, whole, prefix)
    found = {key: state[source] for key, source in sources.items()}
    notes += add_counters(found, expected)
    check_names(found, expected, prefix, PREFIX + name)
    backbone = {key: checked_tensor(prefix + key, found[key], shape, notes) for key, shape in expected.items()}
    left_out = sorted(state.keys() - set(sources.values()))
    return Conversion(PREFIX + name, prefix, backbone, left_out, sorted(set(notes)))


def timm_stages(name: str, state: Mapping[str, object], image) -> dict:
    """Return res2 ... res5 of timm's whole network, read off behind its stages' modules; the reference for parity.

    Args:
        state: feature extractor's name -> tensor, complete.
        image: float (N, 3, H, W).
    """
    import torch

    extractor, network = build_network(name), _created(name).eval()
    known = extractor.state_dict()
    own = {key: _feature_name(key, known) for key in network.state_dict()}
    network.load_state_dict({key: state[feature] for key, feature in own.items() if feature}, strict=False)
    features: dict = {}
    for stage, (_, _, module) in stage_modules(extractor).items():
        network.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, output, stage=stage: features.update({stage: output})
        )
    with torch.no_grad():
        network(image)
    return features


@functools.cache  # both networks are made, with random weights
def _shapes(name: str) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]]:
    """Return name -> shape of the tensors of the feature extractor and of timm's whole network."""
    extractor, whole = (
        {key: tuple(value.shape) for key, value in network.state_dict().items()}
        for network in (build_network(name), _created(name))
    )
    return extractor, whole


def _sources(state: Mapping, by_order: Mapping, expected: Mapping, whole: Mapping, prefix: str | None):
    """Return the prefix of the network, feature extractor's name -> name in the file, and notes."""
    features = {key: _feature_name(key, expected) for key in (*whole, *expected)}
    if by_order:
        sources = {features[key]: theirs for key, theirs in by_order.items() if features[key]}
        return (
            "",
            sources,
            [f"{counted(len(by_order), 'tensor')} named by the order in timm's network; all shapes agree"],
        )
    candidates = _WRITERS if prefix is None else (prefix,)
    found = {
        start: {features[key]: start + key for key in below(state, start) if features.get(key)} for start in candidates
    }
    chosen = max(candidates, key=lambda start: len(found[start]))
    return chosen, found[chosen], []


def _matched_by_order(state: Mapping, whole: Mapping) -> dict[str, str]:
    """Return timm's name -> the file's where it lists timm's tensors, in the same order, under other names; else {}."""
    if len(state) != len(whole) or state.keys() == whole.keys():
        return {}
    pairs = dict(zip(whole, state, strict=True))
    for ours, theirs in pairs.items():
        same_word = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        if not same_word or tuple(getattr(state[theirs], "shape", ())) != whole[ours]:
            return {}
    return pairs


def _feature_name(key: str, features: Mapping) -> str | None:
    """stages.0.blocks.1.weight -> stages_0.blocks.1.weight where the feature extractor is flat; None where it has not
    that tensor.
    """
    flat = re.sub(r"^(\w+)\.(\d+)\.", r"\1_\2.", key)
    return next((name for name in (key, flat) if name in features), None)


def _created(name: str, **options):
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"{PREFIX}{name} needs timm: pip install timm") from error
    try:
        return timm.create_model(name, pretrained=False, **options)
    except RuntimeError as error:  # timm's "Unknown model", and models without features
        reason = str(error).splitlines()[0]
        raise ValueError(f"timm {timm.__version__} cannot build {name} ({reason}); see timm.list_models()") from error
