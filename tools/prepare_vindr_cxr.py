"""Prepare a set of chest images and readers' boxes for Detectron2 (docs/formats.md, section 1).

    python tools/prepare_vindr_cxr.py --dicom-dir vindr/train --annotations vindr/train.csv \\
        --output datasets/vindr_cxr
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from d2_cxr.cli import ToolParser, positive, run_tool
from d2_cxr.counted import counted
from d2_cxr.labels.formats import FORMATS

EXAMPLE = """examples:
  d2cxr prepare --images images --annotations boxes.csv --patients images.csv --output datasets/clinic
  d2cxr prepare --images vindr/train --annotations vindr/train.csv --output datasets/vindr_cxr
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = ToolParser(
        description="Prepare chest images and readers' boxes for Detectron2; run again to continue.",
        epilog=EXAMPLE,
    )
    add = parser.add_argument
    add(
        "--images",
        "--dicom-dir",
        required=True,
        metavar="DIR",
        help="folder, or zip or tar archive (read in place), of DICOM, PNG, JPEG, TIFF or BMP files, at any depth",
    )
    add("--output", required=True, help="folder of the set, usually $DETECTRON2_DATASETS/NAME")
    add(
        "--annotations",
        help="labels: CSV (Kaggle's, PhysioNet's, RSNA's, NIH's), or COCO, YOLO, VOC, CVAT, … (default: no labels)",
    )
    add("--annotation-format", choices=FORMATS, help="format of --annotations (default: detected)")
    add("--name", help="name of the set (default: the last part of --output); only vindr_cxr has a published split")
    add(
        "--classes",
        help="card (a known set's names), extended, from-csv, a file with a class a line, or names with commas "
        "(default: card for known names, else from-csv)",
    )
    add("--negative-names", default="", help='class names that mean "No finding", with commas: Normal,Healthy')
    add("--columns", default="", metavar="THEIRS=OURS,…", help="names of columns: label=class_name,filename=image_id")
    add(
        "--patients",
        metavar="CSV",
        help="table of image_id and patient_id, so that a split keeps a patient's images together; or the word names: "
        "the part of an image's name before the last _ or -",
    )
    add("--fusion", default="mean", help="how readers' boxes are fused: mean, majority:K or none (%(default)s)")
    add("--size", type=int, default=512, help="side of the prepared image in pixels (%(default)s)")
    add(
        "--resize",
        default="squash",
        choices=("squash", "letterbox"),
        help="how the image becomes a square (%(default)s)",
    )
    add(
        "--equalize",
        default="histogram",
        choices=("histogram", "stretch", "none"),
        help="how gray levels are equalized (%(default)s)",
    )
    add("--window", default="file", choices=("file", "full"), help="the file's window or its full range (%(default)s)")
    add("--findings-only", action="store_true", help="prepare only images with findings")
    add("--test-dicom-dir", help="VinDr-CXR's official test images, a folder or archive")
    add("--test-annotations", help="annotations_test.csv of those images")
    add("--order-csv", help="CSV whose rows have the published order, when that of --annotations differs")
    add("--rename", metavar="KEYFILE", help="give images pseudonyms; the key file is made where it does not exist")
    add("--rename-map", metavar="CSV", help="also write image names and their pseudonyms to this file")
    add(
        "--patient-key",
        metavar="KEYFILE",
        help="also store pseudonyms of patients: a test on another set of the same key refuses common patients",
    )
    add(
        "--split",
        choices=("stratified", "given", "all-train", "all-test"),
        help="stratified 70/10/20; given by a column split (train, val, test) of --annotations or --patients, or by "
        "files such as instances_train.json; or all images in one part (default: given where possible, "
        "else stratified)",
    )
    add(
        "--split-by",
        metavar="COLUMN=VALUE,…",
        help="columns of these tables, e.g. site=B: such images are the test set; fold=2: the next fold is val",
    )
    add(
        "--split-like",
        metavar="SET",
        help="an earlier set: its val and test images stay val and test, with their patients; others are train",
    )
    add("--seed", type=int, default=0, help="seed of the stratified split (%(default)s)")
    add("--array", action="store_true", help="also write images.npy, which loads faster than PNGs")
    add("--jobs", type=positive, help="worker processes (default: one per processor)")
    add("--strict", action="store_true", help="exit with code 1 if an image or box was refused, left out or is missing")
    add("--json", action="store_true", help="print counts, classes and names as JSON")
    add("--shard", help="i/n: prepare only every n-th image; a last run without --shard writes the lists")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr import prepare

    options = {key: value for key, value in vars(args).items() if key != "json"}
    counts = prepare(**{**options, "shard": _shard(args.shard)})
    if args.json:
        print(json.dumps({"output": args.output, "counts": counts}, indent=1))
    elif args.shard:
        print(
            f"Shard {args.shard} of {args.output}: {counted(counts['images'], 'image')}; run without --shard to finish"
        )
    else:
        done = counted(counts["prepared"], "image is", "images are")
        print(f"{done} prepared in {args.output}; see {args.output}/data_quality.html")
        print("\n".join(_summary(args.output)))
    return 1 if args.strict and counts["problems"] else 0


def _summary(output: str) -> list[str]:
    """Return lines about a finished set: classes, parts, patients, and what to type next."""
    from d2_cxr.artifacts import read_json

    values = read_json(f"{output}/dataset.json")
    name, counts = values["name"], values["counts"]
    if not values["class_names"]:
        return [f"No labels: {name}_unlabeled holds all images."]
    parts = {part: counts.get(f"stratified_{part}", 0) for part in ("train", "val", "test")}
    images = [f"{part} {count} + {counts.get(f'stratified_negative_{part}', 0)}" for part, count in parts.items()]
    lines = [
        f"Classes (fused boxes): {_class_counts(output, values['class_names'])}",
        f"Images with findings + without: {', '.join(images)}; unlabeled {counts.get('unlabeled', 0)}",
    ]
    negative = sum(counts.get(f"stratified_negative_{part}", 0) for part in ("train", "val", "test"))
    if values["source"]["release"] == "coco" and negative:
        lines.append(
            f"{counted(negative, 'image is', 'images are')} listed without an annotation (in COCO: negative). Take out "
            "those that nobody has read yet"
        )
    if not values["split"]["by_patient"]:
        lines.append("No patient ids: images of one patient can be in train and test; give --patients CSV if you can")
    if not parts["val"]:
        lines.append("The validation part has no image with findings: nothing can be tuned or chosen on it")
    return [
        *lines,
        f"Names: {name}_train, {name}_val, {name}_test; {name}_train_labeled_30 is 30 % of the labels",
        f"Next, once the page looks right: d2cxr train --set {name}={output} --output output/{name}",
    ]


def _class_counts(output: str, class_names: list[str]) -> str:
    """Return the boxes of each class, most first: "Mass 12, Nodule 3"."""
    from collections import Counter

    from d2_cxr.artifacts import read_json

    paths = [Path(output) / "annotations" / "stratified" / f"{part}.json" for part in ("train", "val", "test")]
    boxes = Counter(box["category_id"] - 1 for path in paths for box in read_json(path)["annotations"])
    return ", ".join(f"{class_names[index]} {count}" for index, count in boxes.most_common())


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--shard {text} is not i/n, for example 1/4")
    return int(parts[0]), int(parts[1])


if __name__ == "__main__":
    run_tool(main)
