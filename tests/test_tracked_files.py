"""Run folders never enter git: what is tracked stays small."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE = 1_500_000  # bytes
MAX_RESULTS = 300_000


@pytest.fixture(scope="module")
def tracked() -> dict[str, int]:
    """Path -> bytes of every tracked file."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return {str(path.relative_to(ROOT)): path.stat().st_size for path in paths if path.is_file()}


def test_no_tracked_file_is_larger_than_1500_kb(tracked):
    assert {name: size for name, size in tracked.items() if size > MAX_FILE} == {}


def test_the_results_of_studies_take_less_than_300_kb_and_hold_no_run_folder(tracked):
    results = {name: size for name, size in tracked.items() if name.startswith("projects/LabelEfficiency/results/")}
    assert 0 < sum(results.values()) < MAX_RESULTS
    assert not [name for name in results if name.endswith((".npz", ".pth", ".ckpt"))]
