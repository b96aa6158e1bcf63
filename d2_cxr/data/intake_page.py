"""intake.html: what became of every file, in one page that opens anywhere."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from d2_cxr import artifacts
from d2_cxr.data import manifest


def write(output: Path, description: Mapping, rows: Sequence[Mapping], left_out: Mapping[str, str]) -> None:
    """Write the page of a set."""
    artifacts.write_text(output / "intake.html", page(output, description, rows, left_out))


def page(output: Path, description: Mapping, rows: Sequence[Mapping], left_out: Mapping[str, str]) -> str:
    counts = Counter(row["outcome"] for row in rows)
    lines = [f"<tr><td>{outcome}<td>{counts[outcome]}<td>{text}" for outcome, text in manifest.OUTCOMES.items()]
    return "<!doctype html><meta charset=utf-8><title>intake</title><table>" + "".join(lines) + "</table>"
