"""Fusion against boxes fused by hand, and against the rule written out plainly."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2_cxr.boxes import pairwise_iou
from d2_cxr.labels.fusion import cluster_boxes, fuse_annotations, fusion_report

CORNERS = ["x_min", "y_min", "x_max", "y_max"]


def frame(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_name", "class_name", "reader_id", *CORNERS])


def test_two_readers_that_overlap_become_their_mean_and_a_third_stays():
    fused = fuse_annotations(
        frame(
            ("a", "ILD", "R1", 0, 0, 10, 10),
            ("a", "ILD", "R2", 2, 0, 12, 10),  # IoU 80 / 120
            ("a", "ILD", "R3", 50, 50, 60, 60),
        )
    )
    assert fused[CORNERS].values.tolist() == [[1, 0, 11, 10], [50, 50, 60, 60]]
    assert fused["num_readers"].tolist() == [2, 1]
    iou = 90 / 110  # the mean shares 9 x 10 with each
    assert fused["reader_ious"][0] == {"R1": pytest.approx(iou), "R2": pytest.approx(iou)}
    assert fused["reader_ious"][1] == {"R3": 1.0}
    assert fused["row"].tolist() == [0, 2]


def test_an_overlap_of_exactly_the_threshold_does_not_join():
    boxes = frame(("a", "ILD", "R1", 0, 0, 6, 1), ("a", "ILD", "R2", 4, 0, 10, 1))  # IoU 2 / 10
    assert len(fuse_annotations(boxes, iou_threshold=0.2)) == 2
    assert len(fuse_annotations(boxes, iou_threshold=0.19)) == 1


def test_the_order_is_the_reverse_of_the_file():
    # The last two meet first (IoU 1/3), their mean 3..13 then misses the first (IoU 0.1875 = 3/16 < 0.2).
    boxes = frame(("a", "x", "R1", 0, 0, 6, 1), ("a", "x", "R2", 1, 0, 11, 1), ("a", "x", "R3", 6, 0, 16, 1))
    assert cluster_boxes(boxes).tolist() == [0, 2, 2]
    assert fuse_annotations(boxes)[CORNERS].values.tolist() == [[0, 0, 6, 1], [3.5, 0, 13.5, 1]]
    forward = boxes.iloc[::-1].reset_index(drop=True)  # the first two meet first, then their mean meets the third
    assert fuse_annotations(forward)[CORNERS].values.tolist() != fuse_annotations(boxes)[CORNERS].values.tolist()


def test_images_and_classes_never_meet():
    box = (0, 0, 10, 10)
    boxes = frame(("a", "ILD", "R1", *box), ("a", "Edema", "R1", *box), ("b", "ILD", "R1", *box))
    assert len(fuse_annotations(boxes)) == 3


def test_two_boxes_of_one_reader_count_one_reader_with_its_best_iou():
    boxes = frame(("a", "ILD", "R1", 0, 0, 10, 10), ("a", "ILD", "R1", 0, 0, 10, 6), ("a", "ILD", "R1", 0, 0, 10, 8))
    fused = fuse_annotations(boxes)
    assert fused[CORNERS].values.tolist() == [[0, 0, 10, 8]]
    assert (fused["num_readers"][0], fused["num_boxes"][0], fused["reader_ious"][0]) == (1, 3, {"R1": 1.0})


def test_majority_keeps_clusters_of_enough_readers_and_none_keeps_every_box():
    boxes = frame(("a", "ILD", "R1", 0, 0, 10, 10), ("a", "ILD", "R2", 2, 0, 12, 10), ("b", "ILD", "R3", 0, 0, 10, 10))
    assert fuse_annotations(boxes, "majority:2")["image_name"].tolist() == ["a"]
    assert len(fuse_annotations(boxes, "majority:3")) == 0
    untouched = fuse_annotations(boxes, "none")
    assert untouched[CORNERS].values.tolist() == boxes[CORNERS].values.tolist()
    assert untouched["reader_ious"].tolist() == [{"R1": 1.0}, {"R2": 1.0}, {"R3": 1.0}]


@pytest.mark.parametrize("rule", ["median", "majority", "majority:0", "majority:two"])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(ValueError, match=f"fusion rule '{rule}' is not one of"):
        fuse_annotations(frame(("a", "ILD", "R1", 0, 0, 1, 1)), rule)


def test_a_threshold_of_one_is_refused():
    with pytest.raises(ValueError, match="outside"):
        fuse_annotations(frame(("a", "ILD", "R1", 0, 0, 1, 1)), iou_threshold=1)


def test_nothing_fuses_to_nothing():
    assert len(fuse_annotations(frame())) == 0


def test_the_report_adds_up():
    boxes = frame(("a", "ILD", "R1", 0, 0, 10, 10), ("a", "ILD", "R2", 2, 0, 12, 10), ("b", "ILD", "R3", 0, 0, 10, 10))
    report = fusion_report(boxes, fuse_annotations(boxes))
    assert (report["read"], report["fused"], report["merged"], report["dropped"]) == (3, 2, 1, 0)
    assert (report["by_num_readers"], report["single_reader_share"]) == ({"1": 1, "2": 1}, 0.5)
    report = fusion_report(boxes, fuse_annotations(boxes, "majority:2"))
    assert (report["read"], report["fused"], report["merged"], report["dropped"]) == (3, 1, 1, 1)


def plainly_fused(boxes: np.ndarray, iou_threshold: float) -> list[list[float]]:
    """The rule for one image and class, as its text says it."""
    clusters: list[list[np.ndarray]] = []
    for box in boxes[::-1]:
        ious = [pairwise_iou(box[None], np.mean(cluster, axis=0)[None])[0, 0] for cluster in clusters]
        best = int(np.argmax(ious)) if ious else -1
        if ious and ious[best] > iou_threshold:
            clusters[best].append(box)
        else:
            clusters.append([box])
    return sorted(np.mean(cluster, axis=0).tolist() for cluster in clusters)


side = st.integers(1, 20)
box = st.tuples(st.integers(0, 20), st.integers(0, 20), side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
row = st.tuples(st.sampled_from("ab"), st.sampled_from(["ILD", "Edema"]), st.sampled_from(["R1", "R2", "R3"]), box)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(row, max_size=25), iou_threshold=st.sampled_from([0.1, 0.2, 0.4, 0.7]))
def test_all_images_at_once_give_what_the_plain_rule_gives(rows, iou_threshold):
    boxes = frame(*((image, name, reader, *corners) for image, name, reader, corners in rows))
    fused = fuse_annotations(boxes, iou_threshold=iou_threshold)
    for key, group in boxes.groupby(["image_name", "class_name"]):
        mine = fused[(fused["image_name"] == key[0]) & (fused["class_name"] == key[1])]
        expected = plainly_fused(group[CORNERS].to_numpy(float), iou_threshold)
        np.testing.assert_allclose(sorted(mine[CORNERS].values.tolist()), expected, atol=1e-9)
    assert fused["num_boxes"].sum() == len(boxes)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=15))
def test_fusion_does_not_depend_on_scale(rows):
    boxes = frame(*((image, name, reader, *corners) for image, name, reader, corners in rows))
    scaled = boxes.copy()
    scaled[CORNERS] *= [2.0, 4.0, 2.0, 4.0]  # powers of two: no rounding, so ties stay ties
    assert cluster_boxes(scaled).tolist() == cluster_boxes(boxes).tolist()
