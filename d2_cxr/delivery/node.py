"""A DICOM node: images come in by C-STORE or are put into a folder, reports go out to a named node.

    FOLDER/inbox/      an image that is not answered yet
    FOLDER/outbox/     its report, until the other node has taken it
    FOLDER/refused/    an image that cannot be answered, and the reason

An image leaves the inbox only when the other node has confirmed its report. So a node that is killed at any moment
loses nothing: what is in the inbox is answered after the next start, and a report that was sent and not yet cleared
away is sent again, the same file under the same UID.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import uid as uids
from pynetdicom import AE, evt
from pynetdicom.events import Event

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.dicom import codecs, reading

logger = logging.getLogger(__name__)

IMAGES = (
    uids.ComputedRadiographyImageStorage,
    uids.DigitalXRayImageStorageForPresentation,
    uids.DigitalXRayImageStorageForProcessing,
    uids.SecondaryCaptureImageStorage,
)
SYNTAXES = sorted(reading.NATIVE | codecs.JPEG | codecs.JPEG_LS | codecs.JPEG_2000 | {uids.RLELossless})
_VERIFICATION = "1.2.840.10008.1.1"  # C-ECHO, PS3.4 A.4
_SUCCESS, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000  # PS3.4 B.2.3
_SETTLED = 1.0  # seconds since the last change: a file that someone copies into the inbox may still grow


@dataclass(frozen=True)
class Peer:
    """The node that gets the reports."""

    host: str
    port: int
    title: str


class Node:
    """Answers images with reports.

    Args:
        folder: gets inbox, outbox and refused.
        answer: path of an image -> bytes of its report; raises ValueError where it has none.
        peer: who gets the reports.
        title: our AE title.
        max_waiting: images in the inbox from which on further ones are refused with "out of resources".
    """

    def __init__(
        self,
        folder: str | Path,
        answer: Callable[[Path], bytes],
        peer: Peer,
        title: str = "D2CXR",
        max_waiting: int = 100,
    ):
        self.inbox, self.outbox, self.refused = (Path(folder) / name for name in ("inbox", "outbox", "refused"))
        for path in (self.inbox, self.outbox, self.refused):
            path.mkdir(parents=True, exist_ok=True)
        self._answer, self._peer, self._title, self._max_waiting = answer, peer, title, max_waiting
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, port: int, address: str = "127.0.0.1", callers: Sequence[str] = ()) -> Iterator[int]:
        """Accept images while inside; yields the port. An association that calls another AE title is rejected.

        Args:
            port: 0 takes a free one.
            address: of the interface; loopback unless said otherwise.
            callers: AE titles that may call; all where there are none.

        Raises:
            ValueError: an address beyond loopback without callers.
        """
        if not callers and not address.startswith("127.") and address not in ("::1", "localhost"):
            raise ValueError(f"address {address} can be reached from outside: name the AE titles that may call")
        entity = AE(ae_title=self._title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(callers)
        entity.add_supported_context(_VERIFICATION)
        for sop_class in IMAGES:
            entity.add_supported_context(sop_class, SYNTAXES)
        server = entity.start_server((address, port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._receive)])
        assert server is not None and server.socket is not None  # with block=False it is there
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()

    def work(self) -> dict[str, int]:
        """Answer what is in the inbox, oldest first; return how many were answered, refused, and have to wait.

        An image waits where the other node cannot be reached or does not take the report.
        """
        for report in self.outbox.glob("*.dcm"):  # of images that have left: sent, and not cleared away before a kill
            if not (self.inbox / report.stem).exists():
                report.unlink()
        counts = {"answered": 0, "refused": 0, "waiting": 0}
        for path in self._waiting():
            counts[self._handle(path)] += 1
        return counts

    def _receive(self, event: Event) -> int:
        uid = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        if not re.fullmatch(r"[0-9.]{1,64}", uid):  # it becomes a file's name
            return _CANNOT_UNDERSTAND
        with self._lock:
            if len(self._all()) >= self._max_waiting:
                logger.warning("refused %s: %s waiting already", uid, counted(self._max_waiting, "image"))
                return _OUT_OF_RESOURCES
            artifacts.write_bytes(self.inbox / f"{uid}.dcm", event.encoded_dataset())
        return _SUCCESS

    def _handle(self, path: Path) -> str:
        report = self.outbox / f"{path.name}.dcm"
        if not report.exists():
            try:
                artifacts.write_bytes(report, self._answer(path))
            except ValueError as error:
                artifacts.write_text(self.refused / f"{path.name}.txt", f"{error}\n")
                path.replace(self.refused / path.name)
                logger.warning("refused %s: %s", path.name, error)
                return "refused"
        problem = self._send(report)
        if problem:
            logger.warning("%s waits: %s", path.name, problem)
            return "waiting"
        path.unlink()
        report.unlink()
        logger.info("answered %s", path.name)
        return "answered"

    def _send(self, report: Path) -> str:
        """Send a report; return what went wrong, "" where the other node has confirmed it."""
        peer = self._peer
        entity = AE(ae_title=self._title)
        entity.add_requested_context(uids.Comprehensive3DSRStorage)
        association = entity.associate(peer.host, peer.port, ae_title=peer.title)
        if not association.is_established:
            return f"{peer.title} at {peer.host}:{peer.port} does not accept an association for SR"
        try:
            status = association.send_c_store(pydicom.dcmread(report)).get("Status")
        finally:
            association.release()
        taken = status is not None and (status == _SUCCESS or status >> 12 == 0xB)  # 0xBxxx: stored, with a warning
        return "" if taken else f"{peer.title} answered {'nothing' if status is None else f'{status:04X}'}"

    def _all(self) -> list[Path]:
        return [path for path in self.inbox.iterdir() if path.is_file() and not path.name.startswith(".")]

    def _waiting(self) -> list[Path]:
        ages = [(path.stat().st_mtime, path) for path in self._all()]
        return [path for changed, path in sorted(ages) if time.time() - changed > _SETTLED]
