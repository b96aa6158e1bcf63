"""Show images of a prepared set: as prepared, each reader's boxes, the fused truth, and predictions, side by side.

python tools/visualize_data.py --dataset phantom_cxr_test --root output/demo/datasets --output output/gallery
python tools/visualize_data.py --dataset vindr_cxr_test --results RUN/coco_instances_results.json --worst --output DIR
python tools/visualize_data.py --dataset vindr_cxr_test --results RUN/coco_instances_results.json --mistakes --output D
python tools/visualize_data.py --dataset vindr_cxr_test --results RUN/coco_instances_results.json --fiftyone --output D
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.counted import counted

logger = logging.getLogger(__name__)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a data-set name, e.g. vindr_cxr_test")
    parser.add_argument("--output", required=True, metavar="DIR", help="one PNG per image is written here")
    parser.add_argument("--root", metavar="DIR", help="folder of prepared sets; default: $DETECTRON2_DATASETS")
    parser.add_argument("--results", metavar="FILE", help="COCO results (JSON), to show predictions")
    parser.add_argument(
        "--score", type=float, metavar="S", help="lowest score shown; default: 1 false positive per image"
    )
    parser.add_argument("--images", nargs="+", default=[], metavar="NAME", help="names of the images")
    parser.add_argument("--number", type=int, default=12, metavar="N", help="number of images without --images (12)")
    parser.add_argument("--worst", action="store_true", help="the images with the most missed and false boxes")
    parser.add_argument("--mistakes", action="store_true", help="one page instead: hit, missed and false boxes")
    parser.add_argument("--fiftyone", action="store_true", help="a data set for FiftyOne instead (docs/fiftyone.md)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random choice (0)")
    parser.add_argument("--tile", type=int, default=512, metavar="PX", help="side of a panel (512)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.mistakes:
        return _write_mistakes(args)
    if args.fiftyone:
        return _write_fiftyone(args)
    from d2_cxr.evaluation.gallery import write_gallery

    written = write_gallery(
        dataset=args.dataset,
        output=args.output,
        results=args.results,
        image_names=args.images,
        number=args.number,
        worst=args.worst,
        score=args.score,
        tile=args.tile,
        root=args.root,
        seed=args.seed,
    )
    logger.info("Wrote %s to %s", counted(len(written), "image"), args.output)
    return 0


def _write_mistakes(args: argparse.Namespace) -> int:
    from d2_cxr.evaluation.mistakes import write_mistakes

    if not args.results:
        raise ValueError("--mistakes needs --results")
    page = write_mistakes(args.dataset, args.results, args.output, args.number, args.score, args.root)
    logger.info("Wrote %s", page)
    return 0


def _write_fiftyone(args: argparse.Namespace) -> int:
    from d2_cxr.evaluation.fiftyone import write_fiftyone

    if not args.results:
        raise ValueError("--fiftyone needs --results")
    folder = write_fiftyone(args.dataset, args.results, args.output, args.root)
    logger.info("Wrote a data set for FiftyOne to %s; docs/fiftyone.md has the lines that open it", folder)
    return 0


if __name__ == "__main__":
    run_tool(main)
