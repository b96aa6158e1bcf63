"""`--preset` of a study: the same resolution, batch, rate and length for every arm, by the set and the machine."""

from __future__ import annotations

import logging

import yaml

logger = logging.getLogger(__name__)

_NOT_SHARED = ("MODEL.RESNETS.DEPTH",)  # an arm's own matter


def preset_overrides(set_name: str, folder: str, preset: str) -> list[str]:
    """Return the `shared_options` that a preset chooses, as KEY=VALUE of a study.

    The arms start from random and from pretrained ResNet-18s, so the small detector is chosen for. The training part
    alone is looked at.

    Args:
        set_name: of the prepared set.
        folder: of the prepared set.
        preset: a name of `d2_cxr.presets.preset.PRESETS`.

    Raises:
        FileNotFoundError, ValueError: as when the set is loaded, or nothing can be learned from it.
    """
    from d2_cxr.datasets.builtin import register_prepared
    from d2_cxr.presets.facts import facts_of, this_machine
    from d2_cxr.presets.preset import choose

    register_prepared(set_name, folder)
    chosen = choose(facts_of([f"{set_name}_train"]), this_machine(), {"MODEL.RESNETS.DEPTH": 18}, preset)
    logger.info("preset %s, for every arm:\n  %s", preset, "\n  ".join(chosen.reasons))
    options = {key: value for key, value in chosen.options.items() if key not in _NOT_SHARED}
    return [f"shared_options.{key}={_as_yaml(value)}" for key, value in options.items()]


def _as_yaml(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
