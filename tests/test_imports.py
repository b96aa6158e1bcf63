"""The rules of docs/design.md about who imports whom, held by reading the source."""

import ast
import functools
import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "d2_cxr"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A room may import rooms of a lower number, and itself.
FLOORS = {
    "_registration": 0,
    "boxes": 0,
    "artifacts": 0,
    "config": 0,
    "drawing": 0,
    "chart_style": 0,
    "cli": 0,
    "precision": 0,
    "progress": 0,
    "image_name": 0,
    "counted": 0,
    "dicom": 1,
    "labels": 1,
    "selection": 1,
    "datasets": 2,
    "delivery": 2,
    "audit": 3,
    "preparation": 4,
    "checkpoint": 4,
    "evaluation": 4,
    "pretraining": 5,
    "engine": 5,
    "prediction": 6,
    "presets": 6,
}
OUTSIDE = {"__init__", "__main__", "api", "configs", "doctor", "_registration", "projects", "tools"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def imported_modules(path: Path) -> frozenset[str]:
    """Every module that a file imports, at the top or inside a function."""
    names = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the full name"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if name.startswith("d2_cxr.")} & set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path):
    room = room_of(path)
    if room in OUTSIDE:
        return
    assert room in FLOORS, f"{room} has no floor; name it in docs/design.md and here"
    for other in imported_rooms(path) - {room}:
        assert FLOORS[other] < FLOORS[room] or FLOORS[room] == FLOORS[other] == 0, f"{path} imports {other}"


def test_the_package_does_not_import_its_projects_or_tools():
    for path in SOURCES:
        upwards = {name for name in imported_modules(path) if name.startswith(("d2_cxr.projects", "d2_cxr.tools"))}
        assert not upwards, f"{path} imports {upwards}"


def test_no_files_import_each_other_in_a_circle():
    """Imports inside functions count, too; a package's face, which shows what lies below it, does not."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    files = {name: path for name, path in names.items() if not name.endswith("__init__")}
    order = TopologicalSorter({name: imported_modules(path) & files.keys() for name, path in files.items()})
    assert len(list(order.static_order())) == len(files)  # CycleError names the circle


FENCES = {
    "solo": "d2_cxr/pretraining/",
    "pytorch_lightning": "d2_cxr/pretraining/",
    "lightning": "d2_cxr/pretraining/",
    "imagecodecs": "d2_cxr/dicom/codecs.py",
    "tqdm": "d2_cxr/progress.py",
    "highdicom": "d2_cxr/delivery/",
    "pynetdicom": "d2_cxr/delivery/",
}


@pytest.mark.parametrize("package, home", FENCES.items())
def test_a_package_stays_behind_its_fence(package, home):
    writers = {
        "projects/PhantomCXR/phantom_cxr/dicom_writer.py",
        "d2_cxr/doctor.py",
    }  # encodes images, and asks for versions
    for path in SOURCES:
        place = str(path.relative_to(ROOT))
        if not place.startswith(home) and place not in writers:
            tops = {name.split(".")[0] for name in imported_modules(path)}
            assert package not in tops, f"{place} imports {package}, which belongs in {home}"


@functools.cache
def calls(path: Path) -> frozenset[str]:
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
        elif isinstance(node, ast.Attribute) and node.attr == "pixel_array":
            found.add("pixel_array")
    return frozenset(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_has_one_home_is_done_nowhere_else(path):
    place = str(path.relative_to(PACKAGE))
    done = calls(path)
    if place not in {"dicom/reading.py", "dicom/codecs.py"}:
        assert "pixel_array" not in done
    if place not in {"dicom/preprocess.py", "dicom/reading.py", "dicom/codecs.py"}:
        assert not done & {"cv2.equalizeHist", "cv2.createCLAHE"}
    if place not in {"artifacts.py"}:
        assert not done & {"json.dump", "csv.writer", "csv.DictWriter", "Path.write_text"}, f"{place} writes by itself"
    if place != "boxes.py":
        functions = (node for node in nodes_of(path) if isinstance(node, ast.FunctionDef))
        own = {node.name for node in functions if "pairwise" in node.name or "intersection" in node.name}
        assert not own, f"{place} computes IoU by itself: {own}"


def test_no_room_is_a_junk_drawer():
    for path in SOURCES:
        assert not {"utils", "helpers", "common", "misc"} & {part.removesuffix(".py") for part in path.parts}


def test_the_package_does_not_print():
    for path in SOURCES:
        assert "print" not in calls(path), f"{path} prints; log instead"


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_neither_torch_nor_detectron2():
    heavy = run_python(
        "import sys, d2_cxr, d2_cxr.labels.annotations; print({'torch', 'detectron2'} & set(sys.modules))"
    )
    assert heavy == "set()"


# What a fresh interpreter does, each in a child of its own of one process that has imported already what both packages
# import, which is most of the time.
STARTS = {
    "ours first": "import d2_cxr, detectron2.data",
    "detectron2 first": "import detectron2.data, d2_cxr",
    "by the environment": (
        "import os; os.environ['DETECTRON2_ENV_MODULE'] = 'd2_cxr'; import detectron2.engine; "
        "assert 'd2_cxr' in sys.modules"
    ),
    "on demand": (
        "import d2_cxr\n"
        "from detectron2.data import DatasetCatalog as c, MetadataCatalog as m\n"
        "name = 'phantom_cxr_train_labeled_30_seed1'\n"
        "print(name in c.list())\n"
        "try: c.get(name)\nexcept FileNotFoundError as error: print('prepare' in str(error))\n"
        "print(name in c.list(), m.get(name).evaluator_type)\n"
        "try: c.get('nothing')\nexcept KeyError as error: print('not registered' in str(error))"
    ),
}
_FORK = """
import json, os, sys, traceback
import cv2, fvcore.nn, omegaconf, pandas, torch, torchvision
assert not {{"detectron2", "d2_cxr"}} & set(sys.modules)
for name, code in {starts!r}.items():
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(write, 1)
        try:
            exec(code, {{"sys": sys}})
            from detectron2.data import DatasetCatalog
            print("NAMES", *DatasetCatalog.list(), flush=True)
        except BaseException:
            print(traceback.format_exc(), flush=True)
        os._exit(0)
    os.close(write)
    with open(read) as output:
        print(json.dumps([name, output.read()]), flush=True)
    os.wait()
"""


@pytest.fixture(scope="module")
def started() -> dict[str, str]:
    """Name of STARTS -> what it printed, and the names of all data sets."""
    return dict(json.loads(line) for line in run_python(_FORK.format(starts=STARTS)).splitlines())


@pytest.mark.parametrize("order", ["ours first", "detectron2 first"])
def test_names_are_registered_whichever_is_imported_first(started, order):
    names = started[order].split()
    for name in ("vindr_cxr_train", "vindr_cxr_train_labeled_60", "vindr_cxr_stratified_test", "phantom_cxr_train"):
        assert name in names


def test_detectron2_can_be_told_to_import_the_package(started):
    names = started["by the environment"].split()
    assert "vindr_cxr_train_labeled_60" in names
    assert len(names) < 250  # Detectron2's own and about 130 of ours: seeded fractions come on demand


def test_a_seeded_fraction_is_registered_when_it_is_asked_for(started):
    said = started["on demand"].split("NAMES")[0]
    assert said.split() == ["False", "True", "True", "cxr", "True"]
