"""A progress bar on a terminal; in a file a line at the start, after ten seconds, then one a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

_FIRST_S, _THEN_S = 10, 60
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} gone, {remaining} left{postfix}"


class Bar(tqdm):
    """tqdm's bar, which in a file writes whole lines, without carriage returns.

    Its arguments are tqdm's. `unit` is a word in the singular.
    """

    def __init__(self, *args, **options):
        file = options.get("file") or sys.stderr
        self._is_terminal = file.isatty()
        if not self._is_terminal:
            options = {"bar_format": _LINE, **options, "mininterval": _FIRST_S, "miniters": 1}
        self._lines = 0
        super().__init__(*args, **options)

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """Return what writes a state: over the one before on a terminal, as a separate line in a file."""
        if file.isatty():
            return tqdm.status_printer(file)

        def write(text: str) -> None:
            file.write(f"{text.strip()}\n")
            file.flush()

        return write

    def refresh(self, *args, **options) -> bool | None:
        """Show the state."""
        self._lines += 1
        if not self._is_terminal and self._lines > 1:
            self.mininterval = _THEN_S
        return super().refresh(*args, **options)

    def close(self) -> None:
        """Show the last state."""
        if not self.disable and not self._is_terminal:
            self.sp(str(self))
            self.delay = float("inf")  # else tqdm ends the line a second time
        super().close()
