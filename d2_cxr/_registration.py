"""Register the built-in names once Detectron2's catalog is imported.

Importing Detectron2 costs seconds and hundreds of megabytes, which preparation workers and label tools, living in the
same package, must not pay. So `import d2_cxr` waits: the names are registered right after
`detectron2.data.catalog` has been executed, or at once where that has already happened.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys

_CATALOG = "detectron2.data.catalog"


def register_when_detectron2_is_imported() -> None:
    """Register the built-in data sets now or when Detectron2 is imported; do nothing where it never is."""
    if _CATALOG in sys.modules:
        _register()
    elif not any(isinstance(finder, _CatalogFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _CatalogFinder())


def _register() -> None:
    from d2_cxr.datasets import builtin

    builtin.register_all()


class _CatalogFinder(importlib.abc.MetaPathFinder):
    """Find Detectron2's catalog the ordinary way, and register after it was executed."""

    def find_spec(self, fullname, path, target=None):
        if fullname != _CATALOG:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register
        return spec
