"""What is installed, what is missing, and the remedy: `python -m d2_cxr.doctor`.

Runs where Detectron2, torch or any other part is missing, because that is when it is needed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it is there, what was seen, what to do."""

    subject: str
    ok: bool
    seen: str
    remedy: str = ""
    required: bool = True


# import name, what it is for, remedy, required
_PACKAGES = (
    ("numpy", "arrays", "pip install numpy", True),
    ("cv2", "resizing, PNG", "pip install opencv-python-headless (no libGL needed) or opencv-python", True),
    ("pydicom", "DICOM headers, native and RLE pixels", "pip install 'pydicom>=3'", True),
    ("PIL", "JPEG 2000 pixels", "pip install pillow", True),
    ("imagecodecs", "JPEG, JPEG lossless and JPEG-LS pixels", "pip install imagecodecs", True),
    ("pandas", "label tables", "pip install pandas", True),
    ("iterstrat", "stratified splits", "pip install iterative-stratification", True),
    ("safetensors", "weights of other projects", "pip install safetensors", True),
    ("pycocotools", "reference COCO metrics", "pip install pycocotools", True),
    ("torch", "training", "pip install torch torchvision, the build for your hardware", True),
    ("torchvision", "RoIAlign, NMS", "pip install torchvision, the release that belongs to your torch", True),
    ("detectron2", "the detector", "python tools/install_detectron2.py", True),
    ("pytorch_lightning", "pretraining", "pip install -e '.[pretrain]'", False),
    ("solo", "SimCLR", "pip install --no-deps solo-learn==1.0.2", False),
    ("highdicom", "DICOM reports of findings", "pip install -e '.[delivery]'", False),
    ("submitit", "study runs on Slurm", "pip install -e '.[slurm]'", False),
)
_SAFE_TORCH = (2, 10)  # CVE-2025-32434 is fixed in 2.6, CVE-2026-24747 in 2.10
_DISTRIBUTIONS = {"cv2": ("opencv-python-headless", "opencv-python"), "PIL": ("pillow",), "solo": ("solo-learn",)}

# solo-learn imports only with the replacements that d2_cxr.pretraining installs, which takes seconds.
_FOUND_NOT_IMPORTED = {"solo"}


def examine() -> list[Finding]:
    """Look at everything; never raises."""
    findings = [_python()]
    findings += [_package(*row) for row in _PACKAGES]
    looks = {"torch safety": _safe_torch, "codecs": _codecs, "GPU": _gpu, "precision": _precision}
    findings += [_attempt(subject, look) for subject, look in looks.items()]
    findings += [_datasets(), _write_access(Path.cwd())]
    return findings


def main(argv: list[str] | None = None) -> int:
    """Write the report to stdout; return 1 if something required is missing."""
    parser = argparse.ArgumentParser(prog="d2cxr doctor", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv or [])
    findings = examine()
    if args.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
        return 1 if any(finding.required and not finding.ok for finding in findings) else 0
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        mark = "ok     " if finding.ok else "MISSING" if finding.required else "absent "
        lines.append(f"{mark} {finding.subject:<{width}}  {finding.seen}")
        if not finding.ok and finding.remedy:
            lines.append(f"        {'':<{width}}  -> {finding.remedy}")
    missing = [finding.subject for finding in findings if finding.required and not finding.ok]
    lines.append(f"Missing: {', '.join(missing)}" if missing else "Everything that is required is here.")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if missing else 0


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, f"{platform.python_version()} on {platform.machine()}", "use Python 3.11 or 3.12")


def _package(name: str, purpose: str, remedy: str, required: bool) -> Finding:
    """Import it for real: a package that is installed and cannot load (libGL, a foreign torch) is not there."""
    try:
        if name not in _FOUND_NOT_IMPORTED:
            importlib.import_module(name)
        elif importlib.util.find_spec(name) is None:
            raise ImportError(f"No module named {name!r}")
    except ImportError as error:
        return Finding(name, False, f"{purpose}: {error}", remedy, required)
    except Exception as error:  # an import may fail in any way (torchvision with another torch: RuntimeError)
        return Finding(name, False, f"{purpose}: {type(error).__name__}: {error}", remedy, required)
    return Finding(name, True, f"{_version(name)}, {purpose}")


def _version(name: str) -> str:
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return str(getattr(sys.modules.get(name), "__version__", "version unknown"))


def _safe_torch() -> Finding:
    """Reading weights relies on `torch.load(weights_only=True)`, which older releases can be made to bypass."""
    import torch

    found = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    seen = f"{torch.__version__} reads weights files without running them"
    if found >= _SAFE_TORCH:
        return Finding("torch safety", True, seen)
    wanted = ".".join(map(str, _SAFE_TORCH))
    seen = f"{torch.__version__} is below {wanted}: weights files from others may run code (CVE-2026-24747)"
    return Finding("torch safety", False, seen, f"pip install 'torch>={wanted}' and the torchvision that belongs to it")


def _attempt(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # a report about a broken installation must not break on it
        return Finding(subject, False, f"could not be examined: {type(error).__name__}: {error}", required=False)


def _codecs() -> Finding:
    import imagecodecs
    from PIL import features

    decoders = {
        "JPEG 2000": features.check("jpg_2000"),
        "JPEG lossless": imagecodecs.JPEG8.available,
        "JPEG-LS": imagecodecs.JPEGLS.available,
    }
    missing = [name for name, there in decoders.items() if not there]
    seen = f"without {', '.join(missing)}" if missing else ", ".join(decoders)
    return Finding("codecs", not missing, seen, "pip install --upgrade pillow imagecodecs")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", False, f"none; {os.cpu_count()} CPU cores", required=False)
    return Finding("GPU", True, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def _precision() -> Finding:
    from d2_cxr import precision

    name, reason = precision.choose("auto")
    return Finding("precision", True, f"{name} ({reason})")


def _datasets() -> Finding:
    root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    sets = sorted(path.parent.name for path in root.glob("*/dataset.json"))
    seen = f"{root}: {', '.join(sets) or 'no prepared set'}"
    return Finding("data sets", bool(sets), seen, "python tools/prepare_vindr_cxr.py --help", required=False)


def _write_access(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("write access", True, str(folder))
    except OSError as error:
        return Finding("write access", False, f"{folder}: {error}", "work in a folder that you may write to")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
