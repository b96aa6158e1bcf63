"""An archive and a viewer of this machine alone, for tests: Debian's Orthanc, and OHIF's built pages before it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
OHIF = "3.12.10"  # of @ohif/app
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_PAGES = """window.config = {routerBasename: null, extensions: [], modes: [], customizationService: {},
  showStudyList: true, maxNumberOfWebWorkers: 2, investigationalUseDialog: {option: "never"},
  defaultDataSourceName: "dicomweb", dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "dicomweb",
    configuration: {name: "orthanc", friendlyName: "Orthanc", qidoRoot: "/dicom-web", wadoRoot: "/dicom-web",
      imageRendering: "wadors", thumbnailRendering: "wadors", supportsWildcard: true, bulkDataURI: {enabled: true}}}]};
"""


def missing() -> str:
    """Name what the archive and the browser lack on this machine, "" where all is there."""
    names = [name for name in ("node", "npm", "Orthanc", "chromium") if shutil.which(name, path=_path()) is None]
    return ", ".join([*names, *([] if _PLUGIN.exists() else ["orthanc-dicomweb"])])


def chromium() -> str:
    return shutil.which("chromium")


def node_folder() -> Path:
    """Return a folder with the Node packages of package.json and our scripts, installed once below ~/.cache.

    Raises:
        RuntimeError: npm cannot get them.
    """
    manifest = (HERE / "package.json").read_bytes()
    folder = _cache() / f"node-{hash_of(manifest)}"
    if not (folder / "node_modules").exists():
        with _unfinished(folder) as work:
            (work / "package.json").write_bytes(manifest)
            _npm(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], work)
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def pages() -> Path:
    """Return the folder of OHIF's built pages, unpacked once below ~/.cache.

    Raises:
        RuntimeError: npm cannot get them.
    """
    folder = _cache() / f"ohif-{OHIF}"
    if not folder.exists():
        with _unfinished(folder) as work:
            _npm(["pack", f"@ohif/app@{OHIF}", "--silent"], work)
            (archive,) = work.glob("*.tgz")
            with tarfile.open(archive) as file:
                file.extractall(work, filter="data")
            archive.unlink()
    return folder / "package" / "dist"


@contextlib.contextmanager
def orthanc(folder: Path, dicom_port: int | None = None):
    """Run Orthanc on a port of its own, files in `folder`; yield its address. Its DICOM title is ORTHANC."""
    port = free_port()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [str(_PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": dicom_port is not None,
        "DicomPort": dicom_port or 4242,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [shutil.which("Orthanc", path=_path()), str(folder / "orthanc.json")], stdout=log, stderr=log
        )
        try:
            _wait(f"http://127.0.0.1:{port}/system", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def viewer(archive: str):
    """Serve OHIF's pages, and the archive under the same address; yield it."""
    handler = type("Handler", (_Handler,), {"archive": archive, "pages": pages()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Handler(SimpleHTTPRequestHandler):
    archive: str
    pages: Path

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, directory=str(self.pages), **options)

    def do_GET(self):
        if self.path.startswith("/dicom-web"):
            return self._forward()
        if self.path.startswith("/app-config.js"):
            return self._answer(200, "text/javascript", _PAGES.encode())
        if not (self.pages / self.path.split("?")[0].lstrip("/")).is_file():
            self.path = "/index.html"  # addresses of the viewer itself, such as /viewer?StudyInstanceUIDs=...
        return super().do_GET()

    def do_POST(self):
        return self._forward()

    def log_message(self, *_):
        pass

    def _forward(self):
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name: self.headers[name] for name in ("Accept", "Content-Type", "Host") if self.headers[name]}
        body = self.rfile.read(length) if length else None
        request = urllib.request.Request(self.archive + self.path, body, headers, method=self.command)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())

    def _answer(self, status: int, kind: str, content: bytes):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def hash_of(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()[:12]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin"  # where Debian puts Orthanc


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "d2_cxr"


@contextlib.contextmanager
def _unfinished(folder: Path):
    """Yield a folder that becomes `folder` once it is filled, so that a stopped download is begun anew."""
    work = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    work.mkdir(parents=True)
    try:
        yield work
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _npm(arguments: list[str], folder: Path) -> None:
    command = ["npm", *arguments, "--fetch-retries=1"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"npm {arguments[0]} takes longer than two minutes") from error
    if done.returncode:
        raise RuntimeError(f"npm {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _wait(url: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(150):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(url).close()
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"Orthanc does not answer: {log.read_text(errors='replace')[-500:]}")
