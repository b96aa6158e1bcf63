"""Run a trained detector on image files (DICOM, PNG or JPEG) and write its findings.

python tools/predict.py --weights output/run/model_final.pth image.dicom more_images/ --output output/findings

Preprocessing, classes and thresholds come from the card inside the weights. An image that cannot be read is listed in
refused.csv, and the exit code is 1. The same command continues after an interruption. Research only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.counted import counted

_SHOWN = 20  # images whose findings are printed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image files, and folders of them")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="a run's model_final.pth, or a published file: path or URL, perhaps with #sha256:DIGEST",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for findings.json, findings.csv, overlays/"
    )
    parser.add_argument("--thresholds", metavar="FILE", help="a thresholds.json to use instead of the card's")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    parser.add_argument("--json", action="store_true", help="print the content of findings.json")
    parser.add_argument("--no-overlays", action="store_true", help="write no pictures")
    dicom = parser.add_argument_group("DICOM objects for a viewer (docs/reading_room.md)")
    dicom.add_argument("--sr", action="append_const", const="sr", dest="kinds", help="a structured report per image")
    dicom.add_argument(
        "--gsps", action="append_const", const="gsps", dest="kinds", help="a presentation state per image"
    )
    dicom.add_argument(
        "--key-image",
        action="append_const",
        const="key_image",
        dest="kinds",
        help="a copy of each image with boxes burned in",
    )
    dicom.add_argument("--assume-uids", action="store_true", help="derive missing UIDs from the sha256 of the file")
    args = parser.parse_args(argv)
    if args.assume_uids and not args.kinds:
        parser.error("--assume-uids needs --sr, --gsps or --key-image")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr import artifacts
    from d2_cxr.prediction.deliver import deliver
    from d2_cxr.prediction.predict import image_files, predict
    from d2_cxr.prediction.predictor import Predictor

    if args.kinds:
        import highdicom  # noqa: F401  (a missing package is named before the weights are loaded)
    image_files(args.inputs)  # a wrong path is refused before the weights are loaded
    thresholds = artifacts.read_json(args.thresholds) if args.thresholds else None
    predictor = Predictor(args.weights, args.device, thresholds)
    images, refused = predict(predictor, args.inputs, args.output, overlays=not args.no_overlays)
    logger = logging.getLogger(__name__)
    for image in images[:_SHOWN]:
        logger.info("%s: %s", image.image_name, image)
    if len(images) > _SHOWN:
        logger.info("... and %s", counted(len(images) - _SHOWN, "more image"))
    count = sum(len(image.reported) for image in images)
    found = f"{counted(count, 'finding')} on {counted(len(images), 'image')}, {len(refused)} refused"
    logger.info("%s: %s/findings.json", found, args.output)
    if args.json:
        print(json.dumps(artifacts.read_json(Path(args.output) / "findings.json"), indent=1))
    failed = deliver(images, predictor, args.output, args.kinds, args.assume_uids) if args.kinds else {}
    return 1 if refused or failed else 0


if __name__ == "__main__":
    run_tool(main)
