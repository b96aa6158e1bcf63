"""Render a set of synthetic chest images as DICOM, with three simulated readers.

python tools/make_phantom.py --output output/phantoms --num-images 200 --size 512 --contact-sheet images.png
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.counted import counted

logger = logging.getLogger("make_phantom")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--output", required=True, help="folder for dicom/, train.csv, patients.csv and truth.json")
    parser.add_argument(
        "--num-images", type=int, required=True, help="number of images; a larger number adds to an existing set"
    )
    parser.add_argument("--size", type=int, default=512, help="pixels of the longer side (default: 512)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set (default: 0)")
    parser.add_argument("--jobs", type=int, help="processes (default: one per core)")
    parser.add_argument(
        "--finding-share", type=float, default=0.75, help="fraction of images with findings (default: 0.75)"
    )
    parser.add_argument("--readers", type=int, default=3, help="readers of each image (default: 3)")
    parser.add_argument(
        "--contact-sheet", metavar="PNG", help="also write the first images with their true boxes as one PNG"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr.projects.phantom_cxr.make import make_phantoms
    from d2_cxr.projects.phantom_cxr.sheet import write_contact_sheet

    settings = {"size": args.size, "seed": args.seed, "finding_share": args.finding_share}
    counts = make_phantoms(args.output, args.num_images, jobs=args.jobs, readers=args.readers, **settings)
    if args.contact_sheet:
        write_contact_sheet(args.contact_sheet, args.num_images, **settings)
    images = counted(counts["images"], "image")
    logger.info("%s: %s (%d new, %d with findings)", args.output, images, counts["rendered"], counts["with_findings"])
    return 0


if __name__ == "__main__":
    run_tool(main)
