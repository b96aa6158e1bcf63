"""Drawn boxes are where they should be, and labels can be read."""

import numpy as np
import pytest

from d2_cxr.drawing import class_color, contact_sheet, draw_boxes


def test_a_box_is_drawn_in_its_color_and_the_image_stays_as_it_was():
    image = np.zeros((100, 200), np.uint8)
    drawn = draw_boxes(image, [[20, 30, 120, 80]], colors=[(255, 0, 0)], thickness=1)
    assert drawn.shape == (100, 200, 3) and image.max() == 0
    assert drawn[50, 20].tolist() == [255, 0, 0] and drawn[30, 70].tolist() == [255, 0, 0]
    assert drawn[50, 70].tolist() == [0, 0, 0]


def test_labels_of_two_boxes_at_one_place_do_not_cover_each_other():
    image = np.zeros((400, 400), np.uint8)
    boxes = [[100, 100, 300, 300], [100, 100, 300, 300]]

    def red_strip(drawn):  # red above row 99, where no frame is
        return (drawn[:99] == (255, 0, 0)).all(axis=2).sum()

    alone = red_strip(draw_boxes(image, boxes[:1], ["one"], [(255, 0, 0)]))
    beside_another = red_strip(draw_boxes(image, boxes, ["one", "two"], [(255, 0, 0), (0, 255, 0)]))
    assert alone > 0 and beside_another == alone


def test_a_label_at_the_edge_stays_inside_the_image():
    drawn = draw_boxes(np.zeros((100, 100), np.uint8), [[90, 0, 100, 10]], ["Aortic enlargement"])
    assert drawn.shape == (100, 100, 3)


def test_fourteen_classes_have_fourteen_colors():
    assert len({class_color(index) for index in range(14)}) == 14


def test_labels_must_be_as_many_as_boxes():
    with pytest.raises(ValueError):
        draw_boxes(np.zeros((10, 10), np.uint8), [[0, 0, 5, 5]], ["a", "b"])


def test_a_contact_sheet_has_room_for_all_and_refuses_none():
    sheet = contact_sheet([np.full((50, 100), 200, np.uint8)] * 5, ["image"] * 5, columns=3, tile=60)
    assert sheet.shape == (2 * 80, 3 * 64, 3)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
