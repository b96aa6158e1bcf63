"""Write readers', fused or predicted boxes for an annotation tool: COCO, YOLO, Pascal VOC, CVAT or Label Studio.

python tools/export_labels.py datasets/vindr_cxr --boxes fused --format label_studio --output to_label
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.counted import counted
from d2_cxr.labels.formats import FORMATS

EXAMPLE = """examples:
  python tools/export_labels.py datasets/own_cxr --boxes readers --format cvat --output to_cvat
  python tools/export_labels.py predictions/findings.json --format label_studio --output to_label_studio
  python tools/export_labels.py train.csv --images images --classes from-csv --format yolo --output yolo
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__.split("\n\n")[0], epilog=EXAMPLE)
    add = parser.add_argument
    add("input", help="folder of a prepared set, findings.json of tools/predict.py, or labels in any known format")
    add("--format", required=True, choices=("coco", "yolo", "voc", "cvat", "label_studio"))
    add("--output", required=True, help="folder to write")
    add("--boxes", default="readers", choices=("readers", "fused"), help="which boxes of a prepared set (%(default)s)")
    add(
        "--pixels",
        default="source",
        choices=("source", "prepared"),
        help="pixels in which a prepared set's boxes are written (%(default)s)",
    )
    add("--images", metavar="FOLDER", help="images of labels that do not state the sizes of their images")
    add("--classes", default="card", help="classes of labels: card, extended, from-csv, a file, or names with commas")
    add("--negative-names", default="", help='class names of labels that mean "No finding", with commas')
    add("--annotation-format", choices=FORMATS, help="format of labels (default: detected)")
    add("--model-version", default="d2_cxr", help="name of the predictions in Label Studio (%(default)s)")
    add(
        "--image-url",
        default="/data/local-files/?d=images/",
        help="URL in Label Studio, without the file name (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr.labels.class_names import read_classes, read_names
    from d2_cxr.labels.formats.write import write
    from d2_cxr.preparation.export_boxes import export_of_findings, export_of_labels, export_of_set

    if (Path(args.input) / "dataset.json").is_file():
        export = export_of_set(args.input, args.boxes, args.pixels)
    elif Path(args.input).name == "findings.json":
        export = export_of_findings(args.input)
    else:
        export = export_of_labels(
            args.input,
            args.images,
            class_names=read_classes(args.classes),
            negative_names=read_names(args.negative_names),
            annotation_format=args.annotation_format,
        )
    export = dataclasses.replace(export, model_version=args.model_version, image_url=args.image_url)
    write(export, args.format, args.output)
    print(
        f"{args.output}: {counted(len(export.boxes), 'box')} of {counted(len(export.images), 'image')} as {args.format}"
    )
    return 0


if __name__ == "__main__":
    run_tool(main)
