"""Detection of findings on chest radiographs with Detectron2.

`import d2_cxr` makes the data sets of docs/formats.md available to any Detectron2 code by name, below
`$DETECTRON2_DATASETS`. It opens no file, and does not import Detectron2 by itself: the names are registered as soon
as Detectron2's catalog exists, whichever of the two is imported first (docs/decisions/001-registration.md).
"""

from d2_cxr._registration import register_when_detectron2_is_imported
from d2_cxr.config import add_cxr_config

__version__ = "0.2.0"
__all__ = ["__version__", "add_cxr_config", "setup_environment"]


def setup_environment() -> None:
    """Do nothing: `DETECTRON2_ENV_MODULE=d2_cxr` makes Detectron2 import this package and call this function."""


register_when_detectron2_is_imported()
