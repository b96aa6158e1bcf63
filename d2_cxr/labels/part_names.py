"""The parts of a split, as tables, files and folders name them."""

from __future__ import annotations

import re

_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
_WORDS |= {"test": "test", "testing": "test"}


def part_of(word: str) -> str | None:
    """Return "train", "val" or "test" for a word that means one, such as "Valid", in any case; else None."""
    return _WORDS.get(word.strip().casefold())


def part_in_path(path: str) -> tuple[str | None, str]:
    """Return the part that a path names, and the path without it.

    "annotations/instances_train2017" is ("train", "annotations/instances"), "anna/valid" is ("val", "anna"). A path
    that names no part, or more than one, is (None, itself).
    """
    kept, parts = [], []
    for component in path.split("/"):
        words = re.split(r"([_.-]+)", component)
        named = [part_of(re.sub(r"\d+$", "", word)) for word in words]
        parts += [part for part in named if part]
        rest = "".join(word for word, part in zip(words, named, strict=True) if not part).strip("_.-")
        kept += [rest] if rest else []
    return (parts[0], "/".join(kept)) if len(parts) == 1 else (None, path)
