"""`d2cxr COMMAND ...` (or `python -m d2_cxr COMMAND ...`): every tool of the package under one name.

Exit codes of every command: 0 done; 1 done, but something was refused (named in the output) or, with --strict, a
problem was found; 2 a wrong input, in one line; 3 an unexpected error, in one line that names the log file with the
traceback; 130 interrupted; 141 the reader of the output is gone; 143 terminated.
"""

from __future__ import annotations

import importlib
import os
import sys

COMMANDS = {  # command: (module with main(argv), what it does)
    "prepare": (
        "d2_cxr.tools.prepare_vindr_cxr",
        "images and readers' boxes -> a prepared set and its data-quality page",
    ),
    "statistics": ("d2_cxr.tools.label_statistics", "what a label table alone can show; needs no images"),
    "pretrain": ("d2_cxr.tools.pretrain_simclr", "SimCLR on images without labels"),
    "convert": ("d2_cxr.tools.convert_simclr_to_d2", "a pretraining checkpoint -> Detectron2 weights with a card"),
    "train": ("d2_cxr.tools.train_net", "fine-tune and evaluate a detector"),
    "evaluate": ("d2_cxr.tools.evaluate", "COCO results -> metrics with intervals"),
    "visualize": ("d2_cxr.tools.visualize_data", "pictures of a set, its readers' boxes and results"),
    "predict": ("d2_cxr.tools.predict", "findings on DICOM, PNG or JPEG files"),
    "weights": ("d2_cxr.tools.weights", "share a run: weights with card and sha256, or its result"),
    "serve-dicom": ("d2_cxr.tools.serve_dicom", "answer radiographs with reports: a DICOM node and a watched folder"),
    "read-sr": ("d2_cxr.tools.read_sr", "structured reports, corrected in a viewer -> a label table"),
    "study": ("d2_cxr.projects.LabelEfficiency.run_study", "how many labels does an initialization save?"),
    "export": ("d2_cxr.tools.export_labels", "boxes as COCO, YOLO, VOC, CVAT or Label Studio"),
    "label-next": ("d2_cxr.tools.label_next", "which images to label next, pre-annotated for an annotation tool"),
    "report": ("d2_cxr.tools.report", "a study's report from its run folders"),
    "phantoms": ("d2_cxr.tools.make_phantom", "render synthetic images with known truth"),
    "demo": ("d2_cxr.projects.LabelEfficiency.run_study", "a whole study on phantoms: minutes, no data needed"),
    "doctor": ("d2_cxr.doctor", "what is installed, what is missing, the remedy"),
    "install-detectron2": ("d2_cxr.tools.install_detectron2", "install Detectron2 without a compiler"),
}
EXAMPLE = "d2cxr prepare --dicom-dir images --annotations boxes.csv --name clinic --output datasets/clinic"


def main(argv: list[str] | None = None) -> None:
    """Run a command and leave the process with its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        raise SystemExit(0)
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(_version())
        raise SystemExit(0)
    if arguments[0] == "--log-json" and len(arguments) > 2:
        os.environ["D2_CXR_LOG_JSON"] = arguments[1]
        arguments = arguments[2:]
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        sys.stderr.write(
            f"d2cxr: error: there is no command {command}{_did_you_mean(command)}; d2cxr --help lists them\n"
        )
        raise SystemExit(2)
    from d2_cxr import cli

    for name, (path, _) in COMMANDS.items():
        if name != "demo":
            cli.SHOWN_AS[f"{path.removeprefix('d2_cxr.').replace('.', '/')}.py"] = f"d2cxr {name}"
    module = importlib.import_module(COMMANDS[command][0])
    sys.argv = [f"d2cxr {command}", *rest]  # what argparse and error lines call the program
    if command == "demo":
        rest = ["--plan", "demo", *rest]
    cli.run_tool(lambda: module.main(rest))


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return (
        "usage: d2cxr [--log-json FILE] COMMAND [options]      d2cxr COMMAND --help shows the options\n\n"
        "Detect findings on chest radiographs with few labels. Research only, not for diagnosis.\n\n"
        + "\n".join(lines)
        + f"\n\nexample:\n  {EXAMPLE}\n"
    )


def _version() -> str:
    """Return version, commit and the versions of the stack, read from the packages' metadata (nothing is imported)."""
    from importlib.metadata import PackageNotFoundError, version

    from d2_cxr import __version__
    from d2_cxr.artifacts import project_commit

    lines = [f"d2_cxr {__version__}, commit {project_commit() or 'unknown'}, Python {sys.version.split()[0]}"]
    for package in ("torch", "torchvision", "detectron2", "solo-learn", "pydicom", "numpy"):
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} not installed")
    return "\n".join(lines) + "\n"


def _did_you_mean(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"; did you mean {near[0]}?" if near else ""


if __name__ == "__main__":
    main()
