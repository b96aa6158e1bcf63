"""What `d2cxr train`'s own options mean: a config file and Detectron2's KEY VALUE pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from d2_cxr import configs
from d2_cxr.datasets.builtin import register_prepared
from d2_cxr.engine.config import load_config
from d2_cxr.presets import preset
from d2_cxr.presets.best_start import RANDOM_COSTS, find_start
from d2_cxr.presets.facts import facts_of, this_machine

logger = logging.getLogger(__name__)


def resolve(
    config_file: str,
    opts: Sequence[str],
    *,
    set_text: str | None = None,
    preset_name: str | None = None,
    weights: str | None = None,
    output: str | None = None,
) -> tuple[str, list[str]]:
    """Return the config file and the KEY VALUE pairs of a run; pairs of the command line come last and win.

    Args:
        config_file: a YAML; "" where a preset decides.
        opts: KEY VALUE pairs of the command line.
        set_text: "NAME" or "NAME=FOLDER" of a prepared set: trains on NAME_train, tests on NAME_test.
        preset_name: one of `preset.PRESETS`; None: "auto" where a set is named and no config is.
        weights: file, URL or "random"; None: the config's, with a preset the best that are available.
        output: OUTPUT_DIR.

    Raises:
        ValueError, FileNotFoundError: both a config and a preset; no such set; no weights.
    """
    given = list(opts)
    named = _of_set(set_text) if set_text else []
    named += ["OUTPUT_DIR", output] if output else []
    if config_file and preset_name:
        raise ValueError("--preset and --config-file are two recipes; give one")
    if config_file or not (preset_name or set_text):
        return config_file, [*named, *_of_weights(weights), *given]
    asked = load_config("", [*named, *given])
    if not asked.DATASETS.TRAIN:
        raise ValueError("--preset needs the set to train on: --set NAME=FOLDER")
    for name, folder in asked.CXR.DATASETS:
        register_prepared(str(name), str(folder))
    machine, facts = this_machine(), facts_of(asked.DATASETS.TRAIN)
    start = find_start(weights, machine, Path(asked.OUTPUT_DIR) / "start")
    required = start.card.required_config() if start.card else None
    chosen = preset.choose(facts, machine, required, preset_name or "auto", start.whole_detector)
    logger.info("preset %s:\n  %s", preset_name or "auto", "\n  ".join(chosen.reasons))
    options = [text for key, value in chosen.options.items() for text in (key, str(value))]
    logger.info("  %s", " ".join(f"{key} {value}" for key, value in zip(options[::2], options[1::2], strict=True)))
    return str(configs.path(chosen.config)), [*options, "MODEL.WEIGHTS", start.weights, *named, *given]


def _of_set(text: str) -> list[str]:
    """Return the pairs that NAME or NAME=FOLDER means.

    Raises:
        ValueError: the folder holds no prepared set.
    """
    name, _, folder = text.partition("=")
    if folder and not (Path(folder) / "dataset.json").is_file():
        raise ValueError(f"--set {text}: {folder} holds no dataset.json; give NAME=FOLDER of a prepared set")
    pairs = ["DATASETS.TRAIN", f"('{name}_train',)", "DATASETS.TEST", f"('{name}_test',)"]
    return [*pairs, "CXR.DATASETS", f"[['{name}', '{folder}']]"] if folder else pairs


def _of_weights(weights: str | None) -> list[str]:
    if weights == "random":
        logger.warning("%s", RANDOM_COSTS)
        return ["MODEL.WEIGHTS", ""]
    return ["MODEL.WEIGHTS", weights] if weights else []
