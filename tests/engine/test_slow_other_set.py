"""Two hospitals, from images to numbers: trained on one prepared set, tested on another, by the tools."""

import csv

import cv2
import pytest
from d2_cxr.projects.phantom_cxr.make import make_phantoms

from d2_cxr import artifacts
from d2_cxr.datasets.leakage import LeakageError

pytestmark = pytest.mark.slow

KEPT = ("Aortic enlargement", "Cardiomegaly")  # of the other hospital's labels
SMALL = ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "4", "CXR.AMP", "off"]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory, load_tool):
    """The folders of two sets, `here` and `there`; the other one's labels name two classes, and all of it is test."""
    root = tmp_path_factory.mktemp("hospitals")
    prepare = load_tool("prepare_vindr_cxr").main
    for name, seed, extra in (("here", 1, []), ("there", 2, ["--split", "all-test", "--classes", "from-csv"])):
        make_phantoms(root / f"{name}_images", num_images=40, size=128, seed=seed, jobs=1)
        table = root / f"{name}_images" / "train.csv"
        if name == "there":
            keep_classes(table)
            copy_of_here(root)
        images = ["--dicom-dir", root / f"{name}_images" / "dicom", "--annotations", table, "--output", root / name]
        arguments = [*map(str, images), "--name", name, "--size", "96", "--jobs", "1", "--classes", "card", *extra]
        assert prepare(arguments) == 0
    return root


def keep_classes(table):
    """Leave the rows of two classes, and call images without such a row negative."""
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row["class_name"] in KEPT]
    empty = dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), "")
    others = {row["image_id"] for row in rows} - {row["image_id"] for row in kept}
    kept += [{**rows[0], **empty, "image_id": image, "class_name": "No finding"} for image in sorted(others)]
    for row in kept:
        row["class_id"] = ["Cardiomegaly", "Aortic enlargement", "No finding"].index(row["class_name"])
    artifacts.write_csv(table, kept, list(rows[0]))


def copy_of_here(root):
    """Add to the other hospital's images a training image of this one, resized, as a picture."""
    train = artifacts.read_json(root / "here" / "annotations" / "stratified" / "train.json")["images"][0]["file_name"]
    picture = cv2.imread(str(root / "here" / "images" / train), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(root / "there_images" / "dicom" / "again.png"), cv2.resize(picture, (150, 150)))
    table = root / "there_images" / "train.csv"
    text = table.read_text()
    values = {"image_id": "again", "class_name": "No finding", "class_id": "2", "rad_id": "R1"}
    columns = text.splitlines()[0].split(",")
    table.write_text(text + ",".join(values.get(column, "") for column in columns) + "\n")


def train(load_tool, hospitals, output, *more):
    sets = f"[['here', '{hospitals / 'here'}'], ['there', '{hospitals / 'there'}']]"
    opts = ["DATASETS.TRAIN", "('here_train',)", "DATASETS.TEST", "('there_test', 'here_test')", "CXR.DATASETS", sets]
    sizes = [f"INPUT.{key}" for key in ("MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST")]
    opts += [*SMALL, "INPUT.MIN_SIZE_TRAIN", "(96,)", *(part for key in sizes for part in (key, "96"))]
    config = ["--config-file", "configs/quick_schedules/demo_R_18.yaml", *more]
    load_tool("train_net").main([*config, *opts, "CXR.RESAMPLES", "20", "OUTPUT_DIR", str(output)])


def test_a_copy_of_a_training_image_in_the_other_set_is_refused_and_the_rest_is_tested(load_tool, hospitals, tmp_path):
    with pytest.raises(LeakageError, match=r"near duplicates in there_.*as again"):
        train(load_tool, hospitals, tmp_path / "leak")
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("again\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2_CXR_ALLOW_LEAKS", str(allowed))
        train(load_tool, hospitals, tmp_path / "run")
    tested, run = ("there_test", "here_test"), tmp_path / "run"
    found = {name: artifacts.read_json(run / "inference" / name / "evaluation.json") for name in tested}
    assert set(found["there_test"]["per_class"]) == set(KEPT) < set(found["here_test"]["per_class"])
    assert found["there_test"]["num_images"] == 41 and found["there_test"]["num_negative_images"] > 0
    assert set(artifacts.read_json(run / "run.json")["datasets"]) == {"here_train", "there_test", "here_test"}
