"""Answer radiographs with structured reports: a DICOM node and a watched folder.

python tools/serve_dicom.py --weights output/run/model_final.pth --folder node/ --send-to ORTHANC@127.0.0.1:4242

Images arrive by C-STORE or in node/inbox/; each report is sent to the node given by --send-to. Images that wait when
the server stops are answered after its next start. Research only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
from pathlib import Path

from d2_cxr.cli import ToolParser, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--weights", required=True, metavar="FILE", help="model_final.pth or model_best.pth of a run")
    parser.add_argument("--folder", required=True, metavar="DIR", help="folder for inbox/, outbox/ and refused/")
    parser.add_argument("--send-to", required=True, metavar="TITLE@HOST:PORT", help="node that receives the reports")
    parser.add_argument("--title", default="D2CXR", help="AE title of this node (%(default)s)")
    parser.add_argument("--port", type=int, default=11112, help="port of this node (%(default)s)")
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="address to listen at (%(default)s); any but a loopback address needs --allow",
    )
    parser.add_argument(
        "--allow", nargs="*", default=[], metavar="TITLE", help="AE titles that may send images (default: all)"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=100, metavar="N", help="images that may wait; more are refused (%(default)s)"
    )
    parser.add_argument("--thresholds", metavar="FILE", help="a thresholds.json to use instead of the card's")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    peer = re.fullmatch(r"([^@]{1,16})@(.+):(\d+)", args.send_to)
    if peer is None:
        raise ValueError(f"--send-to {args.send_to} is not TITLE@HOST:PORT")
    from d2_cxr import artifacts
    from d2_cxr.delivery.node import Node, Peer
    from d2_cxr.prediction.deliver import answer_with_report
    from d2_cxr.prediction.predictor import Predictor

    thresholds = artifacts.read_json(args.thresholds) if args.thresholds else None
    answer = answer_with_report(Predictor(args.weights, args.device, thresholds))
    node = Node(Path(args.folder), answer, Peer(peer[2], int(peer[3]), peer[1]), args.title, args.max_waiting)
    with node.listening(args.port, args.address, args.allow) as port:
        logging.getLogger(__name__).info("%s listens at %s:%d, inbox %s", args.title, args.address, port, node.inbox)
        while True:
            counts = node.work()
            time.sleep(10 if counts["waiting"] else 0.5)


if __name__ == "__main__":
    run_tool(main)
