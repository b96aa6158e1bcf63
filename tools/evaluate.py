"""Evaluate COCO results on a prepared set: every metric with its interval and definition, figures, worst images.

python tools/evaluate.py --dataset vindr_cxr_test --results RUN/inference/vindr_cxr_test/coco_instances_results.json

--compare OTHER adds the differences to another run on the same images (its results or its matches.npz).
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool

logger = logging.getLogger(__name__)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="images with findings, e.g. vindr_cxr_test")
    parser.add_argument("--results", required=True, metavar="FILE", help="COCO results (JSON)")
    parser.add_argument(
        "--negative-results",
        metavar="FILE",
        help="results on NAME's negative images; default: the file next to --results, if it exists",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of prepared sets; default: $DETECTRON2_DATASETS")
    parser.add_argument(
        "--compare", metavar="OTHER", help="results or matches.npz of another run: reports differences and p"
    )
    parser.add_argument(
        "--thresholds", metavar="FILE", help="report at the thresholds of this thresholds.json, chosen on other images"
    )
    parser.add_argument(
        "--subgroups", metavar="CSV:COLUMN", help="also evaluate subgroups: a table with image_id and COLUMN, e.g. view"
    )
    parser.add_argument("--output", metavar="DIR", help="folder of the evaluation; default: that of --results")
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="bootstrap resamples (1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the resamples (0)")
    parser.add_argument(
        "--false-positives",
        type=float,
        default=1 / 8,
        metavar="RATE",
        help="false positives per image and class, for thresholds.json (1/8)",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with code 1 if the results have problems")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr import evaluate

    options = vars(args)
    strict, as_json = options.pop("strict"), options.pop("json")
    evaluation = evaluate(**options)
    _write_pages(args.dataset, args.results, args.output or Path(args.results).parent, args.root)
    if as_json:
        print(json.dumps(evaluation.document["metrics"], indent=1))
    return 1 if strict and evaluation.document["problems"] else 0


def _write_pages(dataset: str, results: str, output: str | Path, root: str | None) -> None:
    from d2_cxr.evaluation.evaluation_page import write_evaluation_page
    from d2_cxr.evaluation.mistakes import write_mistakes

    mistakes = None
    try:
        mistakes = write_mistakes(dataset, results, output, root=root)
        logger.info("The mistakes as pictures are in %s", mistakes)
    except FileNotFoundError as error:  # labels and results are enough to evaluate; pictures need the images
        logger.info("No page of mistakes: %s", error)
    logger.info("Curves and tables on a page: %s", write_evaluation_page(output, mistakes))


if __name__ == "__main__":
    run_tool(main)
