"""Label Studio itself: our tasks imported, boxes corrected through its API, its export read as one more reader.

Installed from the package registry into an environment of its own, which is kept below the user's cache; the variable
LABEL_STUDIO_VENV names another. It answers on loopback only, with a folder of the test's own.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.formats.write import write
from d2_cxr.preparation.export_boxes import export_of_findings, export_of_labels

pytestmark = pytest.mark.slow

VERSION = "1.23.2"
TOKEN = "0123456789abcdef" * 2 + "01234567"
READER = "anna@example.org"
_STARTS_IN_S = 1800  # it builds its database first, which takes minutes on a busy machine
CLASSES = ["Nodule/Mass", "Pleural effusion"]


def program() -> Path:
    """Return label-studio's program, installed if it is nowhere yet."""
    known = os.environ.get("LABEL_STUDIO_VENV")
    home = Path(known) if known else Path.home() / ".cache" / "d2_cxr" / f"label-studio-{VERSION}"
    path = home / "bin" / "label-studio"
    if known and not path.is_file():
        pytest.skip(f"LABEL_STUDIO_VENV={known} holds no bin/label-studio")
    if not path.is_file():
        venv.create(home, with_pip=True)
        install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", f"label-studio=={VERSION}"]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(home)
            reason = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
            pytest.skip(f"label-studio cannot be installed from the package registry: {reason[0]}")
    return path


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """Return a function: path, value to post or None -> the server's answer."""
    label_studio, home = program(), tmp_path_factory.mktemp("label_studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}
    command = [label_studio, "start", "--no-browser", "--data-dir", home, "--internal-host", "127.0.0.1"]
    command += ["--port", str(port), "--username", READER, "--password", "only-here-1", "--user-token", TOKEN]
    with open(home / "log.txt", "w") as log:
        options = {"env": {**os.environ, **quiet}, "stdout": log, "stderr": log}
        server = subprocess.Popen([*command, "--enable-legacy-api-token"], **options)

    def ask(path, value=None):
        content = None if value is None else json.dumps(value).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read()[:2000].decode()}") from error

    try:
        wait_for(server, ask, home / "log.txt")
        yield ask
    finally:
        server.terminate()
        server.wait(60)


def wait_for(server, ask, log):
    end = time.monotonic() + _STARTS_IN_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            return ask("/api/version")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(2)
    raise AssertionError(f"label-studio did not answer in {_STARTS_IN_S} s: {log.read_text()[-3000:]}")


def project_of(ask, folder) -> int:
    """Make a project of our label config and import our tasks."""
    config = (folder / "label_config.xml").read_text()
    project = ask("/api/projects", {"title": folder.name, "label_config": config})["id"]
    tasks = json.loads((folder / "tasks.json").read_text())
    assert ask(f"/api/projects/{project}/import", tasks)["task_count"] == len(tasks)
    return project


def exported(ask, project, path):
    """Write the project's export, with our list of classes beside it, and return its folder."""
    path.mkdir()
    (path / "export.json").write_text(json.dumps(ask(f"/api/projects/{project}/export?exportType=JSON")))
    (path / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return path


@pytest.fixture
def queue(tmp_path):
    """Tasks for two images, the second with a box to correct; and the order in which they are to be labeled."""
    box = {"class": CLASSES[0], "score": 0.75, "box_xyxy": [20, 10, 60, 40], "reported": True}
    image = {"file": "ward/a.png", "image_name": "a", "width": 200, "height": 100, "findings": []}
    other = image | {"file": "ward/b.png", "image_name": "b", "findings": [box]}
    (tmp_path / "findings.json").write_text(json.dumps([image, other]))
    (tmp_path / "detector.json").write_text(json.dumps({"card": {"class_names": CLASSES}, "thresholds": None}))
    export = replace(export_of_findings(tmp_path / "findings.json"), queue={"b": 0.5, "a": 1.0})
    write(export, "label_studio", tmp_path / "queue")
    return tmp_path / "queue"


def test_corrected_predictions_come_back_as_the_labels_of_whoever_corrected_them(studio, queue, tmp_path):
    project = project_of(studio, queue)
    tasks = studio(f"/api/tasks?project={project}&fields=all")["tasks"]
    by_image = {task["data"]["image"].rsplit("/", 1)[1]: task for task in tasks}
    predictions = {name: task["predictions"][0] for name, task in by_image.items()}
    assert {name: found["score"] for name, found in predictions.items()} == {"b.png": 0.5, "a.png": 1.0}
    (drawn,) = predictions["b.png"]["result"]
    corrected = drawn | {"value": drawn["value"] | {"x": 20.0, "rectanglelabels": [CLASSES[1]]}}
    studio(f"/api/tasks/{by_image['b.png']['id']}/annotations", {"result": [corrected]})
    studio(f"/api/tasks/{by_image['a.png']['id']}/annotations", {"result": []})
    labels = read_annotations(exported(studio, project, tmp_path / "back"), "from-csv")
    assert labels.boxes[["image_name", "class_name", "x_min", "y_min", "x_max", "y_max"]].values.tolist() == [
        ["b", CLASSES[1], 40, 10, 80, 40]
    ]
    assert labels.negative_ids == ["a"] and labels.readings["reader_id"].nunique() == 1 and not labels.consensus


def test_readers_labels_go_in_and_one_more_reader_comes_back(studio, tmp_path):
    header = "image_id,class_name,rad_id,x_min,y_min,x_max,y_max,width,height"
    rows = [
        f"b,{CLASSES[0]},R1,20,10,60,40,200,100",
        f"b,{CLASSES[1]},R2,22,11,61,42,200,100",
        "a,No finding,R1,,,,,200,100",
    ]
    (tmp_path / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")
    write(export_of_labels(tmp_path / "boxes.csv", class_names=CLASSES), "label_studio", tmp_path / "readers")
    project = project_of(studio, tmp_path / "readers")
    task = next(
        task for task in studio(f"/api/tasks?project={project}&fields=all")["tasks"] if "b" in task["data"]["image"]
    )
    result = [{"from_name": "label", "to_name": "image", "type": "rectanglelabels", "original_width": 200}]
    value = {"x": 10, "y": 20, "width": 20, "height": 40, "rotation": 0, "rectanglelabels": [CLASSES[0]]}
    studio(f"/api/tasks/{task['id']}/annotations", {"result": [result[0] | {"original_height": 100, "value": value}]})
    labels = read_annotations(exported(studio, project, tmp_path / "back"), "from-csv")
    readers = labels.boxes.sort_values("reader_id")[["reader_id", "class_name", "x_min", "y_max"]].values.tolist()
    assert [row[1:] for row in readers if row[0] in ("R1", "R2")] == [[CLASSES[0], 20, 40], [CLASSES[1], 22, 42]]
    assert len(readers) == 3 and labels.negative_ids == ["a"]
