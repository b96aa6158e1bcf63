"""Measure a stage: `prepare`, `near_duplicates`, `evaluate`, `pretrain`, `train`, `compiled`, `growth`, or all on a
`gpu`.

Each is in tools/benchmarks/ with its own options.

python tools/benchmark.py prepare --rounds 5
python tools/benchmark.py evaluate --help
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool

FOLDER = Path(__file__).resolve().parent / "benchmarks"


def main(argv: list[str] | None = None) -> int:
    names = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    parser = ToolParser(description=__doc__, usage="benchmark.py STAGE [options]")
    parser.add_argument("stage", choices=names, help="what to measure; STAGE --help shows its options")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of that stage")
    args = parser.parse_args(argv)
    sys.path.insert(0, str(FOLDER.parent))  # where the stages find what they share, however this file was started
    return importlib.import_module(f"benchmarks.{args.stage}").main(args.options) or 0


if __name__ == "__main__":
    run_tool(main)
