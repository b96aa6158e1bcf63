"""Describe a table of annotations without opening an image: counts, class balance, splits, agreement, audits.

    python tools/label_statistics.py train.csv --html labels.html --json labels.json

Reads VinDr-CXR's tables (Kaggle, PhysioNet), RSNA's and NIH's, any table in one of these layouts, and the files of
annotation tools: COCO, YOLO, Pascal VOC, CVAT, Label Studio, labelme.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.labels.formats import FORMATS

EXAMPLE = "example: python tools/label_statistics.py train.csv --split stratified --seed 1 --html labels.html"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__.split("\n\n")[0], epilog=EXAMPLE)
    parser.add_argument("csv", help="labels: CSV (.gz, .zip), or a file or folder of COCO, YOLO, VOC, CVAT, …")
    parser.add_argument("--json", metavar="OUT", help="write everything as JSON")
    parser.add_argument("--html", metavar="OUT", help="write a page with charts")
    parser.add_argument("--split", choices=["published", "stratified"], default="published", help="rule of the split")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the stratified split and of the audits (default 0)"
    )
    parser.add_argument(
        "--fusion", default="mean", help="how readers' boxes are fused: mean, majority:K or none (default mean)"
    )
    parser.add_argument(
        "--iou-threshold", type=float, default=0.2, help="IoU above which boxes are fused (default 0.2)"
    )
    parser.add_argument(
        "--classes",
        default="card",
        help="card (the layout's own list), extended (VinDr-CXR's 22 local labels), from-csv (the names found), a "
        "file with a class a line, or names separated by commas",
    )
    parser.add_argument(
        "--negative-names",
        default="",
        metavar="NAMES",
        help='class names that mean "No finding", separated by commas, for example Normal,Healthy',
    )
    parser.add_argument("--annotation-format", choices=FORMATS, help="format of the labels (default: detected)")
    parser.add_argument("--images", metavar="FOLDER", help="folder of the images; YOLO's labels need their sizes")
    parser.add_argument("--patients", metavar="CSV", help="second table with image_id and patient_id")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr.audit.label_report import report_labels
    from d2_cxr.datasets.image_sizes import sizes_in
    from d2_cxr.labels.annotations import read_annotations
    from d2_cxr.labels.class_names import read_classes, read_names

    annotations = read_annotations(
        args.csv,
        read_classes(args.classes),
        args.patients,
        read_names(args.negative_names),
        annotation_format=args.annotation_format,
        size_of=sizes_in(args.images) if args.images else None,
    )
    text = report_labels(
        annotations,
        split=args.split,
        seed=args.seed,
        fusion=args.fusion,
        iou_threshold=args.iou_threshold,
        json_path=args.json,
        html_path=args.html,
        source=Path(args.csv).name,
        command=shlex.join(["python", "tools/label_statistics.py", *(sys.argv[1:] if argv is None else argv)]),
    )
    print(text)
    written = [path for path in (args.json, args.html) if path]
    print(f"Wrote {' and '.join(written)}" if written else "Nothing written; --json OUT and --html OUT keep the result")
    return 0


if __name__ == "__main__":
    run_tool(main)
