"""Every command of the README is one that its tool accepts."""

import importlib.util
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = [
    line.strip() for line in TEXT.splitlines() if line.startswith(("    python tools/", "    python projects/"))
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c.split()[1:4]))
def test_a_command_of_the_readme_is_accepted(command, monkeypatch):
    path, *arguments = shlex.split(command, comments=True)[1:]
    monkeypatch.syspath_prepend(str((ROOT / path).parent))
    spec = importlib.util.spec_from_file_location(f"readme_{Path(path).stem}", ROOT / path)
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, tool)
    spec.loader.exec_module(tool)
    parsed = vars(tool.parse_args(arguments))
    config = parsed.get("config") or parsed.get("config_file")
    assert config is None or (ROOT / config).is_file()


def test_the_readme_has_the_way_from_images_to_findings():
    tools = {shlex.split(command)[1] for command in COMMANDS}
    for name in ("prepare_vindr_cxr", "pretrain_simclr", "convert_simclr_to_d2", "train_net", "evaluate", "predict"):
        assert f"tools/{name}.py" in tools
