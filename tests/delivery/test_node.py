import os
import signal
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is missing: pip install -e '.[delivery]'")
pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, DigitalXRayImageStorageForPresentation

from d2_cxr.delivery import node as node_module
from d2_cxr.delivery.node import Node, Peer
from d2_cxr.delivery.source import DeliveryError, read_source, to_bytes
from d2_cxr.delivery.structured_report import structured_report


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(node_module, "_SETTLED", -1)


@pytest.fixture
def archive():
    """A node that takes reports: its port, and what it got; `answers` are the statuses it gives, 0 after these."""
    got, answers = [], []

    def take(event):
        status = answers.pop(0) if answers else 0
        if status == 0:
            got.append(event.dataset)
        return status

    entity = AE(ae_title="ARCHIVE")
    entity.require_called_aet = True
    entity.add_supported_context(Comprehensive3DSRStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    yield server.socket.getsockname()[1], got, answers
    server.shutdown()


@pytest.fixture
def answer(algorithm):
    return lambda path: to_bytes(structured_report(read_source(path), [], {"Mass": 0.3}, algorithm))


@pytest.fixture
def image(make_source):
    """Return a function: number -> path of an image with a UID of its own."""
    return lambda number: make_source(name=f"{number}.dcm", SOPInstanceUID=f"2.25.{number}").path


def send(path, port, called="D2CXR", calling="MODALITY"):
    """Return the status of storing a file, None where the association is rejected."""
    entity = AE(ae_title=calling)
    entity.add_requested_context(DigitalXRayImageStorageForPresentation)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    status = association.send_c_store(pydicom.dcmread(path)).Status
    association.release()
    return status


def referenced(report):
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    return study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID


def test_an_image_that_is_sent_is_answered_with_its_report(tmp_path, archive, answer, image):
    node = Node(tmp_path / "node", answer, Peer("127.0.0.1", archive[0], "ARCHIVE"))
    with node.listening(0) as port:
        assert send(image(1), port) == 0
    assert (tmp_path / "node/inbox/2.25.1.dcm").exists()
    assert node.work() == {"answered": 1, "refused": 0, "waiting": 0}
    assert [referenced(report) for report in archive[1]] == ["2.25.1"]
    assert list(node.inbox.iterdir()) == list(node.outbox.iterdir()) == []


def test_an_image_put_into_the_folder_is_answered_too_once_it_has_settled(
    tmp_path, archive, answer, image, monkeypatch
):
    node = Node(tmp_path / "node", answer, Peer("127.0.0.1", archive[0], "ARCHIVE"))
    (node.inbox / "copied").write_bytes(image(2).read_bytes())
    (node.inbox / ".unfinished-x").write_bytes(b"half")
    monkeypatch.setattr(node_module, "_SETTLED", 60)
    assert node.work()["answered"] == 0
    monkeypatch.setattr(node_module, "_SETTLED", -1)
    assert node.work()["answered"] == 1 and len(archive[1]) == 1


def test_titles_are_checked_and_the_network_needs_callers(tmp_path, archive, answer, image):
    node = Node(tmp_path / "node", answer, Peer("127.0.0.1", archive[0], "ARCHIVE"), title="CXR")
    with node.listening(0, callers=["MODALITY"]) as port:
        assert send(image(1), port, called="OTHER") is None
        assert send(image(1), port, called="CXR", calling="STRANGER") is None
        assert send(image(1), port, called="CXR") == 0
    with pytest.raises(ValueError, match="name the AE titles"), node.listening(0, address="0.0.0.0"):
        pass


def test_the_queue_is_bounded(tmp_path, archive, answer, image):
    node = Node(tmp_path / "node", answer, Peer("127.0.0.1", archive[0], "ARCHIVE"), max_waiting=2)
    with node.listening(0) as port:
        assert [send(image(number), port) for number in (1, 2, 3)] == [0, 0, 0xA700]
        node.work()
        assert send(image(3), port) == 0


def test_a_report_that_is_not_taken_waits_and_is_the_same_when_sent_again(tmp_path, archive, answer, image):
    port, got, answers = archive
    node = Node(tmp_path / "node", answer, Peer("127.0.0.1", port, "ARCHIVE"))
    (node.inbox / "a.dcm").write_bytes(image(1).read_bytes())
    answers.append(0xA700)
    assert node.work() == {"answered": 0, "refused": 0, "waiting": 1}
    (kept,) = node.outbox.iterdir()
    uid = pydicom.dcmread(kept).SOPInstanceUID
    assert node.work()["answered"] == 1 and [report.SOPInstanceUID for report in got] == [uid]
    other = Node(tmp_path / "other", answer, Peer("127.0.0.1", port, "NOBODY"))
    (other.inbox / "a.dcm").write_bytes(image(1).read_bytes())
    assert other.work()["waiting"] == 1 and (other.inbox / "a.dcm").exists()


def test_an_image_without_an_answer_is_set_aside_with_the_reason(tmp_path, archive, answer):
    def refuse(path):
        raise DeliveryError("every pixel has the value 7")

    node = Node(tmp_path / "node", refuse, Peer("127.0.0.1", archive[0], "ARCHIVE"))
    (node.inbox / "a.dcm").write_bytes(b"x")
    assert node.work()["refused"] == 1
    assert (node.refused / "a.dcm").read_bytes() == b"x"
    assert (node.refused / "a.dcm.txt").read_text() == "every pixel has the value 7\n"


def test_a_report_that_was_sent_before_a_kill_is_cleared_away(tmp_path, archive, answer):
    node = Node(tmp_path / "node", answer, Peer("127.0.0.1", archive[0], "ARCHIVE"))
    (node.outbox / "gone.dcm.dcm").write_bytes(b"sent")
    node.work()
    assert list(node.outbox.iterdir()) == [] == archive[1]


_SERVE = """
import os, sys, time
from d2_cxr.delivery import node
from d2_cxr.delivery.source import Algorithm, read_source, to_bytes
from d2_cxr.delivery.structured_report import structured_report
node._SETTLED = -1
def answer(path):
    time.sleep(0.05)
    return to_bytes(structured_report(read_source(path), [], {"Mass": 0.3}, Algorithm("d2_cxr", "0", "ab" * 32)))
for _ in sys.stdin:  # a node for each line, forked with what was imported
    number = os.fork()
    if number == 0:
        served = node.Node(sys.argv[1], answer, node.Peer("127.0.0.1", int(sys.argv[2]), "ARCHIVE"))
        while True:
            served.work()
            time.sleep(0.02)
    print(number, flush=True)
    os.waitpid(number, 0)
    print("killed", flush=True)
"""


@pytest.fixture
def start_node(tmp_path, archive):
    """Return a function that starts a node on tmp_path/node in a process, and returns a function that kills it."""
    command = [sys.executable, "-c", _SERVE, str(tmp_path / "node"), str(archive[0])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, bufsize=1, start_new_session=True) as process:

        def start():
            process.stdin.write("\n")
            number = int(process.stdout.readline())

            def kill():
                os.kill(number, signal.SIGKILL)
                assert process.stdout.readline() == "killed\n"

            return kill

        yield start
        os.killpg(process.pid, signal.SIGKILL)  # a node that a failed test left, too


def test_killed_at_any_moment_every_image_is_answered_or_still_in_the_inbox(tmp_path, archive, image, start_node):
    got = archive[1]
    numbers = range(1, 13)
    inbox = tmp_path / "node/inbox"
    inbox.mkdir(parents=True)
    for number in numbers:
        (inbox / f"2.25.{number}.dcm").write_bytes(image(number).read_bytes())
    uids = {f"2.25.{number}" for number in numbers}
    chance = np.random.default_rng(0)
    for _ in range(30):
        kill = start_node()
        before = len(got)
        deadline = time.monotonic() + 60
        while len(got) < before + 2 and any(inbox.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))
        kill()
        waiting = {path.stem for path in inbox.glob("2.25.*.dcm")}
        assert waiting | {referenced(report) for report in got} == uids
        if not waiting:
            break
    assert {referenced(report) for report in got} == uids
    reports = {referenced(report): set() for report in got}
    for report in got:
        reports[referenced(report)].add(report.SOPInstanceUID)
    assert all(len(found) == 1 for found in reports.values())  # one that was sent twice is the same one
