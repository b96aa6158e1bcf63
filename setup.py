"""Package of d2_cxr. Ranges here; the exact versions that were tested together stand in requirements.lock.

torch, torchvision, detectron2 and solo-learn are left out on purpose (docs/dependencies.md): torch depends on your
hardware, Detectron2 has no official package, and solo-learn's metadata demands torch 1.9.1.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "d2_cxr/__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="d2_cxr",
    version=VERSION,
    description="Detectron2 extension for detecting findings on chest radiographs with few labels",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=("d2_cxr", "d2_cxr.*")),
    package_data={"d2_cxr": ["report/templates/*"]},
    install_requires=[
        "fvcore>=0.1.5",
        "imagecodecs>=2024.1",
        "iopath>=0.1.9",
        "iterative-stratification>=0.1.7",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "opencv-python>=4.8",
        "pandas>=2.1",
        "pillow>=10.3",
        "pycocotools>=2.0.7",
        "pydicom>=3.0,<4",
        "pyyaml>=6",
        "scikit-learn>=1.4",
        "tqdm>=4.66",
    ],
    extras_require={
        "pretrain": [
            "einops>=0.7",
            "hydra-core>=1.3",
            "omegaconf>=2.3",
            "pytorch-lightning>=2.2,<3",
            "tensorboard>=2.15",
            "timm>=0.9",
            "torchmetrics>=1.2",
        ],
        "timm": ["timm>=0.9"],
        "slurm": ["submitit>=1.5"],
        "dev": [
            "faster-coco-eval>=1.6",
            "hypothesis>=6.100",
            "pydicom-data>=1.0",
            "pytest>=8",
            "ruff>=0.5",
            "torchxrayvision>=1.3",
        ],
    },
)
