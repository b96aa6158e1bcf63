"""The doctor runs where things are missing, and names the remedy."""

import builtins
import importlib
import json
import sys

from d2_cxr import doctor


def test_a_missing_detectron2_is_named_with_its_remedy(monkeypatch, capsys):
    real = importlib.import_module

    def import_module(name, *args):
        if name == "detectron2":
            raise ImportError("No module named 'detectron2'")
        return real("json") if name in {"torch", "torchvision", "solo", "pytorch_lightning"} else real(name, *args)

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0")
    assert doctor.main() == 1
    report = capsys.readouterr().out
    assert "MISSING detectron2" in report
    assert "tools/install_detectron2.py" in report
    assert "Missing: detectron2" in report


def test_a_library_that_cannot_load_is_reported_not_raised(monkeypatch):
    def import_module(name, *args):
        raise OSError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)
    finding = doctor._package("cv2", "resizing", "pip install opencv-python-headless", True)
    assert not finding.ok and "libGL.so.1" in finding.seen


def test_an_absent_extra_is_no_failure(monkeypatch):
    assert importlib.util.find_spec("no_such_package") is None
    finding = doctor._package("no_such_package", "an extra", "pip install it", False)
    assert not finding.ok and not finding.required


def test_the_doctor_starts_without_detectron2(monkeypatch):
    """Importing the module must not pull in what it looks for."""
    for name in [m for m in sys.modules if m == "d2_cxr.doctor"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def guarded(name, *args, **kwargs):
        assert name.split(".")[0] not in {"detectron2", "torch", "solo"}, f"importing the doctor imports {name}"
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    importlib.import_module("d2_cxr.doctor")


def test_a_pytorch_below_2_10_fails(monkeypatch):
    import torch

    for version, ok in (("2.9.1+cpu", False), ("2.10.0", True), ("3.0.0", True)):
        monkeypatch.setattr(torch, "__version__", version)
        found = next(finding for finding in doctor.examine() if finding.subject == "torch safety")
        assert found.ok is ok and found.required
        assert ok or "torch>=2.10" in found.remedy


def test_the_report_is_json_where_asked(capsys):
    code = doctor.main(["--json"])
    findings = json.loads(capsys.readouterr().out)
    assert {"subject", "ok", "seen", "remedy", "required"} == set(findings[0])
    assert code == int(any(finding["required"] and not finding["ok"] for finding in findings))
