"""evaluation.json says what it says, and refuses what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from d2_cxr.evaluation import thresholds
from d2_cxr.evaluation.evaluate import evaluate, read_evaluation
from d2_cxr.evaluation.matching import match

NORMAL = {"images": [{"id": 900 + i, "file_name": f"n{i}.png", "width": 512, "height": 512} for i in range(5)]}


def test_every_metric_has_value_interval_n_and_definition(simulate):
    truth, results = simulate(num_images=15)
    document = evaluate(truth, results, NORMAL, resamples=30, dataset="some_test").document
    json.dumps(document, allow_nan=False)
    assert (document["dataset"], document["num_images"], document["num_negative_images"]) == ("some_test", 20, 5)
    assert document["num_boxes"] == len(truth["annotations"])
    entries = [*document["metrics"].values()]
    entries += [
        entry for table in document["per_class"].values() for entry in table.values() if isinstance(entry, dict)
    ]
    assert len(entries) > 80
    for entry in entries:
        assert entry["definition"] and isinstance(entry["n"], int) and entry["unit"] in ("boxes", "images")
        if entry["interval"] is not None:
            assert 0 <= entry["interval"][0] <= entry["interval"][1] <= 1


def test_names_promised_to_others_are_there(simulate):
    metrics = evaluate(*simulate(num_images=5), resamples=5).document["metrics"]
    promised = "mAP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR_100 AR_agnostic AR_agnostic_small"
    promised += (
        " AP40_vinbigdata mean_best_iou std_best_iou mAP_support_weighted mAP_30_images froc_sens_at_1/8 froc_sens_at_8"
    )
    assert set(promised.split()) <= set(metrics)
    assert "image_auroc" not in metrics  # it needs negative images


def test_negative_images_change_only_what_counts_them(simulate):
    truth, results = simulate(num_images=12)
    extra = [{"image_id": 900, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.99}]
    alone = evaluate(truth, results, resamples=0).document["metrics"]
    both = evaluate(truth, results + extra, NORMAL, resamples=0).document["metrics"]
    for name in ("mAP", "AP50", "AR_100", "AR_agnostic", "mean_best_iou", "AP40_vinbigdata"):
        assert both[name]["value"] == alone[name]["value"], name
    assert both["froc_findings_only_sens_at_1"]["value"] == alone["froc_sens_at_1"]["value"]
    assert both["AP50_with_negatives"]["value"] < both["AP50"]["value"]
    assert both["image_auroc"]["value"] is not None


def test_rare_classes_are_left_out_of_map_30_images(images):
    """Class 1 on 30 images, found; class 2 on 29 images, not found."""
    boxes = [(image, 1, 0, 0, 10, 10) for image in range(1, 31)] + [
        (image, 2, 50, 50, 10, 10) for image in range(1, 30)
    ]
    truth, results = images(boxes, [(image, 1, 0, 0, 10, 10, 0.9) for image in range(1, 31)], 30, 2)
    found = evaluate(truth, results, resamples=0).document["metrics"]
    assert found["mAP"]["value"] == pytest.approx(0.5)
    assert found["mAP_30_images"]["value"] == pytest.approx(1)
    assert (found["mAP_30_images"]["num_classes"], found["mAP_30_images"]["n"]) == (1, 30)
    assert found["mAP_support_weighted"]["value"] == pytest.approx(30 / 59)


def test_best_iou_is_zero_without_a_detection_of_the_class(images):
    """IoU 1, 1/2 and 0 (only another class there): mean 1/2, population sigma sqrt(1/6)."""
    truth, results = images(
        [(1, 1, 0, 0, 10, 10), (2, 1, 0, 0, 10, 10), (3, 1, 0, 0, 10, 10)],
        [(1, 1, 0, 0, 10, 10, 0.01), (2, 1, 0, 0, 10, 5, 0.9), (3, 2, 0, 0, 10, 10, 0.9)],
        num_images=3,
        num_classes=2,
    )
    evaluation = evaluate(truth, results, resamples=0)
    assert evaluation.value("mean_best_iou") == pytest.approx(0.5)
    assert evaluation.value("std_best_iou") == pytest.approx(np.sqrt(1 / 6))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": 77}, "results: detection 0: image_id 77 is not the id of an evaluated image"),
        ({"category_id": 9}, r"results: detection 0: category_id 9 is not one of \[1\]"),
        ({"score": float("nan")}, "detection 0: score is nan"),
        ({"bbox": [0, 0, float("inf"), 1]}, "detection 0: bbox holds inf, which is not a finite number"),
    ],
)
def test_results_that_do_not_fit_are_refused(images, change, message):
    truth, results = images([(1, 1, 0, 0, 9, 9)], [(1, 1, 0, 0, 9, 9, 0.5)])
    with pytest.raises(ValueError, match=message):
        evaluate(truth, [{**results[0], **change}])


def test_negative_images_must_have_ids_of_their_own(images):
    truth, results = images([(1, 1, 0, 0, 9, 9)], [])
    with pytest.raises(ValueError, match="have the same image id"):
        evaluate(truth, results, {"images": truth["images"]})


def test_order_of_images_boxes_and_results_does_not_matter(simulate):
    truth, results = simulate(num_images=20)
    turned = {**truth, "images": truth["images"][::-1], "annotations": truth["annotations"][::-1]}
    a, b = evaluate(truth, results, resamples=20), evaluate(turned, results[::-1], resamples=20)
    for name, entry in a.document["metrics"].items():
        other = b.document["metrics"][name]
        assert other["value"] == pytest.approx(entry["value"], abs=1e-12), name
        assert other["interval"] == pytest.approx(entry["interval"], abs=1e-12), name


def test_files_of_an_evaluation(simulate, tmp_path):
    truth, results = simulate(num_images=8)
    path = evaluate(truth, results, resamples=5, train_truth=truth).write(tmp_path / "inference")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        *("evaluation.json", "matches.npz", "prior_box_matches.npz", "worst_images.csv"),
    ]


def test_thresholds_are_reported_on_other_images_only(simulate):
    val, test = simulate(num_images=40, num_classes=2, seed=1), simulate(num_images=40, num_classes=2, seed=2)
    chosen = thresholds.choose(match(*val), "set_val", rate=0.5)
    assert chosen["chosen_on"] == "set_val" and set(chosen["thresholds"]) == {"class 0", "class 1"}
    report = evaluate(*test, dataset="set_test", resamples=20, chosen_thresholds=chosen).document["at_thresholds"]
    pooled = report["pooled"]
    assert 0 < pooled["sensitivity"]["value"] <= 1
    assert 0 < pooled["false_positives_per_finding_image"]["value"] < 2
    assert pooled["false_positives_per_negative_image"]["value"] is None  # there are none
    with pytest.raises(ValueError, match="chosen on set_val"):
        evaluate(*val, dataset="set_val", resamples=0, chosen_thresholds=chosen)
    with pytest.raises(ValueError, match="no threshold for class 1"):
        evaluate(*test, resamples=0, chosen_thresholds={**chosen, "thresholds": {"class 0": 0.5}})


def test_an_evaluation_of_another_format_is_refused_with_the_command_that_writes_this_one(simulate, tmp_path):
    path = evaluate(*simulate(num_images=5), resamples=0, dataset="toy_test").write(tmp_path)
    assert read_evaluation(path)["dataset"] == "toy_test"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 1}))
    with pytest.raises(ValueError, match="has format 1, this version of d2_cxr reads 2; evaluate again: python"):
        read_evaluation(path)
