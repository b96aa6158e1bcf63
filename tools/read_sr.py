"""Read structured reports, corrected in a viewer or a radiologist's own, into a label table.

python tools/read_sr.py reports/ --output boxes.csv --reader R1 --images dicom/

Every rectangle of a TID 1500 report becomes a row; a report replaces older ones of its reader on the same image. Every
tool that reads annotations reads the table (tools/prepare_vindr_cxr.py, tools/label_statistics.py).
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.counted import counted


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("reports", metavar="FOLDER", help="folder of reports, at any depth, or one file")
    parser.add_argument("--output", required=True, metavar="CSV", help="label table to write")
    parser.add_argument("--reader", metavar="NAME", help="reader of all reports; default: the observer that each names")
    parser.add_argument("--images", metavar="DIR", help="folder of the DICOM images, whose names become image names")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr import artifacts
    from d2_cxr.delivery.read_back import COLUMNS, read_reports
    from d2_cxr.delivery.source import image_names

    rows, _ = read_reports(args.reports, args.reader, image_names(args.images) if args.images else None)
    artifacts.write_csv(args.output, rows, COLUMNS)
    boxes = sum(row["x_min"] is not None for row in rows)
    images = len({row["image_id"] for row in rows})
    logging.getLogger(__name__).info("%s on %s: %s", counted(boxes, "box"), counted(images, "image"), args.output)
    return 0


if __name__ == "__main__":
    run_tool(main)
