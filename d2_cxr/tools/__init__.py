"""The command-line tools as modules: each has `parse_args` and `main(argv)`; `d2cxr COMMAND` calls them.

A wheel holds them in this folder (`package-dir` in pyproject.toml); in a source checkout they live in `tools/`.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2] / "tools"

if (_CHECKOUT / "train_net.py").is_file():
    __path__.append(str(_CHECKOUT))
