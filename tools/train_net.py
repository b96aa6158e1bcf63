"""Train and evaluate a detector on a prepared set, with a preset for set and machine or with your own config.

d2cxr train --set clinic=datasets/clinic --output output/clinic
python tools/train_net.py --config-file configs/VinDr-CXR/faster_rcnn_R_50_FPN.yaml --num-gpus 1 OUTPUT_DIR output/run

Compare repeat thresholds on validation, as the paper chose its 0.4:

for t in 0.0 0.1 0.4; do python tools/train_net.py --config-file configs/VinDr-CXR/faster_rcnn_R_50_FPN.yaml \\
    DATALOADER.REPEAT_THRESHOLD $t DATASETS.TEST '("vindr_cxr_val",)' OUTPUT_DIR output/repeat_$t; done
"""

from __future__ import annotations

import argparse
import logging

from d2_cxr.cli import ToolParser, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add = parser.add_argument
    add("--set", metavar="NAME=FOLDER", help="train on the train part of this prepared set")
    add(
        "--preset",
        choices=("auto", "quick"),
        help="choose resolution, batch, rate and length by set and machine (default without a config: auto)",
    )
    add("--weights", metavar="FILE", help="start weights: file, URL or random (default: the best available)")
    add("--output", metavar="DIR", help="folder of the run (OUTPUT_DIR)")
    add("--config-file", default="", metavar="FILE", help="a YAML of configs/, or your own")
    add("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes per machine, on a CPU too (%(default)s)")
    add("--num-machines", type=int, default=1, metavar="N", help="number of machines (%(default)s)")
    add("--machine-rank", type=int, default=0, metavar="RANK", help="number of this machine, from 0")
    add("--dist-url", default="auto", metavar="URL", help="address of the first machine, for several machines")
    add(
        "--allow",
        metavar="FILE",
        help="file with names of images, one per line, that may be in both training and test sets",
    )
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, after all options")
    args = parser.parse_args(argv)
    late = next((word for word in args.opts if word.startswith("--")), None)
    if late:
        known = late in parser._option_string_actions
        parser.error(f"{late} must come before the KEY VALUE pairs" if known else f"unrecognized arguments: {late}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr.datasets import leakage
    from d2_cxr.engine import launch, next_steps, trainer
    from d2_cxr.presets import train_options

    if args.allow:
        leakage.allow(args.allow)
    config_file, opts = train_options.resolve(
        args.config_file,
        args.opts,
        set_text=args.set,
        preset_name=args.preset,
        weights=args.weights,
        output=args.output,
    )
    cfg = trainer.setup(config_file, opts)  # refused here, before processes are started
    code = launch.launch(
        config_file,
        opts,
        args.resume,
        args.eval_only,
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
    )
    if code == 0 and not args.eval_only and args.machine_rank == 0:
        logging.getLogger(__name__).info("%s", "\n".join(next_steps.next_steps(cfg)))
    return code


if __name__ == "__main__":
    run_tool(main)
