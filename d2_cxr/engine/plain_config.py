"""`detectron2.yaml` of a run: the detector as plain Detectron2 reads it, without a key of ours."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from d2_cxr import artifacts

NAME = "detectron2.yaml"
_COMMENT = """\
# For plain Detectron2: cfg.merge_from_file(...), DefaultPredictor(cfg). Detectron2 reads an 8-bit color file and
# ignores windows, polarity, equalization and resizing to the prepared size, and a detector finds less on images that
# were not prepared as in training: docs/detectron2.md shows how to prepare them.
"""
_TIMM = """\
# Its backbone is a network of timm: call d2_cxr.add_cxr_config(cfg) and import d2_cxr.checkpoint.timm_backbone first.
"""


def write_plain_config(cfg: CfgNode) -> Path:
    """Write a run's config next to its model_final.pth, with MODEL.WEIGHTS set to that file.

    Args:
        cfg: of the run; not changed.
    """
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    plain.pop("CXR")
    comment = _COMMENT
    if cfg.MODEL.TIMM.NAME:
        comment += _TIMM
    else:
        plain.MODEL.pop("TIMM")
    path = Path(cfg.OUTPUT_DIR) / NAME
    artifacts.write_text(path, comment + plain.dump())
    return path
