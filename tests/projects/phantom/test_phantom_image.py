"""Rendered images: what a seed decides, what a finding changes, and that they look the right way round."""

import copy
import functools

import numpy as np
import pytest
from d2_cxr.projects.phantom_cxr import anatomy, findings, image, render_image
from d2_cxr.projects.phantom_cxr.canvas import Frame, extent
from d2_cxr.projects.phantom_cxr.scene import draw_scene

from d2_cxr.boxes import aligned_iou
from d2_cxr.labels.vindr_cxr import CLASS_NAMES

LESIONS = [name for name in CLASS_NAMES if name not in {"Aortic enlargement", "Cardiomegaly"}]


def rng(number=0):
    return np.random.default_rng(number)


def scene_of(body_seed=0, **ill):
    """A scene that findings may be added to."""
    return copy.deepcopy(drawn_once(body_seed, ill.get("wide_heart", False), ill.get("wide_aorta", False)))


@functools.cache
def drawn_once(body_seed, wide_heart, wide_aorta, size=256):
    body = anatomy.draw_person(rng(body_seed), wide_heart, wide_aorta)
    return draw_scene(rng(1), rng(2), body, Frame(size, size, 0.4 * size, (size / 2, 0.47 * size)))


@functools.cache
def healthy_density(body_seed):
    return scene_of(body_seed).density()


rendered = functools.cache(render_image)


def test_the_same_seed_and_index_give_the_same_image():
    first, again = rendered(3, 5, 128), render_image(3, 5, 128)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.findings == again.findings


def test_another_seed_or_index_gives_another_image():
    pixels = rendered(3, 5, 128).pixels
    for other in (render_image(3, 6, 128), render_image(4, 5, 128)):
        assert other.pixels.shape != pixels.shape or not np.array_equal(other.pixels, pixels)


def test_the_longer_side_is_the_size_and_values_are_display_values():
    for index in range(12):
        pixels = rendered(0, index, 128).pixels
        assert max(pixels.shape) == 128 and min(pixels.shape) >= 0.75 * 128
        assert pixels.dtype == np.float32 and pixels.min() >= 0 and pixels.max() <= 1


def test_another_size_shows_the_same_person():
    for index in range(6):
        small, large = rendered(0, index, 128), render_image(0, index, 256)
        assert small.heart_ratio == large.heart_ratio
        hearts = [[box for name, box in one.findings if name == "Cardiomegaly"] for one in (small, large)]
        assert np.array(hearts[0]) * 2 == pytest.approx(np.array(hearts[1]), abs=4)


def test_no_image_shows_findings_at_share_0_and_every_image_at_share_1():
    assert not any(findings.draw_classes(rng(i), 0.0) for i in range(200))
    assert all(findings.draw_classes(rng(i), 1.0) for i in range(200))


def test_classes_are_as_unbalanced_as_in_the_training_images_of_the_paper():
    drawn = [findings.draw_classes(rng(i), 1.0) for i in range(3000)]
    for name, share in {"Aortic enlargement": 0.708, "Nodule/Mass": 0.208, "Pneumothorax": 0.026}.items():
        assert np.mean([name in classes for classes in drawn]) == pytest.approx(share, abs=0.03)


def test_lungs_are_darker_than_the_heart_and_air_is_darker_than_the_body():
    scene = scene_of()
    density = scene.density()
    x0, y0, x1, y1 = extent(scene.lungs["right"]).astype(int)
    lung = np.median(density[y0:y1, x0:x1][scene.visible["right"][y0:y1, x0:x1] > 127])
    heart_x, heart_y = scene.outline(anatomy.heart(scene.body)).mean(axis=0).astype(int)
    assert density[heart_y, heart_x] > 1.4 * lung
    assert density[-60:].mean() > 1.4 * lung  # abdomen


@pytest.mark.parametrize("name", LESIONS)
def test_a_finding_changes_the_image_inside_its_box_and_nowhere_else(name):
    for number in range(4):
        ill = scene_of(number)
        found = findings.add_findings(lambda _, number=number: rng(100 + number), ill, (name,))
        change = np.abs(ill.density() - healthy_density(number))
        outside = np.ones(change.shape, bool)
        inside = np.zeros(change.shape, bool)
        margin = int(0.1 * ill.unit)  # soft edges
        for one in found:
            x0, y0, x1, y1 = np.rint(one.box_xyxy[0]).astype(int)
            inside[y0:y1, x0:x1] = True
            outside[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin] = False
        assert found and change[inside].max() > 0.04
        if name != "Pneumothorax":  # the lung that shrinks becomes a little denser everywhere
            assert change[outside].max(initial=0) < 0.1 * change[inside].max()


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_boxes_lie_on_the_image_and_have_their_class(name):
    wide = {"wide_heart": name == "Cardiomegaly", "wide_aorta": name == "Aortic enlargement"}
    for number in range(5):
        scene = scene_of(number, **wide)
        for one in findings.add_findings(lambda _, number=number: rng(number), scene, (name,)):
            x0, y0, x1, y1 = one.box_xyxy[0]
            assert one.class_name == name and 0 <= x0 < x1 <= 256 and 0 <= y0 < y1 <= 256
            assert 0 <= one.conspicuity <= 1


def test_masses_outnumber_nodules_and_are_visible_at_160_pixels():
    sides, scene = [], scene_of()
    for index in range(60):
        found = findings.add_findings(lambda _, index=index: rng(index), copy.deepcopy(scene), ("Nodule/Mass",))
        sides += [max(one.box_xyxy[0, 2:] - one.box_xyxy[0, :2]) / 256 for one in found]
    assert np.mean(np.array(sides) > 0.06) > 0.6
    assert min(sides) < 0.05


def test_no_fixed_box_fits_a_class():
    drawn: dict[str, list] = {"Cardiomegaly": [], "Aortic enlargement": [], "Pleural effusion": []}
    for index in range(40):
        one = render_image(0, index, 64, finding_share=1.0)
        height, width = one.pixels.shape
        for name, box in one.findings:
            if name in drawn:
                drawn[name].append(np.array(box) / [width, height, width, height])
    good = []
    for of_class in map(np.array, drawn.values()):
        middle = np.repeat(np.median(of_class, axis=0)[None], len(of_class), axis=0)
        good.append(np.mean(aligned_iou(of_class, middle) > 0.6))
    assert max(good) < 0.9 and np.mean(good) < 0.6


def test_patients_come_with_one_to_three_neighboring_images_and_a_set_can_grow():
    names = image.patients(7, 300)
    counts = [names.count(name) for name in dict.fromkeys(names[:-1])]
    assert set(counts) == {1, 2, 3}
    assert sorted(names) == names
    assert image.patients(7, 100) == names[:100]


@pytest.mark.parametrize(
    "wrong, message", [({"size": 32}, "size 32"), ({"finding_share": 1.5}, "between 0 and 1, not 1.5")]
)
def test_a_setting_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        render_image(0, 0, **{"size": 128, **wrong})
