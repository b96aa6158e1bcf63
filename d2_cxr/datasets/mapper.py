"""Prepared images to inputs of Detectron2's models: a fast path from the memory-mapped array or a gray PNG.

Images are gray, so one channel is read and only *viewed* as three; the model normalizes. Boxes are transformed as one
array. The random numbers of augmentation depend on the seed and the position in the sampler's stream alone: not on the
number of workers, and not on where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances
from torch.utils.data import Dataset

from d2_cxr.boxes import area, clip
from d2_cxr.datasets import augmentations as own_augmentations
from d2_cxr.datasets import image_array

_LEAST_SEEN = 0.25  # of a box's area: what a placement leaves less of is not a box any more


class CXRMapper:
    """Map a dataset dict to a model input, in place of Detectron2's `DatasetMapper`."""

    def __init__(self, augmentations: Sequence[T.Augmentation], is_train: bool, seed: int = 0, least_seen: float = 0.0):
        """Set up the mapper.

        Args:
            augmentations: Detectron2's, applied in this order to image and boxes.
            is_train: keep boxes as `instances`.
            seed: of the augmentations.
            least_seen: part of a box's area that must remain in the frame, 0 to 1; boxes with less are left out.
        """
        self.augmentations = [_unless_sized(step) for step in augmentations]
        self._augment = T.AugmentationList(self.augmentations)
        self._is_train, self._seed, self._least_seen = is_train, seed, least_seen

    @classmethod
    def from_config(cls, cfg, is_train: bool, seed: int = 0, weak: bool = False) -> CXRMapper:
        """Take resizing, flip and crop from `INPUT`, as Detectron2's mapper does, and what CXR.AUGMENTATION adds.

        Args:
            cfg: of the run.
            is_train: augment, and keep boxes.
            seed: of the augmentations.
            weak: without CXR.AUGMENTATION: what a teacher sees.
        """
        augmentations = detection_utils.build_augmentation(cfg, is_train)
        if is_train and cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        added = own_augmentations.of_choice(cfg.CXR.AUGMENTATION) if is_train and not weak else []
        return cls([*augmentations, *added], is_train, seed, least_seen=_LEAST_SEEN if added else 0.0)

    def __call__(self, record: dict, position: int = 0) -> dict:
        """Return the model's input for a dataset dict.

        Args:
            record: a dataset dict: file_name, height, width, image_id, and in training annotations (or what `compact`
                makes of them).
            position: in the sampler's stream; with the seed it decides the augmentation.

        Returns:
            image (3, H, W) uint8, a view of one gray channel; height and width of the prepared image; image_id,
            file_name; when training, instances with gt_boxes XYXY in the image's pixels and gt_classes.

        Raises:
            FileNotFoundError, ValueError: the PNG is missing, or has another size than the set's JSON says.
        """
        pixels = _checked(image_array.read(record["file_name"]), record)
        if self._is_train:  # Detectron2's augmentations draw from numpy's global generator
            np.random.seed(_mix(self._seed, position))
        image, transforms = self.image_of(pixels)
        sample = {key: record[key] for key in ("file_name", "height", "width", "image_id")}
        sample["image"] = image
        if self._is_train:
            sample["instances"] = _instances(record, transforms, (image.shape[1], image.shape[2]), self._least_seen)
        return sample

    def image_of(self, pixels: np.ndarray) -> tuple[torch.Tensor, T.TransformList]:
        """Augment a prepared image (H, W) uint8; return the network's image (3, h, w) uint8 and the transforms."""
        steps = T.AugInput(pixels)
        transforms = self._augment(steps)
        image = torch.from_numpy(np.require(steps.image, requirements=["C", "W"]))
        return image.expand(3, *image.shape), transforms  # three views of one channel, whatever INPUT.FORMAT


class ImageDataset(Dataset):
    """Images by the sampler's draws; holds one array of boxes per image, not Detectron2's nested dicts."""

    def __init__(self, images: Sequence[dict], mapper: Callable[[dict, int], dict]):
        self._images, self._mapper = [compact(image) for image in images], mapper

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, draw) -> dict:
        """Return the sample of a `samplers.Draw`, or of a plain index."""
        index, position = draw if isinstance(draw, tuple) else (draw, 0)
        return self._mapper(self._images[index], position)


def compact(image: dict) -> dict:
    """Return the part of a dataset dict that the mapper needs, boxes as arrays: (N, 4) float32 XYXY and (N,) int64."""
    kept = {key: image[key] for key in ("file_name", "height", "width", "image_id")}
    if "annotations" in image:
        kept["boxes"], kept["classes"] = _boxes_of(image)
    return kept


class _ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, without resampling an image that has the wanted size already."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the resize, or no operation for an image of the wanted size."""
        resize = super().get_transform(image)
        if isinstance(resize, T.ResizeTransform) and (resize.new_h, resize.new_w) == image.shape[:2]:
            return T.NoOpTransform()
        return resize


def _unless_sized(step: T.Augmentation) -> T.Augmentation:
    if type(step) is T.ResizeShortestEdge:
        return _ResizeShortestEdge(
            step.short_edge_length, step.max_size, "range" if step.is_range else "choice", step.interp
        )
    return step


def _checked(pixels: np.ndarray, image: dict) -> np.ndarray:
    stated = (image["height"], image["width"])
    if pixels.shape != stated:
        raise ValueError(f"{image['file_name']} is {pixels.shape}, its set's JSON says {stated}; prepare the set again")
    return pixels


def _boxes_of(image: dict) -> tuple[np.ndarray, np.ndarray]:
    if "boxes" in image:
        return image["boxes"], image["classes"]
    kept = [box for box in image["annotations"] if not box.get("iscrowd", 0)]
    boxes = [BoxMode.convert(box["bbox"], box["bbox_mode"], BoxMode.XYXY_ABS) for box in kept]
    classes = np.array([box["category_id"] for box in kept], dtype=np.int64)
    return np.array(boxes, dtype=np.float32).reshape(-1, 4), classes


def _instances(image: dict, transforms: T.TransformList, shape: tuple[int, int], least_seen: float) -> Instances:
    """Return the boxes in the augmented image (H, W), clipped to it; boxes that are not seen enough are left out."""
    whole, classes = _boxes_of(image)
    whole = transforms.apply_box(whole) if len(whole) else whole
    boxes = clip(whole, shape[1], shape[0]).astype(np.float32)
    inside = (boxes[:, 2:] - boxes[:, :2] > 1e-5).all(axis=1)  # Detectron2's filter_empty_instances
    inside &= area(boxes) >= least_seen * area(whole)
    return Instances(
        shape, gt_boxes=Boxes(torch.from_numpy(boxes[inside])), gt_classes=torch.from_numpy(classes[inside])
    )


def _mix(seed: int, position: int) -> int:
    """Return a 32-bit seed in which neighboring positions have nothing in common."""
    return int(np.random.SeedSequence([seed % 2**32, position]).generate_state(1)[0])
