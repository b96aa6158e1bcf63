"""Whether Detectron2 and pretraining know the options of a study: asked before hours are spent on what comes first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2_cxr.projects.label_efficiency.cost import pretraining_settings
from d2_cxr.projects.label_efficiency.names import in_repository
from d2_cxr.projects.label_efficiency.stage_log import output_to


def check_options(stages: Sequence[dict], log: str) -> None:
    """Build the config of every pretraining and training of a study; run by a worker, which imports torch for it.

    Args:
        stages: Stage.to_dict() of kinds "train" and "pretrain".
        log: file for what the imports print.

    Raises:
        ValueError: an option does not exist, or its value is of another kind; one line with the stage.
    """
    with output_to(Path(log)):
        checked: list[list] = []
        for stage in stages:
            settings = stage["settings"]
            if (settings["config"], settings["options"]) in checked:
                continue
            checked.append((settings["config"], settings["options"]))
            try:
                _CHECKS[stage["kind"]](settings)
            except ValueError as error:
                raise ValueError(f"stage {stage['id']} cannot run: {error}") from error


def _check_training(settings: dict) -> None:
    from d2_cxr.engine.config import load_config

    load_config(in_repository(settings["config"]), [part for pair in settings["options"].items() for part in pair])


_CHECKS = {"train": _check_training, "pretrain": pretraining_settings}
