"""Results in another convention than COCO's are refused with the likely reason; a few odd ones are reported."""

from __future__ import annotations

import numpy as np
import pytest

from d2_cxr.evaluation.evaluate import evaluate

SOURCE = {"source_width": 2048, "source_height": 2560}  # 4 and 5 times the prepared 512 x 512


@pytest.fixture
def detector():
    """Return make(num_images, seed) -> truth, results of a fair detector on images of 512 x 512."""

    def make(num_images=30, seed=0, num_classes=3):
        rng = np.random.default_rng(seed)
        images = [{"id": n, "file_name": f"f{n}.png", "width": 512, "height": 512, **SOURCE} for n in range(num_images)]
        categories = [{"id": n, "name": name} for n, name in enumerate(("Mass", "Nodule", "Effusion")[:num_classes], 1)]
        boxes, results = [], []
        for image in images:
            for _ in range(2):
                side = rng.uniform(40, 160, 2)
                box = [*rng.uniform(0, 512 - side), *side]
                category = int(rng.integers(num_classes)) + 1
                boxes.append({"id": len(boxes) + 1, "image_id": image["id"], "category_id": category, "bbox": box})
                found = np.clip(np.array(box) + rng.normal(0, 6, 4), 0, None)
                found[2:] = np.minimum(found[2:], 512 - found[:2])
                results.append(row(image["id"], category, found, rng.uniform(0.3, 0.9)))
            results.append(row(image["id"], 1, [*rng.uniform(0, 400, 2), 60, 60], rng.uniform(0.1, 0.5)))
        return {"images": images, "annotations": boxes, "categories": categories}, results

    return make


def row(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": [float(v) for v in box], "score": float(score)}


def problems(truth, results, **more):
    return evaluate(truth, results, resamples=0, **more).document["problems"]


def changed(results, change):
    return [{**row, "bbox": change(*row["bbox"])} for row in results]


def test_fair_results_have_no_problem(detector):
    for seed in range(5):
        assert problems(*detector(seed=seed)) == []


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "corners"),
        (lambda x, y, w, h: [4 * x, 5 * y, 4 * w, 5 * h], "pixels of the source image"),
        (lambda x, y, w, h: [x / 512, y / 512, w / 512, h / 512], "fractions of the side"),
        (lambda x, y, w, h: [x / 512, y / 512, (x + w) / 512, (y + h) / 512], "fractions of the side"),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "center, width and height"),
    ],
)
def test_boxes_in_another_convention_are_refused_with_it(detector, change, reason):
    truth, results = detector()
    with pytest.raises(
        ValueError, match=f"boxes look like {reason}.*; COCO results hold x, y, width, height"
    ) as raised:
        problems(truth, changed(results, change))
    assert "\n" not in str(raised.value)


def test_four_boxes_are_enough_to_tell_corners(images):
    boxes = [(n, 1, 20 * n, 15 * n, 18, 25) for n in range(1, 5)]
    truth, results = images(boxes, [(*box, 0.9) for box in boxes], num_images=4)
    with pytest.raises(ValueError, match="look like corners"):
        problems(truth, changed(results, lambda x, y, w, h: [x, y, x + w, y + h]))


def test_corners_that_stay_inside_of_the_image_are_told_by_the_truth(images):
    boxes = [(n, 1, 10 + n, 12 + n, 10, 14) for n in range(1, 31)]
    truth, results = images(boxes, [(*box, 0.9) for box in boxes], num_images=30)
    with pytest.raises(ValueError, match="look like corners"):
        problems(truth, changed(results, lambda x, y, w, h: [x, y, x + w, y + h]))


def test_boxes_far_outside_are_refused_without_a_reason_too(detector):
    truth, results = detector()
    with pytest.raises(ValueError, match=r"\d+ of 90 boxes beyond the prepared image, first detection 0"):
        problems(truth, changed(results, lambda x, y, w, h: [x + 5000, y, w, h]))


def test_a_box_outside_is_told_in_one_line(detector):
    truth, results = detector()
    results[7]["bbox"] = [480.0, 0.0, 60.0, 10.0]
    line = "results: 1 of 90 boxes beyond the prepared image, first detection 7: [480.0, 0.0, 60.0, 10.0] on"
    assert [text.startswith(line) for text in problems(truth, results)] == [True]


