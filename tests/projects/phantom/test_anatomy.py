"""Bodies: normal and enlarged hearts and aortas lie on their own side of the line, and vary on it."""

import numpy as np
import pytest
from d2_cxr.projects.phantom_cxr import anatomy
from d2_cxr.projects.phantom_cxr.canvas import Frame, band, closed_curve, extent, filled, soft_mask


def people(count, wide_heart, wide_aorta):
    return [anatomy.draw_person(np.random.default_rng(i), wide_heart, wide_aorta) for i in range(count)]


def width(outline):
    x0, _, x1, _ = extent(outline)
    return x1 - x0


def test_the_outline_of_the_heart_has_the_cardiothoracic_ratio_of_the_body():
    for body in people(20, wide_heart=True, wide_aorta=False):
        assert width(anatomy.heart(body)) / 2 == pytest.approx(body.heart_ratio, abs=0.02)  # the chest is 2 units wide


def test_more_than_half_the_chest_is_cardiomegaly_and_less_is_not():
    wide = [body.heart_ratio for body in people(200, wide_heart=True, wide_aorta=False)]
    normal = [body.heart_ratio for body in people(200, wide_heart=False, wide_aorta=False)]
    assert max(normal) < 0.5 < min(wide)
    assert np.std(wide) > 0.03 and np.std(normal) > 0.02  # a decision, not two templates


def test_an_enlarged_aorta_has_a_wider_arch_than_any_negative_one():
    wide = [width(anatomy.knob(body)) for body in people(200, wide_heart=False, wide_aorta=True)]
    normal = [width(anatomy.knob(body)) for body in people(200, wide_heart=False, wide_aorta=False)]
    assert max(normal) < min(wide)


def test_the_heart_and_the_arch_lie_towards_the_patients_left_which_is_the_images_right():
    for body in people(50, wide_heart=False, wide_aorta=False):
        assert anatomy.heart(body)[:, 0].mean() > 0
        assert anatomy.knob(body)[:, 0].mean() > 0


def test_lungs_mirror_each_other_but_for_the_lower_left_diaphragm():
    for body in people(20, wide_heart=False, wide_aorta=False):
        right, left = anatomy.lung(body, "right"), anatomy.lung(body, "left")
        assert right[:, 0].max() < 0 < left[:, 0].min()
        assert left[:, 1].max() > right[:, 1].max()


def test_a_frame_turns_scales_and_shifts():
    frame = Frame(height=100, width=100, scale=10.0, center=(50.0, 40.0), angle=np.pi / 2)
    # a quarter turn takes x to y (downwards), then 10 pixels a unit from the center
    assert frame.to_pixels([(1.0, 0.0), (0.0, 2.0)]) == pytest.approx(np.array([[50.0, 50.0], [30.0, 40.0]]))


def test_a_filled_shape_has_the_area_and_the_extent_of_its_outline():
    circle = 50 + 20 * np.stack([np.cos(np.arange(0, 6.28, 0.05)), np.sin(np.arange(0, 6.28, 0.05))], axis=1)
    mask = filled((100, 100), [circle])
    assert mask.sum() / 255 == pytest.approx(np.pi * 20**2, rel=0.06)
    rows, columns = np.nonzero(mask > 127)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == pytest.approx((30, 70, 30, 70), abs=1)


def test_a_soft_mask_keeps_its_area_at_any_reduction():
    square = np.array([(32.0, 32.0), (96.0, 32.0), (96.0, 96.0), (32.0, 96.0)])
    for blur in (0.5, 2.0, 8.0):  # the last is drawn at a quarter of the size
        assert soft_mask((128, 128), [square], blur).sum() == pytest.approx(64 * 64, rel=0.08)


def test_a_band_is_as_wide_as_asked():
    outline = band(np.array([(0.0, 0.0), (10.0, 0.0), (20.0, 0.0)]), 4.0)
    assert extent(outline) == pytest.approx([0, -2, 20, 2])


def test_a_closed_curve_passes_through_its_points():
    points = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)])
    curve = closed_curve(points, per_segment=8)
    assert curve[::8] == pytest.approx(points)
