"""A wheel works without the checkout: commands, configs, templates, projects."""

import os
import subprocess

import pytest

pytestmark = pytest.mark.slow


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
