"""From a detector's file to findings on an image, in the image's own pixels.

The file's card decides everything: reading, size, equalisation, classes, thresholds. There is no flag for any of
these, because a detector that sees images prepared in another way than in training is quietly worse.

    from d2_cxr.engine.predictor import Predictor
    findings = Predictor("model_final.pth")("image.dicom")
    findings.boxes_xyxy, findings.class_names, findings.scores
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model

from d2_cxr.boxes import BoxMap, clip
from d2_cxr.checkpoint import timm_backbone  # noqa: F401 - puts build_timm_fpn_backbone into Detectron2's registry
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.weights_card import WeightsCard
from d2_cxr.datasets.mapper import CXRMapper
from d2_cxr.dicom.image_files import ImageError, StoredImage, read_image
from d2_cxr.dicom.preprocess import Preprocess, prepare_image
from d2_cxr.engine.card import config_of
from d2_cxr.engine.findings import Findings, passes
from d2_cxr.engine.weights_report import expected_tensors
from d2_cxr.image_name import image_name


class Predictor:
    """A detector ready for image files.

    Attributes:
        weights: their file.
        card: of the weights.
        class_names: what it can find, in the model's order.
        thresholds: content of a `thresholds.json`, None where neither the card nor the caller has one.
    """

    def __init__(self, weights: str | Path, device: str | None = None, thresholds: Mapping | None = None):
        """
        Args:
            weights: `model_final.pth` or `model_best.pth` of a run.
            device: "cpu", "cuda", "cuda:1"; a GPU where there is one when left out.
            thresholds: instead of the card's.

        Raises:
            FileNotFoundError, WeightsError: see `load_weights_file`.
            ValueError: the file has no card, is no detector, or does not fill the whole model.
        """
        content = load_weights_file(weights)
        if not isinstance(content.get("card"), dict):
            raise ValueError(
                f"{weights} carries no card, so its images' preparation is unknown; give a run's model_final.pth"
            )
        self.weights = Path(weights)
        self.card = WeightsCard.from_dict(content["card"])
        cfg = config_of(self.card, str(weights))
        if not self.card.preprocess:
            raise ValueError(f"{weights}: its card does not say how images were prepared; train on a prepared set")
        self.class_names = tuple(self.card.class_names)
        self.thresholds = thresholds if thresholds is not None else self.card.thresholds
        self._rules = Preprocess.from_dict(self.card.preprocess)
        self._mapper = CXRMapper.from_config(cfg, is_train=False)
        cfg.MODEL.DEVICE = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _filled(build_model(cfg), content["model"], weights)

    def __call__(self, path: str | Path) -> Findings:
        """Return the findings on an image.

        Args:
            path: DICOM, PNG or JPEG, told apart by content.

        Raises:
            FileNotFoundError: there is no such file.
            ImageError: it is no image that can be read as it would be seen; names the file and the reason.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"image {path} does not exist")
        try:
            image = read_image(path, self._rules.size)
            pixels, to_prepared = prepare_image(image, self._rules)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        return self._findings(path, image, to_prepared, self._detect(pixels))

    def _detect(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (N, 4) in prepared pixels, scores (N,) and classes (N,), the highest score first."""
        image, _ = self._mapper.image_of(pixels)
        with torch.no_grad():
            output = self._model([{"image": image, "height": pixels.shape[0], "width": pixels.shape[1]}])[0]
        instances = output["instances"].to("cpu")
        order = instances.scores.argsort(descending=True, stable=True)
        found = instances.pred_boxes.tensor, instances.scores, instances.pred_classes
        return tuple(values[order].numpy() for values in found)

    def _findings(self, path: str | Path, image: StoredImage, to_prepared: BoxMap, detected) -> Findings:
        boxes, scores, classes = detected
        names = tuple(self.class_names[index] for index in classes)
        spacing = image.attributes.get("pixel_spacing")
        return Findings(
            file=str(path),
            image_name=image_name(path),
            width=image.source_width,
            height=image.source_height,
            pixel_spacing_mm=tuple(float(value) for value in spacing) if spacing else None,
            spacing_tag=image.attributes.get("spacing_tag") or "",
            class_names=names,
            class_ids=classes.astype(np.int64),
            scores=scores.astype(np.float64),
            boxes_xyxy=clip(to_prepared.inverse(boxes), image.source_width, image.source_height),
            reported=passes(names, scores, self.thresholds),
        )


def _filled(model: torch.nn.Module, state: Mapping, weights: str | Path) -> torch.nn.Module:
    """Load every tensor of a detector, in evaluation mode.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    own = model.state_dict()
    for name in expected_tensors(model):
        if name not in state or tuple(state[name].shape) != tuple(own[name].shape):
            raise ValueError(f"{weights} lacks {name} in the shape {tuple(own[name].shape)} that its config asks for")
    model.load_state_dict({name: value for name, value in state.items() if name in own}, strict=False)
    return model.eval()
