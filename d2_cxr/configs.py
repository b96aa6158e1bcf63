"""The YAML configs of the package, in a checkout (`configs/`) or an installed wheel, in the manner of model_zoo.

from d2_cxr import configs
cfg = configs.get("VinDr-CXR/faster_rcnn_R_50_FPN.yaml")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_HERE = Path(__file__).resolve().parent
FOLDER = _HERE / "config_files" if (_HERE / "config_files").is_dir() else _HERE.parent / "configs"


def path(name: str) -> Path:
    """Return the file of a config, e.g. "VinDr-CXR/faster_rcnn_R_50_FPN.yaml"; a leading "configs/" is allowed.

    Raises:
        FileNotFoundError: there is no such config; lists those of its folder.
    """
    found = FOLDER / name.removeprefix("configs/")
    if not found.is_file():
        near = sorted(str(other.relative_to(FOLDER)) for other in FOLDER.rglob("*.yaml"))
        raise FileNotFoundError(f"there is no config {name}; there are {', '.join(near)}")
    return found


def get(name: str) -> CfgNode:
    """Return Detectron2's config of a file of this package, with the CXR keys; weights are not fetched.

    Raises:
        FileNotFoundError: there is no such config.
    """
    from detectron2.config import get_cfg

    from d2_cxr.config import add_cxr_config

    cfg = get_cfg()
    add_cxr_config(cfg)
    cfg.merge_from_file(str(path(name)), allow_unsafe=False)
    return cfg
