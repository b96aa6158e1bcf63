"""Write a study's report, one HTML page and CSV tables, from its run folders.

python tools/report.py output/demo --output output/demo
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, run_tool

logger = logging.getLogger("report")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description="Write the report of a study.", epilog="example: python tools/report.py output/demo --output page"
    )
    parser.add_argument("study", help="folder of a study: study.json and runs/<arm>/<percent>/seed<S>/")
    parser.add_argument("--output", help="folder for report.html and report/*.csv; default: the study's")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples of every interval")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.resamples < 1:
        raise ValueError(f"--resamples {args.resamples} gives no interval; 1000 is usual")
    from d2_cxr.projects.label_efficiency.report import build_report

    path = build_report(args.study, args.output, args.resamples)
    logger.info("Report: %s", path)
    return 0


if __name__ == "__main__":
    run_tool(main)
