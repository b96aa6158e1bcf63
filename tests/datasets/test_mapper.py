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
from d2_cxr.config import add_cxr_config
from d2_cxr.datasets import image_array
from d2_cxr.datasets.augmentations import placement
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
    add_cxr_config(cfg)
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
    add_cxr_config(cfg)
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


def test_a_box_with_less_than_the_stated_part_in_the_frame_is_left_out(image):
    # frame 30 x 20; the box at x 2..12 shifted 10 px to the left has 2 of its 10 columns left, shifted 9 px 3
    def boxes(shift, least):
        mapper = CXRMapper([_Placed((-shift / 30, 0.0))], is_train=True, least_seen=least)
        return mapper(image)["instances"].gt_boxes.tensor.numpy().round(3).tolist()

    assert boxes(12, 0.0) == [[8, 10, 18, 20]]
    assert boxes(10, 0.0) == [[0, 3, 2, 8], [10, 10, 20, 20]]
    assert boxes(10, 0.25) == [[10, 10, 20, 20]] and boxes(9, 0.25) == [[0, 3, 3, 8], [11, 10, 21, 20]]


def test_light_augmentation_keeps_boxes_on_their_objects_and_repeats_itself_at_a_position(tmp_path):
    picture = np.zeros((200, 300), np.uint8)
    picture[60:120, 90:170] = 200
    path = tmp_path / "set" / "images" / "b.png"
    artifacts.write_with(path, lambda temporary: cv2.imwrite(temporary, picture))
    box = {"bbox": [90, 60, 80, 60], "category_id": 0, "bbox_mode": BoxMode.XYWH_ABS}
    record = {"file_name": str(path), "height": 200, "width": 300, "image_id": 1, "annotations": [box]}
    mapper, widths = CXRMapper.from_config(_config("light"), is_train=True, seed=3), set()
    for position in range(20):
        sample = mapper(record, position)
        found = np.argwhere(sample["image"][0].numpy() > 70)  # the object is 200 before, 120 at least after
        (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0) + 1
        x0, y0, x1, y1 = sample["instances"].gt_boxes.tensor[0].tolist()
        assert np.abs(np.array([x0, y0, x1, y1]) - [left, top, right, bottom]).max() <= 1
        widths.add(round(x1 - x0, 2))
        assert torch.equal(sample["image"], mapper(record, position)["image"])
    assert len(widths) == 20


def test_augmentation_is_of_training_alone_and_a_teacher_sees_none(image):
    plain = CXRMapper([], is_train=False)(image)["image"]

    def seen(augmentation, is_train=True, weak=False):
        return CXRMapper.from_config(_config(augmentation), is_train, seed=1, weak=weak)(image, 5)["image"]

    assert torch.equal(seen("off"), plain) and torch.equal(seen("light", is_train=False), plain)
    assert torch.equal(seen("light", weak=True), plain)
    assert not any(torch.equal(seen(choice), plain) for choice in ("gray", "geometry", "light"))


class _Placed(T.Augmentation):
    def __init__(self, shift):
        self.shift = shift

    def get_transform(self, image):
        return placement(image.shape, (1.0, 1.0), self.shift)


def _config(augmentation):
    cfg = get_cfg()
    add_cxr_config(cfg)
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = "none", (0,), 0
    cfg.CXR.AUGMENTATION = augmentation
    return cfg


def test_the_dataset_takes_draws_and_keeps_arrays_only(image):
    dataset = ImageDataset([image, image], CXRMapper(FLIP, is_train=True, seed=1))
    assert torch.equal(dataset[Draw(1, 5)]["image"], CXRMapper(FLIP, is_train=True, seed=1)(image, 5)["image"])
    assert set(compact(image)) == {"file_name", "height", "width", "image_id", "boxes", "classes"}
    assert len(dataset) == 2
