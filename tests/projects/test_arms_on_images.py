"""Arms that are trained on a set of a few pictures: a file of another tool, and several kinds of arm in one."""

import pytest
import torch
import yaml
from d2_cxr.projects.label_efficiency import stage_kinds
from d2_cxr.projects.label_efficiency.plan import read_study

from d2_cxr import artifacts
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.resnet_names import BOTTOM_UP
from d2_cxr.checkpoint.weights_card import read_card

CONFIG = "configs/quick_schedules/demo_R_18.yaml"
POOL = ["tiny_cxr_train_unlabeled_pool_50_seed1", "tiny_cxr_negative_train_pool_50_seed1"]
TEACHER = {"pool": "all+negative", "pool_fraction": 50, "options": {"BURN_IN": 0.5}}
SIMCLR = {"config": "configs/pretraining/simclr_R_18_test.yaml", "pool": "all+negative", "pool_fraction": 50}
OPTIONS = {
    "INPUT.MIN_SIZE_TRAIN": [64],
    "INPUT.MAX_SIZE_TRAIN": 64,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 64,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "BN",
    "SOLVER.MAX_ITER": 2,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.WARMUP_ITERS": 0,
    "CXR.AMP": "off",
    "CXR.NUM_THREADS": 1,
}


@pytest.fixture(scope="module")
def study(tiny_set, tmp_path_factory, resnet18):
    """The folder of a study whose stages were run, but for the report's."""
    folder = tmp_path_factory.mktemp("arms")
    torch.save(resnet18, folder / "exported_last.pt")
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    weights = {"exported": {"file": str(folder / "exported_last.pt"), "pixel_mean": mean, "pixel_std": std}}
    arms = {
        "exported": {"config": CONFIG, "weights": "exported"},
        "simclr+teacher": {"config": CONFIG, "weights": "simclr", "teacher": TEACHER},
        "random_longest": {"config": CONFIG, "compute_matched": "simclr+teacher"},
    }
    plan = {"study": "tiny", "output": str(folder), "data": {"name": "tiny_cxr", "root": str(tiny_set)}, "seeds": [1]}
    plan |= {"weights": weights, "pretraining": {"simclr": SIMCLR}, "arms": arms, "shared_options": OPTIONS}
    plan |= {"labels": {"label_fractions": [50]}, "evaluation": {"resamples": 5}}
    (folder / "study.yaml").write_text(yaml.safe_dump(plan))
    for stage in read_study(folder / "study.yaml").stages:
        if stage.kind not in ("statistics", "prior_box"):
            stage_kinds.run_stage(stage.to_dict(), str(folder))
    return folder


def record(study, arm, name="run.json"):
    return artifacts.read_json(study / f"runs/{arm}/50/seed1" / name)


def test_lightly_trains_export_of_a_torchvision_network_is_an_arm(study, resnet18):
    """`exported_models/exported_last.pt` is the network's own state dict, with its unused `fc` (docs.lightly.ai)."""
    card = read_card(study / "weights/exported.pth")
    assert (card.architecture, card.pixel_mean) == ("resnet18", [123.675, 116.28, 103.53])
    converted = load_weights_file(study / "weights/exported.pth")["model"]
    assert torch.equal(converted[BOTTOM_UP + "res5.1.conv2.weight"], resnet18["layer4.1.conv2.weight"])
    groups = record(study, "exported", "weights.json")["groups"]
    assert groups["backbone.bottom_up.res5"]["origin"] == "file" and groups["proposal_generator"]["origin"] == "random"
    assert record(study, "exported")["status"] == "finished"


def test_one_arm_starts_from_pretraining_and_has_a_teacher(study):
    run = record(study, "simclr+teacher")
    assert run["weights_card"]["data_names"] == POOL and run["weights_card"]["num_images"] == 6 + 3
    teacher = run["preview"]["teacher"]
    assert teacher["pool"] == POOL and 3 <= teacher["pool_images"] < 9 and teacher["burn_in"] == 1
    assert record(study, "simclr+teacher", "teacher.json")["history"]


def test_the_control_trains_for_the_compute_of_both(study):
    # 2 x 9 views of 32^2 pixels are 2.25 steps of 2 x 64^2; the teacher is 4/3 of the second of two steps
    assert record(study, "random_longest")["iterations"] == round(2 + 2.25 + 4 / 3)
