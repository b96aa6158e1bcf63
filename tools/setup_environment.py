"""Create the environment and install the locked versions into it, once.

    python3 tools/setup_environment.py .venv

uv installs what is locked in under a minute; without it, or where it does not reach the registry that pip is set up
for, pip does the same in a few minutes. Nothing is resolved: the lock is complete (docs/dependencies.md says why).
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ["-r", str(ROOT / "requirements.lock"), "-r", str(ROOT / "requirements-dev.lock")]


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(__doc__)
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(__doc__)
        return 2
    if sys.version_info < (3, 11):  # noqa: UP036 (this file runs under whatever `python3` is)
        sys.stderr.write(f"Python 3.11 or 3.12 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11\n")
        return 2
    folder = Path(arguments[0])
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"creating {folder}")
        venv.create(folder, with_pip=True)
    say("installing the locked requirements (6.5 GB on disk)")
    install(python, LOCKS)
    run([python, ROOT / "tools" / "install_detectron2.py"])
    say("installing this package")
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT])
    run([python, "-m", "d2_cxr.doctor"])
    return 0


def install(python: Path, packages: list[str]) -> None:
    """Install exact versions without resolution, compiled to bytecode: without it each start takes 10 s longer."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pip = [str(python), "-m", "pip"]
    uv = [str(python), "-m", "uv", "pip", "install", "--python", str(python), "--no-deps", "--require-hashes"]
    uv.append("--compile-bytecode")
    try:
        subprocess.run([*pip, "install", "--quiet", "uv"], check=True, env=environment)
        subprocess.run([*uv, *packages], check=True, env=environment)
    except subprocess.CalledProcessError:
        say("uv could not do it; pip takes over")
        subprocess.run([*pip, "install", "--no-deps", "--require-hashes", *packages], check=True, env=environment)


def run(command: list) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def say(text: str) -> None:
    sys.stderr.write(f"set-up: {text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
