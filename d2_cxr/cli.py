"""What every command-line tool does alike: logging, and one line for a user's mistake."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool's `main` and leave the process; a wrong input ends in one line on stderr and exit code 2.

    Only the kinds of error that a user or a file causes are shortened; anything else keeps its traceback, because it
    is our mistake.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        code = main()
    except (ValueError, FileNotFoundError, NotADirectoryError, FileExistsError, PermissionError) as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: error: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        raise SystemExit(130) from None
    raise SystemExit(code or 0)
