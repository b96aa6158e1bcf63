"""How tools end: one line and a code, a log file for what nobody expected, silence where nobody reads on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from d2_cxr.cli import run_tool
from d2_cxr.datasets.named_sets import UnknownDatasetError, named_set

ROOT = Path(__file__).resolve().parents[1]


def ended(monkeypatch, capsys, error):
    """Return exit code and stderr of a tool whose main raises."""

    def main():
        raise error

    monkeypatch.setattr(sys, "argv", ["tools/some_tool.py"])
    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("size is 0"), "size is 0"),
        (ValueError("two\n  lines"), "two lines"),
        (FileNotFoundError("w.pth does not exist"), "w.pth does not exist"),
        (OSError(28, "No space left on device", "out"), "[Errno 28] No space left on device: 'out'"),
        (UnknownDatasetError("no data set 'x'"), "no data set 'x'"),  # not in the quotes that KeyError adds
        (
            ModuleNotFoundError("No module named 'solo'", name="solo"),
            "No module named 'solo'; python -m d2_cxr.doctor says what is missing",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(monkeypatch, capsys, error, line):
    assert ended(monkeypatch, capsys, error) == (2, f"some_tool.py: error: {line}\n")


def test_an_unknown_data_set_is_one_line(monkeypatch, capsys):
    with pytest.raises(UnknownDatasetError) as error:
        named_set("nowhere_train")
    code, line = ended(monkeypatch, capsys, error.value)
    assert code == 2 and line.startswith("some_tool.py: error: no data set 'nowhere_train'; known sets are ")


@pytest.mark.parametrize(
    "error",
    [KeyError("image_id"), TypeError("our mistake"), BrokenPipeError(), ModuleNotFoundError(name="d2_cxr.gone")],
)
def test_an_unexpected_error_is_one_line_and_its_traceback_a_file(monkeypatch, capsys, error, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code, line = ended(monkeypatch, capsys, error)
    assert code == 3 and line.count("\n") == 1 and "Traceback" not in line
    path = line.strip().rpartition("traceback in ")[2]
    text = Path(path).read_text()
    assert Path(path).parent == tmp_path and text.startswith("Traceback") and type(error).__name__ in text


def test_without_a_place_for_the_log_the_line_says_where_it_happened(monkeypatch, capsys):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    code, line = ended(monkeypatch, capsys, KeyError("x"))
    assert code == 3 and "test_cli.py:" in line


def test_sigterm_ends_with_143_after_cleaning_up(tmp_path):
    script = (
        "import sys, time; from d2_cxr.cli import run_tool\n"
        "def main():\n"
        "    try:\n        print('ready', flush=True); time.sleep(60)\n"
        f"    finally:\n        open({str(tmp_path / 'closed')!r}, 'w').close()\n"
        "run_tool(main)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert (process.wait(), process.stderr.read()) == (143, b"") and (tmp_path / "closed").exists()


def test_the_code_of_main_is_the_processs(monkeypatch):
    for returned, code in ((None, 0), (0, 0), (1, 1)):
        with pytest.raises(SystemExit) as stop:
            run_tool(lambda returned=returned: returned)
        assert stop.value.code == code


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 20_000])  # what fits into the buffer fails at the last flush only
def test_a_reader_who_leaves_ends_the_tool_quietly(lines, unbuffered):
    script = (
        "import sys; from d2_cxr.cli import run_tool; sys.stdin.read(); "
        f"run_tool(lambda: [print('a line') for _ in range({lines})] and 0)"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, **pipes)
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)
