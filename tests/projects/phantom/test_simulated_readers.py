"""Simulated readers: who reads, and that they disagree about as readers do."""

import numpy as np
import pytest
from d2_cxr.projects.phantom_cxr import readers
from d2_cxr.projects.phantom_cxr.finding import Finding

from d2_cxr.boxes import pairwise_iou


def rng(number=0):
    return np.random.default_rng(number)


def finding(name="Cardiomegaly", box=(100, 200, 300, 320), conspicuity=0.8):
    return Finding(name, np.array([box], dtype=np.float64), conspicuity)


def read(number, drawn, trio=("R8", "R9", "R10")):
    return readers.read_image(rng(number), trio, drawn, width=400, height=512)


def test_three_different_readers_of_the_pool_read_an_image():
    for number in range(50):
        trio = readers.choose_readers(rng(number), has_findings=number % 2 == 0)
        assert len(set(trio)) == 3 and set(trio) <= {f"R{i}" for i in range(1, 18)}


@pytest.mark.parametrize("has_findings, share", [(True, 0.94), (False, 0.13)])
def test_the_main_trio_reads_most_images_with_findings(has_findings, share):
    trios = [set(readers.choose_readers(rng(number), has_findings)) for number in range(1500)]
    assert np.mean([trio == {"R8", "R9", "R10"} for trio in trios]) == pytest.approx(share, abs=0.03)


def test_an_image_without_findings_gets_one_row_without_box_from_every_reader():
    rows = read(0, [])
    assert [row["rad_id"] for row in rows] == ["R8", "R9", "R10"]
    assert all(row["class_name"] is None and row["box"] is None for row in rows)


def test_every_reader_draws_something_on_an_image_with_findings():
    hardly_seen = [finding("Calcification", (10, 10, 22, 20), 0.0), finding("Other lesion", (50, 50, 90, 99), 0.1)]
    for number in range(40):
        assert {row["rad_id"] for row in read(number, hardly_seen)} == {"R8", "R9", "R10"}


def test_boxes_are_whole_pixels_on_the_image():
    at_the_edge = [finding(box=(0, 0, 30, 12)), finding(box=(370, 490, 400, 512)), finding(box=(5, 5, 8, 8))]
    for number in range(30):
        for row in read(number, at_the_edge):
            x0, y0, x1, y1 = row["box"]
            assert 0 <= x0 < x1 <= 400 and 0 <= y0 < y1 <= 512
            assert all(value == int(value) for value in row["box"])


def test_readers_frame_a_finding_alike_but_not_the_same():
    truth = np.array([[100.0, 200, 300, 320]])
    rows = [row for number in range(60) for row in read(number, [finding()]) if row["class_name"] == "Cardiomegaly"]
    fit = pairwise_iou(np.array([row["box"] for row in rows]), truth)[:, 0]
    assert 0.75 < np.median(fit) < 0.95


def test_readers_miss_what_is_hard_to_see():
    drawn = [
        finding(),
        finding("Calcification", (20, 20, 40, 40), 0.1),
        finding("Calcification", (60, 20, 90, 40), 1.0),
    ]
    rows = [row for number in range(300) for row in read(number, drawn)]
    hard = sum(row["box"][2] < 50 for row in rows if row["class_name"] == "Calcification") / 900
    easy = sum(row["box"][2] > 50 for row in rows if row["class_name"] == "Calcification") / 900
    assert 0.2 < hard < easy - 0.2 < 0.9


def test_similar_names_are_exchanged_now_and_then():
    names = [row["class_name"] for number in range(200) for row in read(number, [finding("Infiltration")])]
    swapped = np.mean([name in {"Lung Opacity", "Consolidation"} for name in names])
    assert 0.05 < swapped < 0.25


def test_a_reader_has_the_same_habits_on_every_image():
    assert readers.reader("R9") == readers.reader("R9") != readers.reader("R8")


def test_more_readers_than_the_pool_holds_are_refused():
    with pytest.raises(ValueError, match="1 to 17 readers, not 18"):
        readers.choose_readers(rng(), True, 18)
