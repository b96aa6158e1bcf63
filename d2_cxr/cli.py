"""What every command-line tool does alike: logging, and one line for whatever ends it early.

Exit codes, the same for all tools:

    0    done
    1    done in part, or what was checked failed; the tool's output says what (refused.csv, MISSING, ...)
    2    a wrong input: one line on stderr says what, where, and what to do
    3    an unexpected error: one line on stderr names the log file that holds the traceback
    130  interrupted (Ctrl-C); 143 terminated (SIGTERM): the same command continues where the tool can
    141  the reader of the output has gone (tool | head)
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import json
import logging
import os
import re
import select
import signal
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

MISTAKE = 2  # a wrong input, as argparse's own exit code
UNEXPECTED = 3
_INTERRUPTED, _CLOSED_PIPE, _TERMINATED = 130, 141, 143  # 128 + SIGINT, SIGPIPE, SIGTERM, as shells report them


LOG_JSON = "D2_CXR_LOG_JSON"  # environment variable, as `d2cxr --log-json FILE`: names the log
SHOWN_AS: dict[str, str] = {}  # a script in the help's examples -> the command that a person typed in its place


class ToolParser(argparse.ArgumentParser):
    """argparse's parser; its help keeps examples as they are typed, its errors offer the nearest option or value."""

    def __init__(self, *args, **options):
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def format_help(self) -> str:
        """Return the help, with examples in the form in which the tool was called."""
        text = super().format_help()
        for script, command in SHOWN_AS.items():
            text = text.replace(f"python {script}", command)
        return text

    def error(self, message: str) -> NoReturn:
        """Write usage and message to stderr, and leave with the exit code of a wrong input."""
        near: list[str] = []
        if unknown := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1)
        elif choice := re.search(r"invalid choice: '(.+)' \(choose from (.+)\)", message):
            near = difflib.get_close_matches(choice[1], re.findall(r"[\w.+-]+", choice[2]), n=1)
        super().error(f"{message}; did you mean {near[0]}?" if near else message)


class JsonLog(logging.FileHandler):
    """A log with a JSON object on each line: time (UTC), level, logger, message."""

    def __init__(self, path: str):
        super().__init__(path, encoding="utf-8")

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        values = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        return json.dumps(values, ensure_ascii=False)


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Run a tool's `main` and leave the process with one of the exit codes above; no traceback reaches the console."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not sys.warnoptions:  # deprecations inside libraries, nothing a user could do about; -W default shows them
        warnings.filterwarnings("ignore", module=r"(torch|torchvision|detectron2|fvcore)(\.|$)")
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # warns of what Detectron2 asks it at every start
    before = leave_on_sigterm()
    try:
        if os.environ.get(LOG_JSON):
            logging.getLogger().addHandler(JsonLog(os.environ[LOG_JSON]))
        code = main()
        sys.stdout.flush()  # here, where a closed pipe can still be distinguished from a failure
    except BrokenPipeError as error:
        if not _stdout_is_closed():
            fail_unexpectedly(error)  # another pipe, such as a worker's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its own last flush
        raise SystemExit(_CLOSED_PIPE) from None
    except KeyboardInterrupt:
        _say_last("stopped; run the same command to continue")
        raise SystemExit(_INTERRUPTED) from None
    except Exception as error:
        end_with(error)
    finally:
        if before is not None:  # a program that calls a tool has its own handler back
            signal.signal(signal.SIGTERM, before)
    raise SystemExit(code or 0)


def positive(text: str) -> int:
    """Return the whole number above 0 that an option was given; a `type` for argparse.

    Raises:
        ArgumentTypeError: it is not one.
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def end_with(error: Exception) -> NoReturn:
    """Write one line about an exception and leave: code 2 for what a user, a file or the machine causes, else 3."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] != "d2_cxr":
        fail(f"{error}; python -m d2_cxr.doctor says what is missing")
    if isinstance(error, ValueError | OSError) and not isinstance(error, BrokenPipeError):
        fail(error)  # UnknownDatasetError, ImageError, ... are kinds of ValueError
    if isinstance(error, MemoryError):
        fail(f"not enough memory ({error or 'MemoryError'})")
    fail_unexpectedly(error)


def fail(error: object) -> NoReturn:
    """Write the one line and leave with the exit code of a wrong input."""
    _say_last(f"{_tool()}: error: {' '.join(str(error).split())}")
    raise SystemExit(MISTAKE) from None


def fail_unexpectedly(error: BaseException) -> NoReturn:
    """Write the traceback to a log file, one line with its path to stderr, and leave with exit code 3."""
    line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    _say_last(f"{_tool()}: unexpected error: {line}; {_traceback_file(error)}")
    raise SystemExit(UNEXPECTED) from None


def leave_on_sigterm():
    """Let SIGTERM end the process as an exception does: worker processes end, files are closed, exit code 143.

    Returns:
        the handler before, None outside the main thread, where the program handles its signals itself.
    """
    try:
        return signal.signal(signal.SIGTERM, _terminated)
    except ValueError:
        return None


def _terminated(_signal: int, _frame: types.FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough; the files are being closed
    raise SystemExit(_TERMINATED)


def _traceback_file(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix=f"{Path(_tool()).stem.replace(' ', '-')}-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:  # no room or no right to write: the last place where the error happened must do
        last = traceback.extract_tb(error.__traceback__)[-1:]
        return f"at {', '.join(f'{frame.filename}:{frame.lineno}' for frame in last)}"
    return f"traceback in {path}"


def _say_last(line: str) -> None:
    """Write the line that ends a tool to stderr, and into the JSON log where there is one."""
    sys.stderr.write(f"{line}\n")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, JsonLog):
            handler.handle(logging.LogRecord("d2_cxr.cli", logging.ERROR, "", 0, line, None, None))


def _tool() -> str:
    return Path(sys.argv[0]).name


def _stdout_is_closed() -> bool:
    """Whether stdout is a pipe that nobody reads; asked of the system, because an unbuffered stdout keeps no trace."""
    try:
        number = sys.stdout.fileno()
    except OSError:  # no file of the system, as under a test
        return False
    asked = select.poll()
    asked.register(number, 0)  # errors are reported without being asked for
    return any(event & select.POLLERR for _, event in asked.poll(0))
