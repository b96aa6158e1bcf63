"""What a wheel holds, and the lock files: exact versions, each with its hashes, and no address of a registry."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-docs.lock")


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_version_or_a_hash(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    versions = [line for line in lines if re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; .+)? \\", line)]
    hashes = [line for line in lines if re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)]
    assert versions and len(versions) + len(hashes) == len(lines)
    for before, line in zip(lines, [*lines[1:], "end=="], strict=True):
        assert ("--hash" in before) or ("--hash" in line), f"{before} has no hash"


def test_no_package_is_locked_twice():
    lines = [line for name in LOCKS[:2] for line in (ROOT / name).read_text().splitlines()]
    names = [line.split("==")[0].lower() for line in lines if "==" in line]
    assert len(set(names)) == len(names) and "solo-learn" in names


def test_every_package_of_the_source_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "d2_cxr").rglob("__init__.py")}
    assert found - set(listed) == set()
