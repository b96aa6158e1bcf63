"""`d2cxr COMMAND`: every tool under one name."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from d2_cxr.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


def d2cxr(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "d2_cxr", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_every_command_and_an_example():
    done = d2cxr("--help")
    assert done.returncode == 0 and "d2cxr prepare --dicom-dir images" in done.stdout
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_module_with_a_main(command):
    module = COMMANDS[command][0]
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{command}: there is no module {module}"
    assert "def main(" in Path(spec.origin).read_text(encoding="utf-8")


def test_a_command_calls_itself_by_its_name():
    done = d2cxr("prepare", "--dicom-dir", "nowhere", "--output", "out")
    assert done.returncode == 2
    assert done.stderr.startswith("d2cxr prepare: error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["prepare", "train", "statistics", "study", "pretrain", "evaluate"])
def test_the_help_of_a_command_has_an_example_that_can_be_pasted(command):
    done = d2cxr(command, "--help")
    assert done.returncode == 0 and "python tools/" not in done.stdout and "python projects/" not in done.stdout
    lines = [line.strip().removeprefix("example: ") for line in done.stdout.splitlines()]
    assert any(line.startswith(f"d2cxr {command} ") for line in lines)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (("train", "--wieghts", "x"), "d2cxr train: error: unrecognized arguments: --wieghts; did you mean --weights?"),
        (("train", "SEED", "1", "--resume"), "d2cxr train: error: --resume must come before the KEY VALUE pairs"),
        (("predict", "--weights", "a", "--ouput", "b", "c", "--output", "d"), "did you mean --output?"),
        (("study", "--plan", "open_films"), "did you mean open_images?"),
    ],
)
def test_an_unknown_option_or_value_offers_the_nearest(arguments, line):
    done = d2cxr(*arguments)
    assert done.returncode == 2 and line in done.stderr


def test_the_log_is_json_lines_where_asked_and_holds_how_it_ended(tmp_path):
    log = tmp_path / "log.jsonl"
    done = d2cxr("--log-json", str(log), "prepare", "--images", "nowhere", "--output", str(tmp_path / "out"))
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert done.returncode == 2
    assert entries[-1]["level"] == "ERROR" and entries[-1]["message"] == done.stderr.splitlines()[-1]
    assert set(entries[-1]) == {"time", "level", "logger", "message"}


def test_an_unknown_command_offers_the_nearest():
    done = d2cxr("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "d2cxr: error: there is no command trian; did you mean train?; d2cxr --help lists them\n"


def test_the_version_names_commit_and_stack():
    lines = d2cxr("--version").stdout.splitlines()
    assert lines[0].startswith("d2_cxr 0.") and "commit" in lines[0]
    assert any(line.startswith("torch ") for line in lines)


def test_help_imports_nothing_heavy():
    code = "import sys, d2_cxr.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.stderr.write(str({'numpy', 'torch', 'pandas', 'cv2', 'detectron2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stderr == "set()"
