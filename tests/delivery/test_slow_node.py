"""The DICOM node between other people's programs: dcmtk sends, Orthanc takes the reports."""

import json
import shutil
import subprocess
import urllib.request

import numpy as np
import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is missing: pip install -e '.[delivery]'")
pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.projects.phantom_cxr.dicom_writer import wrap

from d2_cxr.delivery import node as node_module
from d2_cxr.delivery.node import Node, Peer
from d2_cxr.delivery.source import ScoredBox, read_source, to_bytes
from d2_cxr.delivery.structured_report import structured_report

pytestmark = pytest.mark.slow

PROPOSE = {"implicit": "-xi", "explicit": "-xe", "jpeg_lossless": "-xs", "jpeg2000": "-xv", "rle": "-xr"}


def test_dcmtk_sends_in_every_transfer_syntax_and_orthanc_takes_the_reports(tmp_path, room, algorithm, monkeypatch):
    if shutil.which("storescu") is None or "rthanc" in room.missing():
        pytest.skip("no storescu or no Orthanc: apt-get install dcmtk orthanc orthanc-dicomweb")
    monkeypatch.setattr(node_module, "_SETTLED", -1)
    box = ScoredBox("Mass", 0.5, (1, 2, 30, 40))

    def answer(path):
        return to_bytes(structured_report(read_source(path), [box], {"Mass": 0.3}, algorithm))

    (tmp_path / "archive").mkdir()
    port = room.free_port()
    with room.orthanc(tmp_path / "archive", port) as archive:
        node = Node(tmp_path / "node", answer, Peer("127.0.0.1", port, "ORTHANC"))
        with node.listening(0) as own:
            for seed, (syntax, option) in enumerate(PROPOSE.items()):
                pixels = np.random.default_rng(seed).integers(0, 4096, (64, 48)).astype(np.uint16)
                wrap(tmp_path / f"{syntax}.dcm", pixels, bits_stored=12, syntax=syntax, identified=True)
                command = ["storescu", option, "-aec", "D2CXR", "127.0.0.1", str(own), tmp_path / f"{syntax}.dcm"]
                subprocess.run(command, check=True, capture_output=True)
            assert subprocess.run(["echoscu", "-aec", "D2CXR", "127.0.0.1", str(own)]).returncode == 0
            assert subprocess.run(["echoscu", "-aec", "OTHER", "127.0.0.1", str(own)], capture_output=True).returncode
        assert node.work() == {"answered": 5, "refused": 0, "waiting": 0}
        with urllib.request.urlopen(f"{archive}/statistics") as found:
            assert json.load(found)["CountInstances"] == 5
