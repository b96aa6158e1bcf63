"""Pretrain a backbone on images without labels, with solo-learn's SimCLR.

    python tools/pretrain_simclr.py --config configs/pretraining/simclr_R_50_recommended.yaml \\
        --output output/simclr datasets=[vindr_cxr_train_unlabeled,vindr_cxr_negative_train] batch_size=128

KEY=VALUE overrides a setting (optimizer.lr=0.1 goes down a level); configs/pretraining/ lists and explains them. A
finished run is not repeated, a killed one continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import shlex

from d2_cxr.cli import ToolParser, run_tool

logger = logging.getLogger(__name__)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML of configs/pretraining/")
    parser.add_argument("--set", metavar="NAME=FOLDER", help="a prepared set whose names `datasets` may use")
    parser.add_argument("--output", default="output/pretraining", help="folder of the run (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="write 16 pairs of views as OUTPUT/views.png and stop")
    parser.add_argument(
        "--allow", metavar="FILE", help="file with names of images, one per line, to use although they are held out"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that differ from the config")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr.datasets import leakage
    from d2_cxr.pretraining.settings import read_settings

    if args.allow:
        leakage.allow(args.allow)
    own = [f"sets=[[{args.set.replace('=', ',', 1)}]]"] if args.set else []
    settings = read_settings(args.config, [*own, *args.overrides])
    if args.dry_run:
        from d2_cxr.pretraining.data import write_view_sheet

        logger.info("wrote %s", write_view_sheet(settings, args.output))
        return 0
    from d2_cxr.pretraining.train import pretrain

    checkpoint = pretrain(settings, args.output)
    weights = f"{str(args.output).rstrip('/')}.pth"
    logger.info("wrote %s; next: d2cxr convert %s", checkpoint, shlex.join([str(checkpoint), weights]))
    return 0


if __name__ == "__main__":
    run_tool(main)
