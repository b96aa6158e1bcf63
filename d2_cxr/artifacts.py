"""Files that are finished or absent: the only writer of the project's own artifacts.

Everything is written to a temporary file and renamed (`os.replace` is atomic on one file system), so that a kill at
any moment leaves either the old file or the new one. The forms are those of docs/formats.md.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

_FULL = 1 << 20  # free bytes


def write_with(path: str | os.PathLike, write: Callable[[str], None]) -> None:
    """Call `write(temporary_path)` and rename what it wrote to `path`.

    The temporary file is in the same folder and has the same suffix, because some writers (numpy, OpenCV) depend on it.

    Raises:
        OSError: the file cannot be written; names file and folder where the disk is full.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".unfinished-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        write(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp gives 0600; other users of a shared set must read it
        os.replace(temporary, path)
    except BaseException as error:
        full = is_full(error, path.parent)
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if full:
            raise OSError(errno.ENOSPC, f"{path.name} cannot be written, the disk of {path.parent} is full") from error
        raise


def is_full(error: BaseException, folder: str | os.PathLike) -> bool:
    """Whether a full disk caused an error while writing; some writers (PyTorch, OpenCV) raise other kinds of errors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if not isinstance(error, RuntimeError) or not os.path.isdir(folder):
        return False
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < _FULL


@contextlib.contextmanager
def only_one(folder: str | os.PathLike) -> Iterator[None]:
    """Hold a folder that a run writes to, so that no second process writes there at the same time.

    The lock is the operating system's: it ends with the process, however that ends. The file `.lock` stays.

    Raises:
        ValueError: another process holds the folder.
        OSError: something inside found the disk full and did not say where; names the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / ".lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process writes to {folder}; wait for it, end it, or choose another") from None
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC and str(folder) not in str(error):
                raise OSError(errno.ENOSPC, f"{folder} cannot be written to, its disk is full") from error
            raise


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write bytes to a file that is finished or absent."""
    write_with(path, lambda temporary: _write_binary(temporary, content))


def write_text(path: str | os.PathLike, content: str) -> None:
    """Write UTF-8 text with line feeds as line ends on every system."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike, value, indent: int | None = 1) -> None:
    """Write JSON with sorted keys and no NaN.

    Raises:
        ValueError: a number is NaN or infinite; give None and say why in another key.
    """
    write_text(path, json.dumps(value, sort_keys=True, allow_nan=False, indent=indent, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike):
    """Read a JSON file, which anybody may have written.

    Raises:
        ValueError: the file is not JSON in UTF-8, or is nested too deeply; names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file ({error}); was it cut short?") from error


def write_csv(
    path: str | os.PathLike, rows: Iterable[Mapping], columns: Sequence[str], for_people: bool = False
) -> None:
    """Write rows (dicts) as CSV with these columns in this order; None becomes an empty cell.

    Args:
        path: the file to write.
        rows: dicts.
        columns: their keys, in order.
        for_people: the table is opened in spreadsheets: text that begins like a formula (= + - @) gets an apostrophe
            in front, so that nothing is computed from a file's name.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(({key: _inert(value) for key, value in row.items()} for row in rows) if for_people else rows)
    write_text(path, text.getvalue())


def _inert(value: object) -> object:
    """Return text that no spreadsheet takes for a formula; numbers stay."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read the rows of a UTF-8 CSV file, each cell as text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sha256_bytes(content: bytes) -> str:
    """Return the sha256 of bytes as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str | os.PathLike) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value) -> str:
    """Return the fingerprint of a plain value: sha256 of its JSON with sorted keys and no spaces."""
    return sha256_bytes(json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("utf-8"))


def sha256_lines(lines: Iterable[str]) -> str:
    """Return the fingerprint of a list of strings, order included: sha256 of the lines, each ended by a line feed."""
    return sha256_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))


def _write_binary(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _read_umask() -> int:
    mask = os.umask(0)  # the only portable way to read it is to set it
    os.umask(mask)
    return mask


_UMASK = _read_umask()


def project_commit() -> str | None:
    """Return the commit of this project's source tree, None where it is not a git checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
