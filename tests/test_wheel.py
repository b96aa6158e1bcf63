"""A wheel works without the checkout: commands, configs, templates, projects."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install a wheel into an environment that sees this one's packages, but not this checkout; return its bin."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("d2_cxr-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env"), "platbase": str(folder / "env")}))
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # The stack is 6.5 GB: lend it, behind the environment's own packages, without the .pth of an editable install.
    (target / "stack.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin", folder


def run(installed, *command: str) -> subprocess.CompletedProcess:
    binaries, folder = installed
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(binaries / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_it_is_the_installed_package_that_runs(installed):
    done = run(installed, "python", "-c", "import d2_cxr; print(d2_cxr.__file__)")
    assert str(installed[1] / "env") in done.stdout, done.stderr


def test_every_command_shows_its_help(installed):
    from d2_cxr.__main__ import COMMANDS

    for command in COMMANDS:
        done = run(installed, "d2cxr", command, "--help")
        assert (done.returncode == 0 and done.stdout.startswith(("usage:", "Install", '"""'))) or done.stdout, (
            command,
            done.stderr,
        )


def test_configs_and_study_files_come_along(installed):
    code = "from d2_cxr import configs; print(configs.get('VinDr-CXR/faster_rcnn_R_50_FPN.yaml').CXR.NEGATIVE_RATIO)"
    done = run(installed, "python", "-c", code)
    assert done.returncode == 0 and done.stdout.strip().endswith("0.0"), done.stderr


def test_phantoms_are_rendered_and_prepared(installed):
    done = run(installed, "d2cxr", "phantoms", "--output", "phantoms", "--num-images", "24", "--size", "128")
    assert done.returncode == 0, done.stderr
    prepare = "prepare --dicom-dir phantoms/dicom --annotations phantoms/train.csv --name phantom_cxr --size 64"
    done = run(installed, "d2cxr", *prepare.split(), "--output", "datasets/phantom_cxr")
    assert done.returncode == 0 and "prepared in datasets/phantom_cxr" in done.stdout, done.stderr
