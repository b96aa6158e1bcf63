"""The Detectron2 evaluator collects what a model gives and says what COCOEvaluator says."""

from __future__ import annotations

import contextlib
import io
import json

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed: python tools/install_detectron2.py")
torch = pytest.importorskip("torch")

from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.evaluation import COCOEvaluator  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402

from d2_cxr.evaluation.cxr_evaluation import CXREvaluator  # noqa: E402

NAMES = ("evaluator_toy_test", "evaluator_toy_train", "evaluator_toy_negative")


@pytest.fixture
def toy(simulate, tmp_path):
    """Register test, training and negative images, and return the test set's truth and results."""
    truth, results = simulate(num_images=12, num_classes=2)
    negative = {**truth, "annotations": [], "images": [{**truth["images"][0], "id": 500, "file_name": "n.png"}]}
    for name, coco in zip(NAMES, (truth, truth, negative), strict=True):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"info": {}, **coco}))
        DatasetCatalog.register(name, lambda coco=coco: [{"image_id": image["id"]} for image in coco["images"]])
        MetadataCatalog.get(name).set(json_file=str(path), thing_dataset_id_to_contiguous_id={1: 0, 2: 1})
    yield truth, results, negative
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def feed(evaluator, images, results):
    evaluator.reset()
    for image in images:
        rows = [row for row in results if row["image_id"] == image["id"]]
        boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = Instances((512, 512), pred_boxes=Boxes(boxes))
        found.scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        found.pred_classes = torch.tensor([row["category_id"] - 1 for row in rows], dtype=torch.int64)
        evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    return evaluator.evaluate()


def test_numbers_are_those_of_coco_evaluator(toy, tmp_path):
    truth, results, _ = toy
    ours = feed(CXREvaluator(NAMES[0], str(tmp_path / "ours"), resamples=5), truth["images"], results)["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        stock = COCOEvaluator(NAMES[0], tasks=("bbox",), output_dir=str(tmp_path / "stock"), use_fast_impl=False)
        theirs = feed(stock, truth["images"], results)["bbox"]
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-4), name  # boxes pass through float32 there
    assert {path.name for path in (tmp_path / "ours").iterdir()} == {
        *("coco_instances_results.json", "evaluation.json", "matches.npz", "prior_box_matches.npz"),
        *("thresholds.json", "worst_images.csv"),
    }


def test_negative_images_are_told_apart_by_their_id(toy, tmp_path):
    truth, results, negative = toy
    extra = [{"image_id": 500, "category_id": 1, "bbox": [0.0, 0.0, 9.0, 9.0], "score": 0.5}]
    evaluator = CXREvaluator(NAMES[0], str(tmp_path), resamples=5, negative_dataset=NAMES[2])
    feed(evaluator, truth["images"] + negative["images"], results + extra)
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert (document["num_findings_images"], document["num_negative_images"]) == (12, 1)
    rows = json.loads((tmp_path / "negative_instances_results.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(500, 1)]
    assert document == json.loads(json.dumps(evaluator.evaluation.document))


def test_images_without_a_prediction_are_refused(toy):
    truth, results, _ = toy
    with pytest.raises(ValueError, match=r"1 of 12 images of evaluator_toy_test got no prediction, first f11\.png"):
        feed(CXREvaluator(NAMES[0], None, resamples=0), truth["images"][:-1], results)


def test_no_detection_at_all_is_zero_and_not_nan(toy):
    truth, _, _ = toy
    values = feed(CXREvaluator(NAMES[0], None, resamples=0), truth["images"], [])["bbox"]
    assert values["AP"] == values["AP50"] == values["AR100"] == 0
