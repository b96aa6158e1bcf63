"""Detection of findings on chest radiographs with Detectron2.

    from d2_cxr import prepare, load_set, Predictor, evaluate, convert    # docs/python

`import d2_cxr` makes the data sets of docs/formats.md available to any Detectron2 code by name, below
`$DETECTRON2_DATASETS`. It opens no file and does not import Detectron2: the names are registered as soon as
Detectron2's catalog is imported, before or after this package (docs/decisions/001-registration.md). The
functions above are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from d2_cxr._registration import register_when_detectron2_is_imported
from d2_cxr.config import add_cxr_config

if TYPE_CHECKING:
    from d2_cxr.api import convert, evaluate, load_set, prepare
    from d2_cxr.prediction.predictor import Predictor

__version__ = "0.2.0"
__all__ = [
    "Predictor",
    "__version__",
    "add_cxr_config",
    "convert",
    "evaluate",
    "load_set",
    "prepare",
    "setup_environment",
]

_HOMES = {
    "Predictor": "d2_cxr.prediction.predictor",
    **dict.fromkeys(("convert", "evaluate", "load_set", "prepare"), "d2_cxr.api"),
}


def setup_environment() -> None:
    """Do nothing: `DETECTRON2_ENV_MODULE=d2_cxr` makes Detectron2 import this package and call this function."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_when_detectron2_is_imported()
