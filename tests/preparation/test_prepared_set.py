"""Which images VinDr-CXR's lists hold, from its real table and images that are only said to be prepared."""

from pathlib import Path

import pytest

from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.preparation import prepared_set
from d2_cxr.preparation.plan import Plan


def pretend_prepared(image_names) -> prepared_set.Images:
    rows = [
        {"image_name": image, "outcome": "prepared", "rows": "4000", "columns": "4000", "image_sha256": image}
        for image in image_names
    ]
    return prepared_set.number_images(rows, 512, None)


@pytest.fixture(scope="module")
def table(vinbigdata_csv):
    return read_annotations(vinbigdata_csv)


def lists(table, images):
    plan = Plan(
        name="vindr_cxr",
        output=Path("vindr_cxr"),
        sources=[],
        annotations=table,
        test_annotations=None,
        order=None,
        patients=None,
        patient_codes=None,
        parts=None,
        rules=Preprocess(),
        settings={"fusion": {"rule": "mean"}, "split": {"seed": 0}},
    )
    return prepared_set.assemble(plan, images, list(images.rows))


def test_the_published_split_is_written_where_every_image_is_there(table):
    made = lists(table, pretend_prepared(table.image_names))
    counts = made.counts
    assert [counts[f"published_{part}"] for part in ("train", "val", "test")] == [3075, 440, 879]
    assert counts["fused_boxes"] == 21195 and counts["readers_boxes"] == 36096
    assert sum(counts[f"published_negative_{part}"] for part in ("train", "val", "test")) == 10606
    assert counts["unlabeled"] == 0 and made.notes == []


def test_one_image_less_leaves_only_the_stratified_names(table):
    images = pretend_prepared([image for image in table.image_names if image != table.finding_ids[0]])
    made = lists(table, images)
    assert "it lacks 1 of its 4,394 images" in made.notes[0]
    assert not any(path.startswith("published/") for path in made.files)
    assert sum(made.counts[f"stratified_{part}"] for part in ("train", "val", "test")) == 4393
