import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")

from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from d2_cxr import artifacts
from d2_cxr.datasets import image_array
from d2_cxr.datasets.mapper import CXRMapper, ImageDataset, compact
from d2_cxr.datasets.samplers import Draw

FLIP = [T.RandomFlip(0.5)]


@pytest.fixture
def image(tmp_path):
    """An image of 20 x 30 pixels with two boxes, one crowd box, as Detectron2 loads it."""
    image = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    path = tmp_path / "set" / "images" / "a.png"
    artifacts.write_with(path, lambda temporary: cv2.imwrite(temporary, image))
    boxes = [([2, 3, 10, 5], 4, 0), ([20, 10, 10, 10], 1, 0), ([0, 0, 30, 20], 1, 1)]
    annotations = [
        {"bbox": box, "category_id": category, "iscrowd": crowd, "bbox_mode": BoxMode.XYWH_ABS}
        for box, category, crowd in boxes
    ]
    return {"file_name": str(path), "height": 20, "width": 30, "image_id": 7, "annotations": annotations, "image": "a"}


def test_one_gray_channel_is_viewed_as_three(image):
    viewed = CXRMapper([], is_train=False)(image)["image"]
    assert viewed.shape == (3, 20, 30) and viewed.dtype == torch.uint8
    assert viewed.stride()[0] == 0  # no copy
    assert torch.equal(viewed[0], torch.from_numpy(image_array.read(image["file_name"])))


def test_boxes_become_corners_and_crowds_are_left_out(image):
    instances = CXRMapper([], is_train=True)(image)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[2, 3, 12, 8], [20, 10, 30, 20]]
    assert instances.gt_classes.tolist() == [4, 1]


def test_a_flip_moves_the_boxes_with_the_image(image):
    sample = CXRMapper([T.RandomFlip(1.0)], is_train=True)(image)
    assert sample["instances"].gt_boxes.tensor.tolist() == [[18, 3, 28, 8], [0, 10, 10, 20]]
    assert np.array_equal(sample["image"][0].numpy(), image_array.read(image["file_name"])[:, ::-1])


def test_augmentation_depends_on_seed_and_position_alone(image):
    mapper = CXRMapper(FLIP, is_train=True, seed=1)
    first = [mapper(image, position)["image"] for position in range(32)]
    np.random.seed(99)  # somebody else draws in between
    again = [mapper(image, position)["image"] for position in reversed(range(32))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    flipped = sum(not torch.equal(view, first[0]) for view in first)
    assert 4 < flipped < 28  # repeats of an image differ
    other = [CXRMapper(FLIP, is_train=True, seed=2)(image, position)["image"] for position in range(32)]
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("is_train", [True, False])
def test_the_sample_equals_that_of_detectron2(image, is_train):
    cfg = get_cfg()
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (40,), 100, 40
    ours, theirs = CXRMapper.from_config(cfg, is_train)(image), DatasetMapper(cfg, is_train)(image)
    assert torch.equal(ours["image"], theirs["image"])
    assert (ours["height"], ours["width"], ours["image_id"]) == (20, 30, 7)
    if is_train:
        assert torch.allclose(ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor)
        assert torch.equal(ours["instances"].gt_classes, theirs["instances"].gt_classes)


def test_an_image_of_the_right_size_is_not_resampled(image):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 20
    mapper = CXRMapper.from_config(cfg, is_train=False)
    _, transforms = mapper.image_of(image_array.read(image["file_name"]))
    assert not transforms.transforms or isinstance(transforms.transforms[0], T.NoOpTransform)


def test_the_memory_mapped_array_gives_the_same_image(image, tmp_path):
    from_png = CXRMapper([], is_train=False)(image)["image"].clone()
    array = np.stack([np.zeros((20, 30), np.uint8), image_array.read(image["file_name"])])
    np.save(tmp_path / "set" / "images.npy", array)
    artifacts.write_csv(tmp_path / "set" / "images.csv", [{"image_name": "z"}, {"image_name": "a"}], ["image_name"])
    (tmp_path / "set" / "images" / "a.png").unlink()
    assert torch.equal(CXRMapper([], is_train=False)(image)["image"], from_png)


def test_an_image_without_boxes_gives_empty_instances(image):
    instances = CXRMapper(FLIP, is_train=True)({**image, "annotations": []})["instances"]
    assert instances.gt_boxes.tensor.shape == (0, 4) and len(instances.gt_classes) == 0


def test_a_picture_that_is_not_what_its_json_says_is_refused(image, tmp_path):
    with pytest.raises(ValueError, match=r"is \(20, 30\), its set's JSON says \(64, 64\)"):
        CXRMapper([], is_train=False)({**image, "height": 64, "width": 64})
    with pytest.raises(FileNotFoundError, match=r"b\.png is missing"):
        CXRMapper([], is_train=False)({**image, "file_name": str(tmp_path / "set" / "images" / "b.png")})


def test_the_dataset_takes_draws_and_keeps_arrays_only(image):
    dataset = ImageDataset([image, image], CXRMapper(FLIP, is_train=True, seed=1))
    assert torch.equal(dataset[Draw(1, 5)]["image"], CXRMapper(FLIP, is_train=True, seed=1)(image, 5)["image"])
    assert set(compact(image)) == {"file_name", "height", "width", "image_id", "boxes", "classes"}
    assert len(dataset) == 2
