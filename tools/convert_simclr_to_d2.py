"""Convert a pretrained ResNet, or a network of timm, to weights for Detectron2, complete and verified.

python tools/convert_simclr_to_d2.py output/simclr/last.ckpt output/weights/simclr_R_50.pth
"""

from __future__ import annotations

import argparse

from d2_cxr.cli import ToolParser, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "source", metavar="INPUT", help="last.ckpt of pretraining, a solo-learn checkpoint, or a state dict"
    )
    parser.add_argument("output", metavar="OUTPUT", help="the .pth to write; its config is written next to it as .yaml")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="do not compare features with Detectron2's backbone"
    )
    parser.add_argument("--detector", metavar="FILE", help="keep FPN, RPN and heads of this Detectron2 detector")
    parser.add_argument(
        "--pixel-mean", nargs=3, type=float, metavar=("R", "G", "B"), help="0-255, if the file does not state it"
    )
    parser.add_argument(
        "--pixel-std", nargs=3, type=float, metavar=("R", "G", "B"), help="0-255, if the file does not state it"
    )
    parser.add_argument("--prefix", help="prefix of the backbone's names, e.g. encoder.; may be empty")
    parser.add_argument("--timm", metavar="NAME", help="the file is timm's model NAME, e.g. tf_efficientnet_lite0")
    parser.add_argument(
        "--trust", action="store_true", help="also read pickles with more than tensors; only for your own files"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from d2_cxr import convert

    convert(**vars(args))
    return 0


if __name__ == "__main__":
    run_tool(main)
