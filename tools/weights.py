"""Share a run: its weights with card, page and sha256, or its result without any image.

python tools/weights.py publish output/clinic --output published --license CC-BY-NC-4.0
python tools/weights.py result output/clinic --output results/clinic_r18
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, run_tool

logger = logging.getLogger(__name__)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="publish|result")
    weights = commands.add_parser("publish", help="weights as one file, with card, model page and sha256")
    weights.add_argument("run", metavar="RUN", help="a run's folder, or a weights file with a card")
    weights.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    weights.add_argument("--name", help="name of the model; default: that of the run's folder")
    weights.add_argument("--license", metavar="SPDX", help="license of the weights; default: that of the card")
    result = commands.add_parser("result", help="a result card: data fingerprints, protocol, metrics")
    result.add_argument("run", metavar="RUN", help="a finished run's folder")
    result.add_argument("--output", required=True, metavar="DIR", help="folder for result.json and its page")
    result.add_argument("--title", help="title in one line; default: architecture and number of labeled images")
    result.add_argument("--dataset", metavar="NAME", help="one of the run's test sets; default: the first")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.command == "publish":
        from d2_cxr.engine.publish import publish

        logger.info("Wrote %s, its card, page and SHA256SUMS", publish(args.run, args.output, args.name, args.license))
        return 0
    from d2_cxr.engine.result_card import write_result

    logger.info("Wrote %s and its page", write_result(args.run, args.output, args.title, args.dataset))
    return 0


if __name__ == "__main__":
    run_tool(main)
