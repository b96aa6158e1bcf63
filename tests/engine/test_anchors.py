from pathlib import Path

import numpy as np
import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.loading import load_yaml
from d2_cxr.engine import trainer
from d2_cxr.engine.anchors import fit, mean_best_iou, resolve_anchors, take_from_card
from d2_cxr.prediction.predictor import Predictor

AUTO = ("CXR.ANCHORS", "auto", "MODEL.RPN.IN_FEATURES", "['p2', 'p3']")


def generator(values) -> tuple[list, list]:
    found = values["MODEL"]["ANCHOR_GENERATOR"]
    return found["SIZES"], found["ASPECT_RATIOS"]


def test_sizes_and_ratios_of_boxes_drawn_about_known_ones_are_found():
    rng = np.random.default_rng(0)
    size = np.exp(np.log(np.repeat([10, 40, 160], 60)) + rng.normal(0, 0.05, 180))
    ratio = np.exp(np.log(np.tile([0.5, 2.0], 90)) + rng.normal(0, 0.05, 180))
    sizes, ratios = fit(np.stack([size / ratio**0.5, size * ratio**0.5], axis=1), 3, 2)
    assert np.allclose(sizes, [10, 40, 160], rtol=0.02) and np.allclose(ratios, [0.5, 2], rtol=0.02)


def test_boxes_of_one_shape_give_anchors_of_that_shape():
    assert fit(np.full((5, 2), [20.0, 45.0]), 2, 1) == ([30.0, 30.0], [2.25])
    assert mean_best_iou(np.array([[20.0, 45.0]]), [30.0], [2.25]) == pytest.approx(1)
    assert mean_best_iou(np.array([[20.0, 20.0]]), [10.0], [1.0]) == pytest.approx(0.25)


def test_anchors_are_those_of_the_training_boxes_in_pixels_of_the_network(tiny_cfg):
    # every disc is 20 x 20 of 64 px; at 128 px of input that is 40
    cfg = tiny_cfg(*AUTO, "INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MAX_SIZE_TRAIN", "128")
    disc = {"bbox": [4, 4, 20, 20], "bbox_mode": 1, "category_id": 0}
    resolve_anchors(cfg, [{"file_name": "", "height": 64, "width": 64, "image_id": 1, "annotations": [disc] * 10}])
    assert generator(cfg) == ([[40.0], [40.0]], [[1.0, 1.0, 1.0]])


def test_too_few_boxes_and_other_detectors_are_refused(tiny_cfg):
    with pytest.raises(ValueError, match="0 training boxes are too few to fit 2 anchor sizes; 10 are needed: set CXR"):
        resolve_anchors(tiny_cfg(*AUTO), [])
    with pytest.raises(ValueError, match=r"not of RetinaNet; state MODEL\.ANCHOR_GENERATOR"):
        tiny_cfg(*AUTO, "MODEL.META_ARCHITECTURE", "RetinaNet")
    with pytest.raises(ValueError, match=r"CXR\.ANCHORS is 'kmeans'; it can be fixed or auto"):
        tiny_cfg("CXR.ANCHORS", "kmeans")
    with pytest.raises(ValueError, match=r"x\.pth does not say which anchors it was trained with; state them"):
        take_from_card(tiny_cfg(*AUTO), None, "x.pth")


def test_the_fitted_anchors_serve_prediction_a_test_and_a_resumed_run(tiny_cfg):
    opts = (*AUTO, "CXR.AUGMENTATION", "light", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2")
    cfg = tiny_cfg(*opts, "CXR.VAL_AT_END", "False")
    folder = Path(cfg.OUTPUT_DIR)
    results = trainer.train(cfg)
    sizes, ratios = generator(load_yaml(folder / "config.yaml"))
    assert (sizes, ratios) != generator(cfg) and len(sizes) == 2 and len(ratios[0]) == 3

    predictor = Predictor(folder / "model_final.pth", device="cpu")
    cells = predictor._model.proposal_generator.anchor_generator.cell_anchors
    assert [float((cell[0, 2:] - cell[0, :2]).prod().sqrt()) for cell in cells] == pytest.approx([s[0] for s in sizes])
    test = tiny_cfg(*opts, "MODEL.WEIGHTS", str(folder / "model_final.pth"), output="test")
    assert trainer.evaluate_only(test) == results

    first = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    (folder / "model_final.pth").unlink()
    (folder / "last_checkpoint").write_text("model_0000001.pth")
    artifacts.write_json(folder / "run.json", {**artifacts.read_json(folder / "run.json"), "status": "failed"})
    assert trainer.train(cfg, resume=True) == results
    resumed = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(first[name], resumed[name]) for name in first)  # the augmentation's draws, too
    assert generator(load_yaml(folder / "config.yaml")) == (sizes, ratios)
