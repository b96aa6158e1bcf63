"""Projects that build on the package, importable as `d2_cxr.projects.NAME` like Detectron2's own.

A wheel holds them in this folder (`package-dir` in pyproject.toml). In a source checkout they live in `projects/`, each
beside its scripts and study files, and this package's search path leads there.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2] / "projects"
_FOLDERS = ("LabelEfficiency", "PhantomCXR", ".")

__path__ += [str(_CHECKOUT / folder) for folder in _FOLDERS if (_CHECKOUT / folder).is_dir()]
