"""A detector's weights file and an image in, findings in the image's own pixels out.

The card inside the file decides how images are prepared, which classes there are and which thresholds apply. No
argument changes the preparation: a detector is silently worse on images that were not prepared as in training.

    from d2_cxr.prediction.predictor import Predictor
    findings = Predictor("model_final.pth")("image.dicom")
    str(findings)  # the reported boxes as text, or "nothing above 0.29"
    findings.reported.class_names, findings.reported.scores, findings.reported.boxes_xyxy
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from detectron2.modeling import build_model
from torch import nn

from d2_cxr import artifacts
from d2_cxr.boxes import clip
from d2_cxr.checkpoint import timm_backbone  # noqa: F401 - puts build_timm_fpn_backbone into Detectron2's registry
from d2_cxr.checkpoint.weights_card import load_with_card
from d2_cxr.datasets.mapper import CXRMapper
from d2_cxr.dicom.image_files import ImageError, decode_image
from d2_cxr.dicom.preprocess import Preprocess, box_map, prepare_image
from d2_cxr.dicom.stored_image import GrayscaleTransform, StoredImage
from d2_cxr.engine.card import config_of
from d2_cxr.engine.start_weights import checked, local_path
from d2_cxr.engine.weights_report import compare, require_complete
from d2_cxr.evaluation.thresholds import check_thresholds
from d2_cxr.image_name import image_name
from d2_cxr.prediction.findings import Findings, limits_of

if TYPE_CHECKING:
    from pydicom import Dataset

_ARRAY_TYPES = (np.uint8, np.uint16, np.int16)


class Predictor:
    """A detector ready for images.

    Attributes:
        weights: their file.
        card: of the weights.
        class_names: what it can find, in the model's order.
        thresholds: content of a `thresholds.json`; None where neither the card nor the caller has one.
        limits: (C,) float64, the lowest reported score of each class; infinite where it is not reported.
        preprocess: how images are prepared for it.
    """

    def __init__(self, weights: str | Path, device: str | None = None, thresholds: Mapping | None = None):
        """Load a detector.

        Args:
            weights: `model_final.pth` or `model_best.pth` of a run, or a published file; path or URL, perhaps with
                `#sha256:DIGEST`, which is compared before the file is read.
            device: "cpu", "cuda", "cuda:1"; default: a GPU if there is one.
            thresholds: replace those of the card.

        Raises:
            FileNotFoundError, WeightsError: see `load_weights_file`.
            ValueError: the file has no card, is not a detector, does not fill the whole model, or the thresholds are
                malformed.
        """
        weights = local_path(checked(str(weights)))
        content, card = load_with_card(weights)
        if card is None:
            raise ValueError(
                f"{weights} has no card, so its images' preparation is unknown; give a run's model_final.pth"
            )
        self.weights, self.card = Path(weights), card
        cfg = config_of(self.card, str(weights))
        if not self.card.preprocess:
            raise ValueError(f"{weights}: its card does not say how images were prepared; train on a prepared set")
        self.class_names = tuple(self.card.class_names or ())
        self.thresholds = self._checked_thresholds(thresholds, weights)
        self.limits = limits_of(self.class_names, self.thresholds)
        self.preprocess = Preprocess.from_dict(self.card.preprocess)
        self._mapper = CXRMapper.from_config(cfg, is_train=False)
        cfg.MODEL.DEVICE = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _filled(build_model(cfg), content["model"], weights)

    def __call__(self, image: str | Path | bytes | Dataset | np.ndarray, name: str = "") -> Findings:
        """Return the findings on one image.

        Args:
            image: path or bytes of a DICOM, PNG or JPEG file, distinguished by content; a pydicom Dataset; or an array
                (H, W) uint8, uint16 or int16 in which high values are bright.
            name: `file` of the result for an image that is no path.

        Raises:
            FileNotFoundError: there is no such file.
            ImageError: the image cannot be read as a radiologist would see it; names the file and the reason.
            TypeError: `image` is not one of these.
        """
        if isinstance(image, str | Path):
            if not Path(image).is_file():
                raise FileNotFoundError(f"image {image} does not exist")
            name = str(image)
        try:
            stored = _stored(image, self.preprocess.size)
            pixels, _ = prepare_image(stored, self.preprocess)
        except ImageError as error:
            raise ImageError(f"{name}: {error}" if name else str(error)) from error
        except (TypeError, OSError, MemoryError):
            raise
        except Exception as error:  # a decoder may raise anything
            raise ImageError(f"{name}: cannot be decoded ({type(error).__name__})") from error
        return self.detect(pixels, name, (stored.source_width, stored.source_height), stored.attributes)

    def detect(
        self,
        pixels: np.ndarray,
        name: str,
        source_size: tuple[int, int],
        attributes: Mapping,
        named: str | None = None,
    ) -> Findings:
        """Return the findings on an image that is prepared already.

        Args:
            pixels: (size, size) uint8, prepared with the rules of `preprocess`.
            name, source_size, attributes, named: see `findings_of`.
        """
        return self.findings_of(self._boxes(pixels), name, source_size, attributes, named)

    def findings_of(
        self,
        found: tuple[np.ndarray, np.ndarray, np.ndarray],
        name: str,
        source_size: tuple[int, int],
        attributes: Mapping,
        named: str | None = None,
    ) -> Findings:
        """Return the detector's boxes as findings in pixels of the source image.

        Args:
            found: boxes (N, 4) float XYXY in prepared pixels, scores (N,) in [0, 1] and classes (N,) int from 0,
                highest score first.
            name: the source file.
            source_size: width and height of the source image, pixels.
            attributes: `pixel_spacing` ((row, column) in mm or None) and `spacing_tag` of the source.
            named: name of the image; default: from the file's own.
        """
        boxes, scores, classes = found
        names = tuple(self.class_names[index] for index in classes)
        spacing = attributes.get("pixel_spacing")
        return Findings(
            file=name,
            image_name=image_name(name) if named is None else named,
            width=source_size[0],
            height=source_size[1],
            pixel_spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
            spacing_tag=attributes.get("spacing_tag") or "",
            class_names=names,
            class_ids=classes.astype(np.int64),
            scores=scores.astype(np.float64),
            boxes_xyxy=clip(box_map(*source_size, self.preprocess).inverse(boxes), *source_size),
            is_reported=scores >= self.limits[classes.astype(np.int64)],
            lowest_threshold=self.lowest_threshold,
        )

    @property
    def lowest_threshold(self) -> float | None:
        """The lowest operating threshold of any class, 0 to 1; None where no class is reported."""
        return float(self.limits.min()) if np.isfinite(self.limits).any() else None

    @functools.cached_property
    def weights_sha256(self) -> str:
        """The sha256 of the weights file, 64 hex digits."""
        return artifacts.sha256_file(self.weights)

    def boxes_and_features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return what the detector finds on a prepared image, and what its backbone sees there.

        Args:
            pixels: (size, size) uint8, prepared with the rules of `preprocess`.

        Returns:
            boxes (N, 4) in prepared pixels, scores (N,), classes (N,), highest score first; and the mean of the
            backbone's deepest feature map, (D,) float32.
        """
        maps: list[torch.Tensor] = []
        body = cast(nn.Module, getattr(self._model.backbone, "bottom_up", self._model.backbone))
        handle = body.register_forward_hook(lambda module, inputs, output: maps.append(list(output.values())[-1]))
        try:
            found = self._boxes(pixels)
        finally:
            handle.remove()
        return (*found, maps[0].float().mean(dim=(2, 3))[0].cpu().numpy())

    def _boxes(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (N, 4) in prepared pixels, scores (N,) and classes (N,), highest score first."""
        image, _ = self._mapper.image_of(pixels)
        with torch.no_grad():
            output = self._model([{"image": image, "height": pixels.shape[0], "width": pixels.shape[1]}])[0]
        instances = output["instances"].to("cpu")
        order = instances.scores.argsort(descending=True, stable=True)
        found = instances.pred_boxes.tensor, instances.scores, instances.pred_classes
        return tuple(values[order].numpy() for values in found)

    def _checked_thresholds(self, given: Mapping | None, weights: str | Path) -> dict | None:
        if given is not None:
            return check_thresholds(given, self.class_names, "thresholds")
        if self.card.thresholds is None:
            return None
        return check_thresholds(self.card.thresholds, self.class_names, f"the card of {weights}")


def _stored(image: str | Path | bytes | Dataset | np.ndarray, size: int) -> StoredImage:
    """Return the stored pixels of any kind of image.

    Raises:
        ImageError: it cannot be decoded, or the array has another form.
        TypeError: it is not an image.
    """
    if isinstance(image, str | Path):
        return decode_image(Path(image).read_bytes(), size)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), size)
    if isinstance(image, np.ndarray):
        return _stored_array(image)
    if hasattr(image, "save_as"):  # a pydicom Dataset, without importing pydicom to say so
        file = io.BytesIO()
        image.save_as(file, enforce_file_format=True)
        return decode_image(file.getvalue(), size)
    raise TypeError(f"an image is a path, bytes, a pydicom Dataset or an array, not {type(image).__name__}")


def _stored_array(pixels: np.ndarray) -> StoredImage:
    if pixels.ndim != 2 or pixels.dtype not in _ARRAY_TYPES:
        raise ImageError(
            f"an array must be (height, width) of uint8, uint16 or int16, got {pixels.shape} of {pixels.dtype}"
        )
    height, width = pixels.shape
    transform = GrayscaleTransform(0, 255) if pixels.dtype == np.uint8 else GrayscaleTransform()
    return StoredImage(pixels=pixels, source_width=width, source_height=height, transform=transform)


def _filled(model: torch.nn.Module, state: Mapping, weights: str | Path) -> torch.nn.Module:
    """Load every tensor of a detector, in evaluation mode.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    require_complete(model, compare(model, {name: tuple(value.shape) for name, value in state.items()}, str(weights)))
    model.load_state_dict({name: value for name, value in state.items() if name in model.state_dict()}, strict=False)
    return model.eval()
