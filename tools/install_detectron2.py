"""Install Detectron2 as a pure-Python package that pip knows.

    python tools/install_detectron2.py

An importable Detectron2 is kept. Otherwise the official source at a pinned commit is taken, and where it cannot be
reached a repackaged copy of it from the package registry, pinned by sha256. Either becomes a wheel without compiled
code: Faster R-CNN uses nothing of `detectron2._C` (RoIAlign and NMS come from torchvision). Detectron2's own tools are
put into build/detectron2-tools/, never into the environment, where a top-level `tools` would shadow others.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import importlib.util
import io
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

logger = logging.getLogger("install_detectron2")

COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"  # official main branch, June 2026
SOURCE_URL = f"https://github.com/facebookresearch/detectron2/archive/{COMMIT}.tar.gz"
CONNECT_SECONDS = 15
REGISTRY_PACKAGE = "sal-detectron2==0.7.2"  # main branch of November 2024, its Python unchanged but for formatting
REGISTRY_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
TOOLS_FOLDER = Path(__file__).resolve().parents[1] / "build" / "detectron2-tools"

# What the Python that we take really imports. The copy in the registry requires numpy<2 and black, and forgets fvcore
# and iopath; the official one pins ranges that today's releases have left.
REQUIREMENTS = (
    "cloudpickle",
    "fvcore>=0.1.5",
    "hydra-core>=1.1",
    "iopath>=0.1.9",
    "matplotlib",
    "omegaconf>=2.1",
    "packaging",
    "pillow>=7.1",
    "pycocotools>=2.0.2",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29",
    "yacs>=0.1.8",
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from-registry", action="store_true", help="do not try the official source")
    parser.add_argument("--tools-folder", type=Path, default=TOOLS_FOLDER, help="where Detectron2's own tools go")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    found = importlib.util.find_spec("detectron2")
    if found is not None:
        check_import(found.origin)
        logger.info("detectron2 is installed already: %s", found.origin)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        source, version = fetch(Path(folder), args.from_registry)
        keep_tools(source, args.tools_folder)
        wheel = build_wheel(source, version, Path(folder))
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    logger.info("Installed detectron2 %s; its own tools are in %s", version, args.tools_folder)
    return 0


def check_import(origin: str) -> None:
    """Stop where an installed Detectron2 is broken, for example compiled against another torch."""
    done = subprocess.run([sys.executable, "-c", "import detectron2.modeling"], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise SystemExit(f"{origin} does not import ({reason}); run `pip uninstall detectron2` first, then this again")


def fetch(folder: Path, from_registry: bool) -> tuple[Path, str]:
    """Return the folder that holds `detectron2/` and `tools/`, and the version to give the wheel."""
    if not from_registry:
        try:
            return fetch_official(folder), f"0.6+git{COMMIT[:7]}"
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:  # no way, cut short, a login page
            logger.info("The official source is not available (%s); using %s.", error or type(error), REGISTRY_PACKAGE)
    return fetch_registry(folder), "0.7.2+registry"


def fetch_official(folder: Path) -> Path:
    logger.info("Fetching Detectron2 %s ...", COMMIT[:7])
    with urllib.request.urlopen(SOURCE_URL, timeout=CONNECT_SECONDS) as answer:
        archive = answer.read()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder / "official", filter="data")
    source = folder / "official" / f"detectron2-{COMMIT}"
    zoo = source / "detectron2" / "model_zoo" / "configs"  # Detectron2's setup.py links it there while building
    if not zoo.exists():
        shutil.copytree(source / "configs", zoo)
    return source


def fetch_registry(folder: Path) -> Path:
    """Download the repackaged wheel and unpack its Python; its tag says cp310, though only its `_C` is compiled."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.10", "--dest", str(folder), REGISTRY_PACKAGE]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("sal_detectron2-*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != REGISTRY_SHA256:
        raise SystemExit(f"{wheel.name} has sha256 {found}, expected {REGISTRY_SHA256}; it is not the file we tested")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "registry")
    return folder / "registry"


def keep_tools(source: Path, target: Path) -> None:
    """Copy Detectron2's own command-line tools out of the way, for those who want to run them on our names."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "tools", target, ignore=shutil.ignore_patterns("deploy", "__init__.py", "dev"))


def build_wheel(source: Path, version: str, folder: Path) -> Path:
    """Write a wheel (the binary distribution format of PEP 427) with the pure-Python part of Detectron2."""
    info = f"detectron2-{version}.dist-info"
    package = source / "detectron2"
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.suffix not in {".so", ".pyc", ".pyd"}
    }
    license = next(iter([*source.glob("LICENSE"), *source.glob("*.dist-info/LICENSE")]))
    files[f"{info}/LICENSE"] = license.read_bytes()
    requirements = "".join(f"Requires-Dist: {requirement}\n" for requirement in REQUIREMENTS)
    metadata = f"Metadata-Version: 2.1\nName: detectron2\nVersion: {version}\nRequires-Python: >=3.8\n{requirements}"
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: d2_cxr\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    wheel = folder / f"detectron2-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def _digest(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    raise SystemExit(main())
