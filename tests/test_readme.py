"""Every command of the README is one that its tool accepts."""

import importlib
import shlex
from pathlib import Path

import pytest

from d2_cxr.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
LINES = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
SCRIPTS = [line for line in LINES if line.startswith(("python tools/", "python projects/"))]
SHOWN = [line for line in LINES if line.startswith("d2cxr ")]


def accept(module: str, arguments: list[str]) -> None:
    parsed = vars(importlib.import_module(module).parse_args(arguments))
    config = parsed.get("config") or parsed.get("config_file")
    assert not config or (ROOT / config).is_file()


@pytest.mark.parametrize("command", SCRIPTS, ids=lambda c: " ".join(c.split()[1:4]))
def test_a_script_of_the_readme_is_accepted(command):
    path, *arguments = shlex.split(command, comments=True)[1:]
    kind, *_, name = Path(path).with_suffix("").parts
    accept(f"d2_cxr.{kind}.{name}", arguments)


@pytest.mark.parametrize("command", SHOWN, ids=lambda c: " ".join(c.split()[:3]))
def test_a_d2cxr_command_of_the_readme_is_accepted(command):
    name, *arguments = shlex.split(command, comments=True)[1:]
    assert name in COMMANDS
    if arguments:
        accept(COMMANDS[name][0], arguments)


def test_the_readme_has_the_way_from_images_to_findings():
    tools = {shlex.split(command)[1] for command in SCRIPTS}
    for name in ("prepare_vindr_cxr", "pretrain_simclr", "convert_simclr_to_d2", "train_net", "evaluate", "predict"):
        assert f"tools/{name}.py" in tools


@pytest.mark.parametrize("page", ["README.md", "docs/README.md", "docs/decisions/README.md", "docs/design.md"])
def test_every_link_leads_to_a_file(page):
    import re

    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (ROOT / page).parent.joinpath(target).exists()]
    assert not missing


def test_every_decision_is_in_the_index_under_its_own_number():
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert len({page[:3] for page in pages}) == len(pages)
    assert all(f"[{page[:3]}]({page})" in index for page in pages)
