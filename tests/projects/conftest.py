"""The project's package lies beside its scripts, not in the installed one."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "LabelEfficiency"
sys.path.insert(0, str(PROJECT))
