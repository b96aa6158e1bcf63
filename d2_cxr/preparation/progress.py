"""What is known of a set that is being prepared, so that a killed run continues where it was.

`.preparing/` in the set's folder holds the rows of the images done so far, in files of a few seconds each, and goes
when the set is finished. Of a finished set the manifest is what is known: images added to the folder later are prepared
and the lists written anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.datasets import image_array, manifest
from d2_cxr.datasets.manifest import Source
from d2_cxr.image_name import image_name, png_name

_FLUSH_S = 2.0  # so much work a kill may cost, and each image is then done again with the same result
_RETRIED = ("quarantined", "missing")


class Progress:
    """The rows of a set in the making."""

    def __init__(self, output: Path, settings: dict):
        """Read what earlier runs left.

        Raises:
            ValueError: the folder holds another set, or one of other settings.
        """
        self._output, self._folder = output, output / ".preparing"
        self._settings = settings
        self._rows: dict[tuple, dict] = {}
        self._read_before: dict[tuple, float] = {}  # when a row was written down, seconds since the epoch
        self._timings: dict[str, dict] = {}
        self._new: list[dict] = []
        self._flushed = time.monotonic()
        self._check_settings()
        self._read()

    def forget_changed(self, sources: Iterable[Source]) -> None:
        """Forget files that have become others of the same length since they were read.

        Only a file with a later time of modification is read again, so a file that was replaced with an older time is
        taken for the one that it replaced.
        """
        for source in sources:
            row = self._rows.get(source.key)
            if row is None or source.path.stat().st_mtime <= self._read_before.get(source.key, 0):
                continue
            if row["source_sha256"] and artifacts.sha256_bytes(source.read()) != row["source_sha256"]:
                del self._rows[source.key]

    def is_finished(self, sources: Iterable[Source]) -> bool:
        """Whether the set is finished and its manifest is of exactly these files."""
        if not (self._output / "dataset.json").is_file():
            return False
        files = {key for key, row in self._rows.items() if row["outcome"] not in _RETRIED}
        return files == {source.key for source in sources}

    def knows(self, source: Source) -> bool:
        """Whether a file has its outcome already."""
        row = self._rows.get(source.key)
        if row is None or row["outcome"] in _RETRIED:
            return False
        return row["outcome"] != "prepared" or (self._output / "images" / png_name(source.image_name)).is_file()

    def add(self, source: Source, result: Mapping) -> None:
        """Keep what became of a file."""
        row = manifest.row_of(source, result)
        timing = {column: f"{float(result.get(column, 0)):.1f}" for column in manifest.TIMING_COLUMNS[1:]}
        self._rows[source.key] = row
        self._timings[source.image_name] = timing
        self._new.append({"row": row, "timing": timing})
        if time.monotonic() - self._flushed > _FLUSH_S:
            self._flush()

    def rows(self, sources: Iterable[Source]) -> list[dict[str, str]]:
        """Return the manifest rows of these files."""
        return [self._rows[source.key] for source in sources]

    def write_timings(self) -> None:
        """Write timings.csv."""
        rows = [{"image_name": image, **timing} for image, timing in sorted(self._timings.items())]
        artifacts.write_csv(self._output / "timings.csv", rows, manifest.TIMING_COLUMNS)

    def unfinish(self) -> None:
        """Take away the file that says the set is finished, and the array of earlier images, before its lists and its
        page are written anew.
        """
        self._flush()
        for name in ("dataset.json", image_array.ARRAY, image_array.INDEX):
            (self._output / name).unlink(missing_ok=True)

    def finish(self, description: dict, rows: Iterable[Mapping[str, str]]) -> None:
        """Write dataset.json, and remove what belongs to no image of this set."""
        images: dict[str, set[str]] = {"prepared": set(), "refused": set()}
        for row in rows:
            images.setdefault(row["outcome"], set()).add(row["image_name"])
        for folder, outcome in (("images", "prepared"), ("refused", "refused")):
            for png in (self._output / folder).glob("*"):
                if png.name.startswith(".unfinished-") or (
                    png.suffix == ".png" and image_name(png) not in images[outcome]
                ):
                    png.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or not empty
            (self._output / "refused").rmdir()
        for leftover in self._output.rglob(".unfinished-*"):
            leftover.unlink(missing_ok=True)
        artifacts.write_json(self._output / "dataset.json", description)
        self._new.clear()

    @contextlib.contextmanager
    def locked(self, alone: bool) -> Iterator[None]:
        """Hold the folder while images are prepared, and keep what was done on leaving, whatever the reason.

        Args:
            alone: no other run may work here; False for shards, which share.

        Raises:
            ValueError: another run is at work here.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / "lock", "ab") as lock:
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another run is preparing {self._output}; wait for it, or end it") from None
            artifacts.write_json(self._folder / "settings.json", self._settings)
            try:
                yield
            except BaseException:
                with contextlib.suppress(OSError):  # on a full disk, what has been raised already says so
                    self._flush()
                raise
            else:
                self._flush()
                if (self._output / "dataset.json").is_file():
                    self.clean()

    def clean(self) -> None:
        """Remove the notes of a set that is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove everything of a set of which no image could be prepared."""
        self._new.clear()
        self.clean()
        shutil.rmtree(self._output / "refused", ignore_errors=True)
        for folder in (self._output / "images", self._output):
            with contextlib.suppress(OSError):  # not empty: something else is there
                folder.rmdir()

    def _flush(self) -> None:
        if self._new and self._folder.is_dir():
            name = f"rows-{os.getpid()}-{time.time_ns()}.json"
            artifacts.write_json(self._folder / name, self._new, indent=None)
            self._new.clear()
        self._flushed = time.monotonic()

    def _read(self) -> None:
        if (self._output / "manifest.csv").is_file():
            written = (self._output / "manifest.csv").stat().st_mtime
            for row in manifest.read(self._output / "manifest.csv"):
                self._keep(row, written)
        if (self._output / "timings.csv").is_file():
            for row in artifacts.read_csv(self._output / "timings.csv"):
                self._timings[row.pop("image_name")] = row
        for path in sorted(self._folder.glob("rows-*.json")):
            for entry in artifacts.read_json(path):
                self._keep(entry["row"], path.stat().st_mtime)
                self._timings[entry["row"]["image_name"]] = entry["timing"]

    def _keep(self, row: dict, written: float) -> None:
        key = (row["part"], row["file"], row["bytes"])
        self._rows[key], self._read_before[key] = row, written

    def _check_settings(self) -> None:
        for path in (self._output / "dataset.json", self._folder / "settings.json"):
            if path.is_file():
                before = artifacts.read_json(path)
                version, own = before.get("format_version"), self._settings["format_version"]
                if version != own:
                    raise ValueError(
                        f"{self._output} holds a set of format {version}, d2_cxr now writes {own}; choose another "
                        "output, or delete it"
                    )
                other = sorted(key for key, value in self._settings.items() if before.get(key) != value)
                if other:
                    raise ValueError(
                        f"{self._output} holds a set of other settings ({', '.join(other)}); choose another output, or "
                        "delete it"
                    )
        foreign = self._output.exists() and not self._output.is_dir()
        if foreign:
            raise ValueError(f"{self._output} is a file; give a folder for the set")
