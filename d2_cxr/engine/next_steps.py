"""What a finished training says: where its results and mistakes are, and the commands that come next."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from detectron2.config import CfgNode

from d2_cxr.evaluation.evaluation_page import write_evaluation_page
from d2_cxr.evaluation.mistakes import write_mistakes

logger = logging.getLogger(__name__)
_RESULTS = "coco_instances_results.json"


def next_steps(cfg: CfgNode) -> list[str]:
    """Write the pages of mistakes and metrics of the first test set, and return lines for a person.

    Args:
        cfg: of the finished run, its sets registered.
    """
    folder = Path(cfg.OUTPUT_DIR)
    lines = [f"The run is in {folder}"]
    for name in cfg.DATASETS.TEST[:1]:
        results = folder / "inference" / name / _RESULTS
        try:
            mistakes = write_mistakes(name, results, folder)
            lines.append(f"  metrics with intervals: {write_evaluation_page(results.parent, mistakes)}")
            lines.append(f"  mistakes as pictures:   {mistakes}")
        except (ValueError, OSError) as error:  # the run is finished whatever becomes of its pages
            logger.warning("no page of mistakes and metrics: %s", error)
    weights = shlex.quote(str(folder / "model_final.pth"))
    return [*lines, f"  findings on an image:   d2cxr predict --weights {weights} IMAGE --output findings"]
