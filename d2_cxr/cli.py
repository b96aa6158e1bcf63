"""What every command-line tool does alike: logging, and one line for a user's mistake."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

MISTAKE = 2  # exit code where what was given is wrong, as argparse's own
_CLOSED_PIPE = 141  # 128 + SIGPIPE, what a shell reports of any program whose reader has gone


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's `main` and leave the process; a wrong input ends in one line on stderr and exit code 2.

    Only the kinds of error that a user, a file or the machine causes are shortened; anything else keeps its traceback,
    because it is our mistake. Where the reader of our output has gone (`tool | head`), the tool ends without a word.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not sys.warnoptions:  # deprecations inside libraries, nothing a user could do about; -W default shows them
        warnings.filterwarnings("ignore", module=r"(torch|torchvision|detectron2|fvcore)(\.|$)")
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # warns of what Detectron2 asks it at every start
    signal.signal(signal.SIGTERM, _end)
    try:
        code = main()
        sys.stdout.flush()  # here, where a closed pipe can still be told from a failure
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise  # another pipe, such as a worker's: our mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its own last flush
        raise SystemExit(_CLOSED_PIPE) from None
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "d2_cxr":
            raise
        fail(f"{error}; python -m d2_cxr.doctor says what is missing")
    except (ValueError, OSError) as error:  # UnknownDatasetError, ImageError, ... are kinds of ValueError
        fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        raise SystemExit(130) from None
    raise SystemExit(code or 0)


def _end(number: int, frame: object) -> None:
    """End on SIGTERM as on Ctrl-C: what is done is kept, workers are ended, and the exit code is a shell's."""
    raise SystemExit(128 + number)


def fail(error: object) -> None:
    """Write the one line and leave with the exit code of a mistake."""
    sys.stderr.write(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}\n")
    raise SystemExit(MISTAKE) from None


def _stdout_is_closed() -> bool:
    """Whether stdout is a pipe that nobody reads; asked of the system, because an unbuffered stdout keeps no trace."""
    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)  # errors are told unasked
    return any(event & select.POLLERR for _, event in asked.poll(0))
