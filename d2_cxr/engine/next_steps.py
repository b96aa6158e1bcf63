"""What a finished training says: where its results and mistakes are, and the commands that come next."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from detectron2.config import CfgNode

from d2_cxr.evaluation.mistakes import write_mistakes

logger = logging.getLogger(__name__)
_RESULTS = "coco_instances_results.json"


def next_steps(cfg: CfgNode) -> list[str]:
    """Write the page of mistakes of the first test set, and return lines for a person.

    Args:
        cfg: of the finished run, its sets registered.
    """
    folder = Path(cfg.OUTPUT_DIR)
    lines = [f"The run is in {folder}"]
    for name in cfg.DATASETS.TEST[:1]:
        results = folder / "inference" / name / _RESULTS
        lines.append(f"  metrics with intervals: {results.parent / 'evaluation.json'}")
        try:
            lines.append(f"  mistakes as pictures:   {write_mistakes(name, results, folder)}")
        except (ValueError, OSError) as error:  # the run is finished whatever becomes of its page
            logger.warning("no page of mistakes: %s", error)
    weights = shlex.quote(str(folder / "model_final.pth"))
    return [*lines, f"  findings on an image:   d2cxr predict --weights {weights} IMAGE --output findings"]
