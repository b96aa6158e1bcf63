r"""Try single changes of a recipe against its base, on folds of a prepared set's train and val images.

    python projects/LabelEfficiency/run_trials.py --config-file projects/LabelEfficiency/trials/opacity.yaml \
        --set base=datasets/open_opacity --set stretch=datasets/open_opacity_stretch --output output/trials

The set's test images are not opened. Finished trials are not run again; after a kill the same command continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool
from d2_cxr.counted import counted


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="the trials file")
    parser.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="prepared sets: base, and one for each `set` of a change (the same images, prepared in another way)",
    )
    parser.add_argument("--output", required=True, help="folder of the trials")
    parser.add_argument("--only", metavar="CHANGE,…", default="", help="try only these changes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the trials and print the table."""
    args = parse_args(argv)
    from d2_cxr.projects.label_efficiency.trials import read_trials, run_trials

    settings, only = read_trials(Path(args.config_file)), [name for name in args.only.split(",") if name]
    sets = dict(_name_and_folder(text) for text in args.set)
    _check(settings, sets, only)
    rows = run_trials(settings, sets, Path(args.output), only)
    print("\n".join(map(_line, rows)))
    print(f"{counted(len(rows), 'comparison')}: {args.output}/trials.csv")
    return 0


def _check(settings: dict, sets: dict[str, Path], only: list[str]) -> None:
    """Raise ValueError where a change or a set that is named does not exist."""
    unknown = [name for name in only if name not in settings["changes"]]
    if unknown:
        raise ValueError(f"--only {unknown[0]} is not one of the changes {', '.join(settings['changes'])}")
    tried = only or settings["changes"]
    missing = {settings["changes"][name].get("set", "base") for name in tried} | {"base"}
    for name in sorted(missing - set(sets)):
        raise ValueError(f"--set {name}=FOLDER is missing")


def _name_and_folder(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not name or not (Path(folder) / "dataset.json").is_file():
        raise ValueError(f"--set {text}: give NAME=FOLDER of a prepared set, a folder with dataset.json")
    return name, Path(folder).resolve()


def _line(row: dict) -> str:
    interval = "no interval" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
    return (
        f"{row['change']:16} {row['metric']:16} {row['base']:.3f} -> {row['changed']:.3f}  {row['difference']:+.3f} "
        f"({interval}), p {row['p']:.3f}, {row['trials']} paired trials: {row['by_fold']}"
    )


if __name__ == "__main__":
    run_tool(main)
