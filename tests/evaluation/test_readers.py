"""Readers and model against the same leave-one-out truth."""

from __future__ import annotations

import tracemalloc

import pytest

from d2_cxr.evaluation import froc
from d2_cxr.evaluation import readers as readers_module
from d2_cxr.evaluation.matching import HIT_RULES, match
from d2_cxr.evaluation.readers import compare_with_readers, match_readers

A, B, C = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 10.0, 10.0), (80.0, 0.0, 10.0, 10.0)


def readers_coco(boxes, readers):
    """boxes: (image, reader, box); readers: image -> who read it."""
    return {
        "images": [
            {"id": f, "file_name": f"f{f}.png", "width": 100, "height": 100, "readers": r} for f, r in readers.items()
        ],
        "categories": [{"id": 1, "name": "class 1"}],
        "annotations": [
            {"id": i, "image_id": f, "category_id": 1, "bbox": list(box), "reader": r, "iscrowd": 0}
            for i, (f, r, box) in enumerate(boxes, start=1)
        ],
    }


@pytest.fixture
def one_image(images):
    """R1 and R2 draw A, R2 also B. Against R2, R1 finds 1 of 2; against R1, R2 finds 1 of 1 with 1 false."""
    truth, results = images([], [(1, 1, *A, 0.9), (1, 1, *B, 0.8), (1, 1, *C, 0.7)])
    return truth, results, readers_coco([(1, "R1", A), (1, "R2", A), (1, "R2", B)], {1: ["R1", "R2"]})


def point(entry):
    return entry["sensitivity"]["value"], entry["false_positives_per_image"]["value"]


def test_each_reader_is_held_against_the_others(one_image):
    table = compare_with_readers(*one_image, resamples=10)
    assert point(table["by_reader"]["R1"]["reader"]) == (0.5, 0)
    assert point(table["by_reader"]["R2"]["reader"]) == (1, 1)
    assert point(table["pooled"]["reader"]) == (pytest.approx(2 / 3), 0.5)
    counted = [(entry["n"], entry["unit"]) for entry in table["pooled"]["reader"].values()]
    assert counted == [(3, "boxes"), (2, "images")]


def test_the_model_answers_with_as_many_boxes(one_image):
    """One box (A) where R1 drew one, two (A, B) where R2 drew two: the same as the readers here."""
    table = compare_with_readers(*one_image, resamples=10)
    assert point(table["by_reader"]["R1"]["model"]) == (0.5, 0)
    assert point(table["by_reader"]["R2"]["model"]) == (1, 1)
    assert table["pooled"]["model_minus_reader"]["difference"] == 0


def test_the_models_curve_uses_all_its_boxes(one_image):
    """Two cases, three truth boxes: A found in both at .9, B in R1's case at .8, beside one false in R2's."""
    curve = compare_with_readers(*one_image, resamples=2)["model_curve"]
    assert curve["sensitivity"] == pytest.approx([2 / 3, 1])
    assert curve["false_positives_per_image"] == pytest.approx([0, 1 / 2])


def test_the_others_are_fused(images):
    """R2 and R3 draw one lesion twice: for R1 it is one truth box, the mean of both."""
    truth, results = images([], [])
    near = (2.0, 0.0, 10.0, 10.0)
    coco = readers_coco([(1, "R2", A), (1, "R3", near), (1, "R1", (1.0, 0.0, 10.0, 10.0))], {1: ["R1", "R2", "R3"]})
    table = compare_with_readers(truth, results, coco, resamples=2)
    assert point(table["by_reader"]["R1"]["reader"]) == (1, 0)
    assert point(table["by_reader"]["R1"]["model"]) == (0, 0)


def test_an_image_read_by_one_reader_is_no_case(images):
    truth, results = images([], [], num_images=2)
    coco = readers_coco([(1, "R1", A)], {1: ["R1"], 2: ["R1", "R2"]})
    table = compare_with_readers(truth, results, coco, resamples=2)
    assert {name: entry["num_images"] for name, entry in table["by_reader"].items()} == {"R1": 1, "R2": 1}
    with pytest.raises(ValueError, match="read by two readers"):
        compare_with_readers(truth, results, readers_coco([], {1: ["R1"]}))


