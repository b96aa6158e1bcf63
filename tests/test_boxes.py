"""Box arithmetic against numbers worked out by hand."""

import numpy as np
import pytest

from d2_cxr.boxes import (
    BoxMap,
    area,
    as_boxes,
    centers,
    clip,
    pairwise_iobb,
    pairwise_iou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

UNIT = [[0, 0, 10, 10]]


def test_iou_of_two_squares_that_share_a_quarter():
    # intersection 5 * 5 = 25, union 100 + 100 - 25 = 175
    assert pairwise_iou(UNIT, [[5, 5, 15, 15]])[0, 0] == pytest.approx(25 / 175)


def test_boxes_that_only_touch_do_not_overlap():
    assert pairwise_iou(UNIT, [[10, 0, 20, 10]])[0, 0] == 0


def test_iobb_of_a_box_inside_another_is_one_and_not_symmetric():
    inside = [[2, 2, 4, 4]]
    assert pairwise_iobb(inside, UNIT)[0, 0] == 1
    assert pairwise_iobb(UNIT, inside)[0, 0] == pytest.approx(0.04)


def test_boxes_without_area_give_zero_and_no_warning():
    with np.errstate(all="raise"):
        assert pairwise_iou([[3, 3, 3, 3]], [[3, 3, 3, 3]])[0, 0] == 0
        assert pairwise_iobb([[3, 3, 3, 3]], UNIT)[0, 0] == 0


def test_a_reversed_box_has_no_area():
    assert area([[10, 10, 0, 20]]).tolist() == [0]


def test_no_boxes_keep_their_shape():
    assert pairwise_iou([], UNIT).shape == (0, 1)
    assert as_boxes([]).shape == (0, 4)


def test_a_single_flat_box_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"\(4,\)"):
        as_boxes([0, 0, 1, 1])


def test_xywh_comes_back():
    boxes = np.array([[1.5, 2, 4, 8], [0, 0, 1, 1]])
    assert xywh_to_xyxy([[1.5, 2, 2.5, 6]]).tolist() == [[1.5, 2, 4, 8]]
    assert np.array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)


def test_clip_and_centers():
    assert clip([[-5, -5, 30, 8]], 20, 10).tolist() == [[0, 0, 20, 8]]
    assert centers([[0, 0, 20, 8]]).tolist() == [[10, 4]]


def test_a_letterboxed_image_maps_there_and_back():
    # 1000 x 2000 (width x height) into 512 x 512: both sides scale by 0.256, 128 px of padding on the left
    to_prepared = BoxMap(0.256, 0.256, shift_x=128)
    assert to_prepared.forward([[0, 0, 1000, 2000]]).tolist() == [[128, 0, 384, 512]]
    assert np.allclose(to_prepared.inverse(to_prepared.forward([[10, 20, 300, 400]])), [[10, 20, 300, 400]])
