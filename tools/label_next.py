"""Choose which images to label next, and write them pre-annotated for an annotation tool.

python tools/label_next.py --weights output/clinic/model_final.pth --dataset clinic_unlabeled --output next

DIR holds label_next.csv (the images, first to label first), label_next.html (with pictures), findings.json and a folder
for each --format. Boxes count in the pixels of the source images. A second call with the same weights and DIR does not
predict an image again.
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, positive, run_tool
from d2_cxr.selection import DEFAULT, STRATEGIES

_STRATEGIES = (
    "random; uncertainty: entropy over boxes, classes weighted by their difficulty; diverse: far apart in the "
    "backbone's features; uncertainty+diverse: the most uncertain, then far apart (%(default)s)"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add = parser.add_argument
    add("--weights", required=True, metavar="FILE", help="model_final.pth or model_best.pth of a run")
    add("--dataset", required=True, nargs="+", metavar="NAME", help="images without labels, e.g. clinic_unlabeled")
    add("--output", required=True, metavar="DIR", help="folder to write")
    add("--number", type=positive, default=50, metavar="N", help="number of images to pick (%(default)s)")
    add("--strategy", choices=STRATEGIES, default=DEFAULT, help=_STRATEGIES)
    add("--seed", type=int, default=0, metavar="N", help="seed of random choices (%(default)s)")
    formats = ("coco", "yolo", "voc", "cvat", "label_studio")
    add("--format", nargs="+", default=["label_studio"], choices=formats, help="formats to write (label_studio)")
    add(
        "--image-url",
        default="/data/local-files/?d=images/",
        help="URL in Label Studio, without the file name (%(default)s)",
    )
    add("--root", metavar="DIR", help="folder of prepared sets; default: $DETECTRON2_DATASETS")
    add("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr.datasets.builtin import register_below
    from d2_cxr.prediction.label_next import label_next
    from d2_cxr.prediction.predictor import Predictor

    for name in args.dataset if args.root else ():
        register_below(name, args.root)
    predictor = Predictor(args.weights, args.device)
    work = label_next(
        predictor, args.dataset, args.output, args.number, args.strategy, args.seed, args.format, args.image_url
    )
    logger = logging.getLogger(__name__)
    logger.info("%s", work)
    logger.info("Wrote %s/label_next.csv, label_next.html and %s", args.output, ", ".join(args.format))
    return 0


if __name__ == "__main__":
    run_tool(main)
