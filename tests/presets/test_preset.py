"""A preset decides how a detector is trained, and nothing of what is measured."""

import dataclasses
import shutil

import pytest

from d2_cxr import artifacts, configs
from d2_cxr.datasets import builtin
from d2_cxr.presets import preset
from d2_cxr.presets.preset import Machine, SetFacts, choose

OPACITY = SetFacts(num_images=93, num_negative=105, num_boxes=139, num_classes=1, small_side=0.1, size=256)
VINDR = SetFacts(num_images=3075, num_negative=7000, num_boxes=20000, num_classes=14, small_side=0.03, size=512)
LAPTOP = Machine(gpu_gb=0, memory_gb=8, cores=2)
CARD = Machine(gpu_gb=24, memory_gb=64, cores=16)
EFFNET = {"MODEL.BACKBONE.NAME": "build_timm_fpn_backbone", "MODEL.TIMM.NAME": "tf_efficientnet_lite0"}
R50 = {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.STRIDE_IN_1X1": True, "INPUT.FORMAT": "BGR"}
CASES = [
    (facts, machine, required, name)
    for facts in (OPACITY, VINDR)
    for machine in (LAPTOP, CARD)
    for required in (None, EFFNET, R50)
    for name in preset.PRESETS
]


@pytest.mark.parametrize("facts, machine, required, name", CASES)
def test_nothing_that_is_measured_or_drawn_is_touched(facts, machine, required, name):
    keys = set(choose(facts, machine, required, name).options) - set(required or {})
    assert keys <= preset.ALLOWED
    forbidden = ("DATASETS.", "TEST.", "SEED", "CXR.TEST", "CXR.VAL", "CXR.RESAMPLES", "CXR.TEACHER", "CXR.DATASETS")
    assert not [key for key in preset.ALLOWED if key.startswith(forbidden)]
    assert not [key for key in preset.ALLOWED if "NUM_CLASSES" in key or "THRESH_TEST" in key or "DETECTIONS" in key]


def test_a_preset_of_the_same_facts_is_the_same():
    assert choose(OPACITY, LAPTOP, EFFNET) == choose(OPACITY, LAPTOP, EFFNET)


def test_a_hundred_images_on_two_cores_get_the_small_detector():
    chosen = choose(OPACITY, LAPTOP, EFFNET)
    assert chosen.config == "quick_schedules/opacity_effnet_lite0.yaml"
    assert chosen.options["INPUT.MIN_SIZE_TEST"] == 192
    assert (chosen.options["SOLVER.IMS_PER_BATCH"], chosen.options["SOLVER.BASE_LR"]) == (8, 0.0003)
    assert chosen.options["SOLVER.MAX_ITER"] == 628  # 27 passes * 93 images * 2 / 8
    assert chosen.options["CXR.NEGATIVE_RATIO"] == 1.0 and chosen.options["DATALOADER.REPEAT_THRESHOLD"] == 0.0
    assert any("628 iterations: each image with findings is seen about 27 times" in why for why in chosen.reasons)


def test_a_large_set_on_a_gpu_gets_the_papers_detector_and_epochs():
    chosen = choose(VINDR, CARD, R50)
    assert chosen.config == "VinDr-CXR/faster_rcnn_R_50_FPN.yaml"
    assert chosen.options["INPUT.MIN_SIZE_TEST"] == 512
    assert (chosen.options["CXR.EPOCHS"], chosen.options["CXR.STEP_EPOCHS"]) == (15, [8, 11])
    assert chosen.options["DATALOADER.REPEAT_THRESHOLD"] == 0.4 and chosen.options["MODEL.DEVICE"] == "cuda"


def test_small_boxes_get_more_pixels_but_never_more_than_were_prepared():
    small = dataclasses.replace(OPACITY, small_side=0.06, size=512)
    assert choose(small, LAPTOP).options["INPUT.MIN_SIZE_TEST"] == 320  # 0.06 * 320 = 19 px; 256 gives 15
    assert choose(small, LAPTOP).options["MODEL.ANCHOR_GENERATOR.SIZES"][0] == [27]  # 16 px at 192
    assert choose(dataclasses.replace(small, size=200), LAPTOP).options["INPUT.MIN_SIZE_TEST"] == 192
    assert choose(dataclasses.replace(small, size=128), LAPTOP).options["INPUT.MIN_SIZE_TEST"] == 128


def test_a_small_gpu_gets_a_smaller_batch_and_rate():
    chosen = choose(VINDR, dataclasses.replace(CARD, gpu_gb=6), R50)
    assert (chosen.options["SOLVER.IMS_PER_BATCH"], chosen.options["SOLVER.BASE_LR"]) == (4, 0.0005)


def test_without_negative_images_none_are_asked_for():
    chosen = choose(dataclasses.replace(OPACITY, num_negative=0), LAPTOP)
    assert chosen.options["CXR.NEGATIVE_RATIO"] == 0.0
    assert chosen.options["SOLVER.MAX_ITER"] == 314


def test_the_warm_up_is_never_more_than_a_tenth():
    assert choose(OPACITY, LAPTOP).options["SOLVER.WARMUP_ITERS"] == 20
    assert choose(dataclasses.replace(OPACITY, num_images=15), LAPTOP, name="quick").options["SOLVER.WARMUP_ITERS"] == 2


def test_quick_is_a_fifth_and_a_cpu_has_a_limit():
    assert choose(OPACITY, LAPTOP, name="quick").options["SOLVER.MAX_ITER"] == 126
    assert choose(VINDR, LAPTOP).options["SOLVER.MAX_ITER"] == 4000


@pytest.mark.parametrize("facts, name", [(OPACITY, "best"), (dataclasses.replace(OPACITY, num_images=0), "auto")])
def test_an_unknown_preset_and_an_empty_set_are_refused(facts, name):
    with pytest.raises(ValueError, match=r"choose one of auto, quick|has no image with findings; label some images"):
        choose(facts, LAPTOP, name=name)


@pytest.mark.parametrize("base", preset.BASES)
def test_the_values_that_presets_build_on_are_those_of_the_configs(base):
    cfg = configs.get(base.config)
    assert (
        base.size,
        base.batch,
        base.base_lr,
    ) == (cfg.INPUT.MIN_SIZE_TEST, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR)
    assert [side for (side,) in cfg.MODEL.ANCHOR_GENERATOR.SIZES] == list(base.anchors)
    assert ((cfg.CXR.EPOCHS > 0), cfg.SOLVER.WARMUP_ITERS) == (base.by_epochs, base.warm_up)


def test_the_facts_know_the_training_part_alone(tiny_set, tmp_path):
    from d2_cxr.presets.facts import facts_of

    before = facts_of(["tiny_cxr_train"])
    assert (before.num_images, before.num_negative, before.num_classes, before.size) == (12, 6, 2, 64)
    copy = tmp_path / "blind_cxr"
    shutil.copytree(tiny_set, copy)
    for part in ("val", "test", "negative_val", "negative_test"):
        (copy / "annotations" / "stratified" / f"{part}.json").unlink()
    values = artifacts.read_json(copy / "dataset.json")
    artifacts.write_json(
        copy / "dataset.json", {key: value for key, value in values.items() if key != "annotations_fingerprint"}
    )
    builtin.register_prepared("blind_cxr", copy)
    assert facts_of(["blind_cxr_train"]) == before
