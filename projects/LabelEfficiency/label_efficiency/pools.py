"""How many unlabeled images each pretraining and each teacher of a study learns from, for the printed plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from d2_cxr.counted import counted

if TYPE_CHECKING:
    from d2_cxr.projects.label_efficiency.plan import Study


def pool_lines(study: Study) -> list[str]:
    """Return a line for each pretraining and teacher: its pool in words, and its images once the set is prepared.

    Images are counted for the first seed; those of a teacher at its first label fraction, without the labeled ones.
    """
    found: dict[str, str] = {}
    for stage in study.stages:
        if stage.kind == "pretrain":
            name = stage.id.split("/")[1]
            plan, names, labeled = study.settings["pretraining"][name], stage.settings["pool"], []
            words = f"pretraining {name}"
        elif stage.kind == "train" and "teacher" in stage.settings.get("arm_kinds", {}):
            plan = study.settings["arms"][stage.settings["arm"]]["teacher"]
            names, labeled = stage.settings["arm_kinds"]["teacher"]["CXR.TEACHER.POOL"], [stage.settings["train"]]
            words = f"arm {stage.settings['arm']}"
        else:
            continue
        if words not in found:
            number = _num_images(stage.settings["dataset"], study.output, names, labeled)
            known = "images are counted once they are prepared" if number is None else counted(number, "image")
            found[words] = f"  pool of {words}: {pool_words(plan)}; {known}"
    return list(found.values())


def pool_words(plan: Mapping) -> str:
    """Return the pool of a pretraining or a teacher in words, e.g. "25 % of all+negative"."""
    pool = plan.get("pool", "all")
    return f"{plan['pool_fraction']} % of {pool}" if "pool_fraction" in plan else pool


def _num_images(dataset: Mapping, study_dir: Path, names: list[str], labeled: list[str]) -> int | None:
    """Count the images of a pool that are not labeled; None where the set is not prepared."""
    from d2_cxr.projects.label_efficiency.stages import register

    from d2_cxr.datasets import loading
    from d2_cxr.datasets.named_sets import named_set

    if not (register(dataset, study_dir) / "dataset.json").is_file():
        return None
    pool, train = (loading.prepared_images(map(named_set, part)) for part in (names, labeled))
    return len({image["file_name"] for image in pool} - {image["file_name"] for image in train})
