"""A run's config.yaml, and detectron2.yaml: the detector as plain Detectron2 reads it, without a key of ours."""

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


def write_configs(cfg: CfgNode) -> None:
    """Write both next to a run's model_final.pth; the plain one's MODEL.WEIGHTS is that file.

    Args:
        cfg: of the run; not changed.
    """
    folder, plain = Path(cfg.OUTPUT_DIR), cfg.clone()
    artifacts.write_text(folder / "config.yaml", cfg.dump())
    plain.defrost()
    plain.MODEL.WEIGHTS = str(folder / "model_final.pth")
    plain.pop("CXR")
    comment = _COMMENT
    if cfg.MODEL.TIMM.NAME:
        comment += _TIMM
    else:
        plain.MODEL.pop("TIMM")
    artifacts.write_text(folder / NAME, comment + plain.dump())