def test_a_pixel_beyond_the_edge_is_no_problem(detector):
    truth, results = detector()
    results[7]["bbox"] = [480.0, -0.5, 33.0, 10.0]
    assert problems(truth, results) == []


def test_a_bad_detector_is_not_refused(detector):
    """Random boxes and classes, and one that says the same on every image."""
    truth, _ = detector()
    rng = np.random.default_rng(3)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        random = [
            row(n, rng.integers(3) + 1, [*rng.uniform(0, 300, 2), *rng.uniform(5, 200, 2)], rng.random())
            for n in range(30)
            for _ in range(4)
        ]
        assert problems(truth, random) == []
    assert problems(truth, [row(n, c, [0, 0, 500, 500], 0.5) for n in range(30) for c in (1, 2, 3)]) == []


def test_a_baseline_that_happens_to_fit_another_reading_is_not_refused(images):
    """The same box on every image, which read as center, width and height would lie on the truth."""
    boxes = [(n, 1, 40, 30, 40, 40) for n in range(1, 25)]
    truth, results = images(boxes, [(n, 1, 60, 50, 40, 40, 0.5) for n in range(1, 25)], num_images=24)
    assert problems(truth, results) == []


def test_every_detection_twice_is_refused_and_one_is_told(detector):
    truth, results = detector()
    with pytest.raises(ValueError, match=r"90 of 180 detections repeated .*, first detection 90, equal to det"):
        problems(truth, results + results)
    assert problems(truth, [*results, results[4]]) == [
        "results: 1 of 91 detections repeated (same image, class, box and score), first detection 90, "
        "equal to detection 4"
    ]


def test_equal_boxes_of_two_classes_or_scores_are_no_repeats(images):
    truth, results = images([(1, 1, 0, 0, 9, 9)], [(1, 1, 0, 0, 9, 9, 0.5), (1, 2, 0, 0, 9, 9, 0.5)], num_classes=2)
    assert problems(truth, [*results, {**results[0], "score": 0.4}]) == []


def test_results_on_half_of_the_images_are_told(detector):
    truth, results = detector()
    half = [row for row in results if row["image_id"] < 15]
    assert problems(truth, half) == [
        "results: no detection on 15 of 30 images, first f15; are results of some images missing?"
    ]
    negative = {"images": [{"id": 100 + n, "file_name": f"n{n}.png", "width": 512, "height": 512} for n in range(30)]}
    line = problems(truth, results, negative_truth=negative)
    assert line == ["results: no detection on 30 of 60 images, first n0; are results of some images missing?"]


def test_no_detection_at_all_is_told(detector):
    assert problems(detector()[0], []) == ["results: there is no detection at all"]


def test_classes_in_another_order_are_refused(detector):
    """Alphabetical order, Effusion Mass Nodule, where the JSON says Mass Nodule Effusion."""
    truth, results = detector()
    turned = [{**row, "category_id": {1: 2, 2: 3, 3: 1}[row["category_id"]]} for row in results]
    with pytest.raises(ValueError, match=r"classes look renumbered: .* of 'Effusion' lie on truth boxes of 'Nodule'"):
        problems(truth, turned)
    few = {image["id"] for image in truth["images"][:5]}
    part = {key: [r for r in truth[key] if r.get("image_id", r["id"]) in few] for key in ("images", "annotations")}
    lines = problems({**truth, **part}, [row for row in turned if row["image_id"] in few])
    assert len(lines) == 1 and "classes look renumbered" in lines[0]


def test_a_class_name_that_contradicts_the_id_is_refused_or_told(detector):
    truth, results = detector()
    names = {1: "Mass", 2: "Nodule", 3: "Effusion"}
    named = [{**row, "category_name": names[row["category_id"]]} for row in results]
    assert problems(truth, named) == []
    named[3]["category_name"] = "Cyst"
    assert len(problems(truth, named)) == 1
    wrong = [{**row, "category_name": "Nodule"} for row in results]
    with pytest.raises(ValueError, match=r"contradicts category_id in \d+ of 90 detections, first detection \d+: 'Nod"):
        problems(truth, wrong)
