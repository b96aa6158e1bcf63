"""Reports in the viewer that radiologists use: OHIF's own reading of them, and its picture, in a browser.

`D2_CXR_PICTURE=docs/pictures/viewer.jpg` keeps the picture of a phantom.
"""

import io
import json
import os
import subprocess

import cv2
import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.projects.phantom_cxr.dicom_writer import wrap
from d2_cxr.projects.phantom_cxr.make import make_phantoms

from d2_cxr import artifacts
from d2_cxr.delivery.deliver import deliver_image
from d2_cxr.delivery.read_back import read_reports
from d2_cxr.delivery.source import ScoredBox

pytestmark = pytest.mark.slow

BOXES = [ScoredBox("Cardiomegaly", 0.91, (100.25, 200, 300, 400.5)), ScoredBox("Nodule/Mass", 0.5, (10, 20, 60, 90))]


@pytest.fixture(scope="module")
def node(room):
    """Return a function: script and arguments -> the line of JSON that it prints."""
    if "node" in room.missing() or "npm" in room.missing():
        pytest.skip(f"no Node: {room.missing()}")
    try:
        folder = room.node_folder()
    except RuntimeError as error:
        pytest.skip(f"no Node packages to be had: {error}")

    def run(script, *arguments):
        command = ["node", script, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def address(room, tmp_path_factory):
    """The address of OHIF before an archive of its own."""
    if room.missing():
        pytest.skip(f"no archive or no browser: {room.missing()}")
    try:
        room.pages()
    except RuntimeError as error:
        pytest.skip(f"no viewer to be had: {error}")
    with room.orthanc(tmp_path_factory.mktemp("orthanc")) as archive, room.viewer(archive) as url:
        yield url


@pytest.fixture
def report(make_source, algorithm, tmp_path):
    source = make_source(np.zeros((600, 400)))
    return deliver_image(source.path, BOXES, {box.class_name: 0.3 for box in BOXES}, algorithm, tmp_path, "report")[0]


def test_ohifs_adapters_draw_one_rectangle_a_finding_with_our_corners(node, report):
    drawn = node("hydrate.mjs", report)
    assert list(drawn) == ["RectangleROI"]
    for box, item in zip(BOXES, drawn["RectangleROI"], strict=True):
        x0, y0, x1, y1 = np.float32(box.box_xyxy) - 0.5  # its origin is the center of the first pixel
        assert item["points"] == [[x0, y0, 0], [x1, y0, 0], [x0, y1, 0], [x1, y1, 0]]
        assert (item["finding"], item["label"]) == (box.class_name, f"{box.class_name} {box.score:.2f}, research only")
    assert len({item["uid"] for item in drawn["RectangleROI"]}) == 2


def test_what_ohifs_adapters_save_is_read_back_as_it_was(node, report, tmp_path):
    node("hydrate.mjs", report, tmp_path / "saved.dcm")
    rows, problems = read_reports(tmp_path / "saved.dcm", reader="R1")
    assert not any(problems.values())
    assert [(row["class_name"], row["sop_instance_uid"]) for row in rows] == [
        ("Cardiomegaly", "2.25.11"),
        ("Nodule/Mass", "2.25.11"),
    ]
    corners = [[row[key] for key in ("x_min", "y_min", "x_max", "y_max")] for row in rows]
    assert np.abs(np.array(corners) - [box.box_xyxy for box in BOXES]).max() < 0.01


def test_ohifs_adapters_draw_nothing_for_an_image_without_findings(node, make_source, algorithm, tmp_path):
    (path,) = deliver_image(make_source().path, [], {"Mass": 0.3}, algorithm, tmp_path, "report")
    assert node("hydrate.mjs", path) == {}


def store(address, paths):
    from dicomweb_client.api import DICOMwebClient

    client = DICOMwebClient(f"{address}/dicom-web")
    client.store_instances([pydicom.dcmread(path) for path in paths])
    return client


def see(node, room, address, study, picture, *label):
    url = f"{address}/viewer?StudyInstanceUIDs={study}"
    return node("see.mjs", url, "d2_cxr findings", room.chromium(), picture, *label)


def test_the_box_is_drawn_on_the_edges_of_a_mark(node, room, address, algorithm, tmp_path):
    """A bright mark, stored as MONOCHROME1 and shown by the first of two windows, found again in the picture."""
    pixels = np.full((600, 400), 3500, np.uint16)
    pixels[150:350, 120:320] = 300
    windows = [(2048, 4096), (300, 50)]
    wrap(tmp_path / "a.dcm", pixels, photometric="MONOCHROME1", bits_stored=12, windows=windows, identified=True)
    box = ScoredBox("Mass", 0.9, (120, 150, 320, 350))
    (report,) = deliver_image(tmp_path / "a.dcm", [box], {"Mass": 0.3}, algorithm, tmp_path, "report")
    store(address, [tmp_path / "a.dcm", report])
    study = pydicom.dcmread(report).StudyInstanceUID
    seen = see(node, room, address, study, tmp_path / "picture.png")
    picture = cv2.imread(str(tmp_path / "picture.png"))
    bright = (picture.min(axis=2) > 170).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(bright)
    left, top, width, height, _ = max(parts[1:].tolist(), key=lambda part: part[4])
    assert width > 150 and abs(width - height) <= 4  # the mark is a square
    assert np.allclose(seen["boxes"], [[left, top, left + width, top + height]], atol=3)


def test_a_phantoms_findings_are_seen_corrected_saved_and_read_back(node, room, address, algorithm, tmp_path):
    make_phantoms(tmp_path / "set", 3, size=768, seed=3, jobs=1, progress=False)
    truth = artifacts.read_json(tmp_path / "set/truth.json")["images"]
    image = max(truth, key=lambda one: len(one["findings"]))
    (path,) = (tmp_path / "set/dicom").glob(f"{image['image_name' if 'image_name' in image else 'image_id']}.*")
    boxes = [
        ScoredBox(one["class_name"], 0.9 - 0.05 * number, tuple(one["box_xyxy"]))
        for number, one in enumerate(image["findings"])
    ]
    limits = {box.class_name: 0.3 for box in boxes}
    paths = deliver_image(path, boxes, limits, algorithm, tmp_path, "image", ("sr",), assume_uids=True)
    client = store(address, paths)
    study = pydicom.dcmread(paths[0]).StudyInstanceUID
    seen = see(node, room, address, study, tmp_path / "picture.png", "Pneumothorax")
    assert len(seen["boxes"]) == len(boxes) > 3
    assert seen["labels"] == [f"{box.class_name} {box.score:.2f}, research only" for box in boxes]
    _keep(tmp_path / "picture.png")

    saved = tmp_path / "saved"
    saved.mkdir()
    for number, instance in enumerate(client.retrieve_study(study)):
        if instance.Modality == "SR" and instance.SOPInstanceUID != pydicom.dcmread(paths[0]).SOPInstanceUID:
            instance.save_as(saved / f"{number}.dcm", enforce_file_format=True)
    rows, problems = read_reports(saved, reader="R1")
    assert not any(problems.values())
    names = ["Pneumothorax", *(box.class_name for box in boxes[2:])]  # the first was deleted, the second renamed
    assert [row["class_name"] for row in rows] == names
    corners = np.array([[row[key] for key in ("x_min", "y_min", "x_max", "y_max")] for row in rows])
    assert np.abs(corners - [box.box_xyxy for box in boxes[1:]]).max() < 0.01


def _keep(picture):
    if target := os.environ.get("D2_CXR_PICTURE"):
        from PIL import Image

        content = io.BytesIO()
        Image.open(picture).convert("RGB").save(content, "JPEG", quality=80, optimize=True)
        artifacts.write_bytes(target, content.getvalue())