def test_the_models_results_are_read_once_however_many_readers_there_are(images, monkeypatch):
    """Four readers are four cases of each image; the model's three boxes are neither read nor held for each."""
    truth, results = images([], [(f, 1, *A, 0.5) for f in (1, 2, 3)], num_images=3)
    names = ["R1", "R2", "R3", "R4"]
    coco = readers_coco([(1, "R1", A)], dict.fromkeys((1, 2, 3), names))
    read = []

    def counting(truth, rows):
        read.append(len(rows))
        return to_arrays(truth, rows)

    to_arrays = readers_module.to_arrays
    monkeypatch.setattr(readers_module, "to_arrays", counting)
    matched = match_readers(truth, results, coco)
    assert read == [3]
    assert matched.scores.tolist() == [0.5] * 3
    # Image 1's box is R1's own: false against the other readers where R1 is left out, found in the other three cases.
    assert matched.found.tolist() == [3, 0, 0] and matched.false.tolist() == [1, 4, 4]


def test_five_times_the_readers_take_little_more_memory(simulate):
    truth, results = simulate(num_images=60, per_image=60)

    def peak(num_readers: int) -> int:
        names = [f"R{number}" for number in range(num_readers)]
        boxes = [(box["image_id"], name, box["bbox"]) for box in truth["annotations"][:60] for name in names[:2]]
        coco = readers_coco(boxes, {image["id"]: names for image in truth["images"]})
        truth_of_one_class = {**truth, "categories": coco["categories"]}
        answers = [{**row, "category_id": 1} for row in results]
        tracemalloc.start()
        try:
            compare_with_readers(truth_of_one_class, answers, coco, resamples=20)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # imports and caches
    assert peak(10) <= 1.25 * peak(2)


@pytest.mark.parametrize("rule", HIT_RULES)
def test_one_reader_after_the_other_is_the_same_as_all_cases_matched_at_once(simulate, rule):
    """Each image as one case a reader, all in one `match`; three readers of whom some read less, tied scores."""
    truth, results = simulate(num_images=12, num_classes=1, num_ties=10)
    boxes = [(box["image_id"], f"R{box['id'] % 3}", box["bbox"]) for box in truth["annotations"]]
    read = {image["id"]: ["R0", "R1", "R2"][: 2 + image["id"] % 2] for image in truth["images"]}
    coco = {**readers_coco(boxes, read), "categories": truth["categories"]}
    cases = [(image, name) for image, names in read.items() for name in names]
    repeated = {"images": [{"id": n, "file_name": f"{n}.png"} for n in range(len(cases))]}
    repeated |= {"categories": truth["categories"], "annotations": []}
    answers = []
    for number, (image, name) in enumerate(cases):
        repeated["annotations"] += [
            {"id": len(repeated["annotations"]) + place, "image_id": number, "category_id": 1, "bbox": list(box)}
            for place, (of, reader, box) in enumerate(boxes, start=1)
            if of == image and reader != name
        ]
        answers += [{**row, "image_id": number} for row in results if row["image_id"] == image]
    expected = froc.curve(match(repeated, answers), rule=rule)
    table = compare_with_readers(truth, results, coco, fusion="none", hit_rule=rule, resamples=2)
    assert len(expected["score"]) > 5
    for key, values in table["model_curve"].items():
        assert values == expected[key].tolist()


def test_of_equal_scores_the_models_first_boxes_are_kept(images):
    """R2 drew one box: of A and B, both at .5, the model answers with the one that its results name first."""
    for first, second, sensitivity in ((A, B, 1), (B, A, 0)):
        truth, results = images([], [(1, 1, *C, 0.1), (1, 1, *first, 0.5), (1, 1, *second, 0.5)])
        coco = readers_coco([(1, "R1", A), (1, "R2", C)], {1: ["R1", "R2"]})
        table = compare_with_readers(truth, results, coco, resamples=2)
        assert point(table["by_reader"]["R2"]["model"])[0] == sensitivity
