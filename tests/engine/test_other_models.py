"""Detectron2's other detectors through our trainer, with nothing but their own keys (docs/detectron2.md)."""

import re
from pathlib import Path

import cv2
import pytest
import yaml

from d2_cxr.engine import trainer
from d2_cxr.prediction.predictor import Predictor

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "detectron2.md").read_text(encoding="utf-8")


def keys_of(model: str) -> list[str]:
    """Return the KEY VALUE pairs of a row of the page's table."""
    (text,) = re.findall(rf"^\| {model} \| `([^`]+)`", PAGE, re.MULTILINE)
    pairs: list[str] = []

    def walk(node: dict, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                pairs.extend([prefix + key, str(value)])

    walk(yaml.safe_load(text.replace("MODEL: ", "", 1)), "MODEL.")
    return pairs


@pytest.mark.parametrize("model", ["RetinaNet", "Cascade R-CNN", "GIoU loss"])
def test_a_detector_of_detectron2_trains_and_predicts(tiny_cfg, tmp_path, model):
    cfg = tiny_cfg(*keys_of(model), "SOLVER.MAX_ITER", "2", output=model.replace(" ", "_"))
    results = trainer.train(cfg)
    assert set(results) == {"tiny_cxr_test"}
    predict = Predictor(Path(cfg.OUTPUT_DIR) / "model_final.pth", device="cpu")
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), cv2.imread(str(Path(cfg.CXR.DATASETS[0][1]) / "images" / "image001.png"), 0))
    found = predict(image)
    assert found.class_names is not None and found.boxes_xyxy.shape[1] == 4
