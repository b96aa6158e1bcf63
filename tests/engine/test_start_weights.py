import shutil

import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.image_list import image_hashes
from d2_cxr.checkpoint.weights_card import WeightsCard
from d2_cxr.datasets import loading
from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine.evaluate import check_detector
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.set_checks import refuse_shared_images
from d2_cxr.engine.start_weights import preprocessing_contradictions, read_start_weights

CARD = {
    "depth": 18,
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
    "input_format": "RGB",
    "stride_in_1x1": False,
    "preprocess": {"size": 64, "resize": "squash", "equalize": "histogram", "window": "file"},
}


def read(cfg):
    return read_start_weights(cfg, RunSets.of(cfg))


def listed(*names, others=None):
    """Return the list of images of data-set names, as it is stored in weights."""
    return image_hashes(loading.prepared_images(map(named_set, names)), others)


@pytest.fixture
def checked(tiny_cfg, tmp_path):
    """Check weights with a card that differs from a fitting one by these values."""

    def check(*opts, images=None, **changes):
        content = {"model": {}, "card": WeightsCard(**{**CARD, **changes}).to_dict()}
        if images is not None:
            content["images"] = images
        torch.save(content, tmp_path / "weights.pth")
        return read(tiny_cfg("MODEL.WEIGHTS", str(tmp_path / "weights.pth"), *opts)).card

    return check


def test_fitting_weights_pass(checked):
    assert checked().depth == 18
    assert checked(preprocess=None, pixel_mean=None).pixel_mean is None  # unknown is compared with nothing


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pixel_mean": [0.0, 0.0, 0.0]}, "PIXEL_MEAN is"),
        ({"pixel_std": [1.0, 1.0, 1.0]}, "PIXEL_STD is"),
        ({"input_format": "BGR"}, "INPUT.FORMAT is RGB, but the weights were trained with BGR"),
        ({"stride_in_1x1": True}, "STRIDE_IN_1X1 is False, but the weights were trained with True"),
        ({"depth": 50}, "DEPTH is 18, but the weights were trained with 50"),
        ({"preprocess": {"equalize": "none"}}, "prepared with equalize histogram, the weights' with none"),
        ({"preprocess": {"resize": "letterbox"}}, "prepared with resize squash, the weights' with letterbox"),
        ({"preprocess": {"window": "full"}}, "prepared with window file, the weights' with full"),
    ],
)
def test_a_contradiction_is_refused_in_one_line(checked, changes, message):
    with pytest.raises(ValueError, match="cannot start this run") as error:
        checked(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_frozen_statistics_that_were_never_updated_are_refused_and_learned_ones_warned_of(tiny_cfg, tmp_path, caplog):
    name = "backbone.bottom_up.res2.0.conv1.norm"
    model = {f"{name}.running_mean": torch.zeros(64), f"{name}.running_var": torch.ones(64)}
    path = tmp_path / "weights.pth"
    torch.save({"model": model, "card": WeightsCard(**CARD).to_dict()}, path)
    frozen = ("MODEL.WEIGHTS", str(path), "MODEL.RESNETS.NORM", "FrozenBN")
    with pytest.raises(ValueError, match=r"never updated .* set MODEL\.RESNETS\.NORM BN, MODEL\.BACKBONE\.FREEZE_AT 0"):
        read(tiny_cfg(*frozen))
    read(tiny_cfg("MODEL.WEIGHTS", str(path), "MODEL.RESNETS.NORM", "BN"))
    assert caplog.text.count("training must update them") == 1
    torch.save({"model": model}, path)  # statistics may be folded into the affine terms
    read(tiny_cfg(*frozen, "CXR.WEIGHTS_UNCHECKED", "True"))
    assert caplog.text.count("training must update them") == 2


def test_another_size_only_warns(caplog):
    assert preprocessing_contradictions({"size": 224, "equalize": None}, {"size": 512, "equalize": "none"}) == []
    assert "the images are 512 px, the weights were trained on 224 px" in caplog.text


def test_weights_that_saw_test_images_are_refused(checked, tiny_set):
    with pytest.raises(ValueError, match=r"it was trained on 5 images of .*tiny_cxr_test.*--allow FILE"):
        checked(images=listed("tiny_cxr_test"))
    with pytest.raises(ValueError, match="it was trained on 2 images"):
        checked(images=listed("tiny_cxr_negative_val"))
    assert checked(images=listed("tiny_cxr_train", "tiny_cxr_negative_train")) is not None


def test_a_copy_of_a_test_image_in_another_file_is_found_by_its_pixels(checked, tiny_set):
    images = listed("tiny_cxr_test")
    images[:, :8] = 0  # other source files
    with pytest.raises(ValueError, match="it was trained on 5 images"):
        checked(images=images)


def test_images_that_are_allowed_may_have_been_seen(checked, tiny_set, tmp_path, monkeypatch):
    allowed = tmp_path / "allowed.txt"
    tested = loading.prepared_images([named_set("tiny_cxr_test")])
    allowed.write_text("\n".join(image["image_name"] for image in tested))
    monkeypatch.setenv("D2_CXR_ALLOW_LEAKS", str(allowed))
    assert checked(images=listed("tiny_cxr_test")) is not None


def test_training_images_that_are_test_images_too_are_refused(tiny_cfg, tiny_set, tmp_path, forget_fingerprints):
    shutil.copytree(tiny_set, tmp_path / "twin")  # the same pictures under another name
    twin = ["CXR.DATASETS", f"[['twin_cxr', '{tmp_path / 'twin'}']]"]
    refuse_shared_images(RunSets.of(tiny_cfg()))
    refuse_shared_images(RunSets.of(tiny_cfg("DATASETS.TEST", "('tiny_cxr_train',)")))  # a look at the fit
    cfg = tiny_cfg("DATASETS.TRAIN", "('twin_cxr_train',)", "DATASETS.TEST", "('tiny_cxr_test',)", *twin)
    refuse_shared_images(RunSets.of(cfg))
    path = tmp_path / "twin/annotations/stratified/train.json"
    test = artifacts.read_json(tmp_path / "twin/annotations/stratified/test.json")
    artifacts.write_json(path, {**artifacts.read_json(path), "images": test["images"], "annotations": []})
    forget_fingerprints(tmp_path / "twin")
    with pytest.raises(ValueError, match=r"twin_cxr_train: 5 images leak held-out images .*--allow FILE") as error:
        refuse_shared_images(RunSets.of(cfg))
    assert "\n" not in str(error.value)


def test_what_is_held_out_of_a_fraction_is_the_split_s(tiny_cfg):
    held_out = RunSets.of(tiny_cfg("DATASETS.TRAIN", "('tiny_cxr_train_labeled_30_seed1',)")).held_out
    names = [named.name for named in held_out]
    assert names == [f"tiny_cxr_{part}" for part in ("val", "test", "negative_val", "negative_test")]


def test_weights_without_a_card_train_only_when_this_is_known(tiny_cfg, tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"model": {}}, path)
    with pytest.raises(ValueError, match=r"has no card .*set CXR\.WEIGHTS_UNCHECKED True"):
        read(tiny_cfg("MODEL.WEIGHTS", str(path)))
    assert read(tiny_cfg("MODEL.WEIGHTS", str(path), "CXR.WEIGHTS_UNCHECKED", "True")).card is None


def test_zoo_files_are_known_by_their_place(tiny_cfg, tmp_path):
    import pickle

    path = tmp_path / "COCO-Detection" / "faster_rcnn_R_50_FPN_3x" / "137849458" / "model_final_280758.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"model": {}, "__author__": "Detectron2"}))
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT is RGB, but the weights were trained with BGR"):
        read(tiny_cfg("MODEL.WEIGHTS", str(path)))


def test_a_zoo_file_that_can_not_be_fetched_says_what_to_do(tiny_cfg, monkeypatch):
    from detectron2.utils.file_io import PathManager

    def no_network(_path):
        raise OSError("no route to host")

    monkeypatch.setattr(PathManager, "get_local_path", no_network)
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched \(OSError\); fetch it elsewhere and give its path"):
        read(tiny_cfg("MODEL.WEIGHTS", "detectron2://ImageNetPretrained/MSRA/R-50.pkl"))
    with pytest.raises(FileNotFoundError, match=r"MODEL\.WEIGHTS nowhere\.pth does not exist"):
        read(tiny_cfg("MODEL.WEIGHTS", "nowhere.pth"))


def test_no_weights_need_no_check(tiny_cfg):
    assert read(tiny_cfg()).card is None


def test_the_list_of_images_is_sorted_and_each_image_once(tiny_set):
    images = image_hashes(
        loading.prepared_images([named_set("tiny_cxr_train")]) * 2,
        listed("tiny_cxr_train"),
    )
    assert images.shape == (12, 16) and images.dtype == torch.uint8
    rows = [row.tobytes() for row in images.numpy()]
    assert rows == sorted(set(rows))
    first = loading.prepared_images([named_set("tiny_cxr_train")])[0]
    assert any(row[:8].hex() == first["source_sha256"][:16] for row in rows)


def test_a_detector_of_other_classes_is_not_evaluated(tiny_cfg, tmp_path):
    card = WeightsCard(**CARD, class_names=["Disc", "Triangle"])
    torch.save({"model": {}, "card": card.to_dict()}, tmp_path / "detector.pth")
    with pytest.raises(ValueError, match=r"tiny_cxr_test has the classes Square, .*: Disc, Triangle"):
        check_detector(tiny_cfg(), str(tmp_path / "detector.pth"))
    assert artifacts.sha256_file(tmp_path / "detector.pth")
