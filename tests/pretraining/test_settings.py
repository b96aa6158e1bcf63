from pathlib import Path

import pytest

from d2_cxr.pretraining.settings import complete, fingerprint, num_epochs, read_settings

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs/pretraining").glob("*.yaml"))
IMAGES = [{"image_name": "a", "image_sha256": "00"}]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_complete(path):
    settings = read_settings(path)
    assert settings["datasets"] and settings["method"] == (
        "supervised" if path.stem.startswith("supervised") else "simclr"
    )


def test_overrides_go_down_by_dots():
    settings = read_settings(
        CONFIGS[0], ["optimizer.lr=0.25", "datasets=[a_train,b_negative_train]", "pixel_std=[1,2,3]"]
    )
    assert settings["optimizer"]["lr"] == 0.25
    assert settings["datasets"] == ["a_train", "b_negative_train"] and settings["pixel_std"] == [1, 2, 3]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batchsize": 3}, "unknown setting batchsize"),
        ({"optimizer": {"rate": 1}}, r"unknown setting optimizer\.rate; known here: name, lr"),
        ({"optimizer": "sgd"}, "it has keys of its own"),
        ({"num_views": 3}, "exactly one of epochs and num_views"),
        ({"backbone": "vgg"}, "choose one of resnet18"),
        ({"pixel_std": [0, 1, 1]}, "give positive numbers"),
        ({"pixel_mean": [0]}, "three numbers"),
        ({"batch_size": 1}, "needs at least two images"),
        ({"datasets": "own_train"}, r"datasets is 'own_train'; give a list, e.g. datasets=\[own_train\]"),
        ({"sets": ["own", "folder"]}, r"give \[\[name, folder of the prepared set\], \.\.\.\]"),
        ({"epochs": "ten"}, "epochs is 'ten'; it must be a whole number above 0"),
        ({"epochs": 0}, "epochs is 0; it must be"),
        ({"optimizer": {"weight_decay": "1e-4"}}, r"optimizer\.weight_decay is '1e-4', not a number .*write 1\.0e-4"),
        ({"scheduler": {"warmup_epochs": -1}}, r"scheduler\.warmup_epochs is -1; give 0 or more"),
        (
            {"scheduler": {"name": "cosine", "warmup_epochs": 0.5}},
            r"warmup_epochs is 0\.5, but only scheduler\.name=warmup_cosine has a warm-up, not cosine",
        ),
        ({"lars": "no"}, "lars is 'no'; it can be true or false"),
        ({"lars": True, "optimizer": {"name": "adamw"}}, "lars goes with optimizer.name=sgd"),
    ],
)
def test_what_can_not_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        complete({"epochs": 1, **change})


def test_an_override_without_a_value_is_refused():
    with pytest.raises(ValueError, match="'fast' is not KEY=VALUE"):
        read_settings(CONFIGS[0], ["fast"])


@pytest.mark.parametrize("override", ["datasets=[a", "datasets=${nothing}"])
def test_an_override_that_is_no_yaml_is_one_line(override):
    with pytest.raises(ValueError, match="cannot be read: ") as error:
        read_settings(CONFIGS[0], [override])
    assert override in str(error.value) and "\n" not in str(error.value)


def test_a_budget_of_views_is_rounded_up_to_epochs():
    settings = complete({"num_views": 16000})
    assert num_epochs(settings, 448) == 18  # 16000 / 896 = 17.9
    assert num_epochs(complete({"epochs": 7}), 448) == 7


def test_a_run_is_told_by_what_changes_its_result():
    run = complete({"epochs": 1, "datasets": ["a"]})
    assert fingerprint(run, IMAGES) == fingerprint({**run, "num_workers": 3, "sets": [["a", "/elsewhere"]]}, IMAGES)
    assert fingerprint(run, IMAGES) != fingerprint({**run, "seed": 1}, IMAGES)
    assert fingerprint(run, IMAGES) != fingerprint(run, [{"image_name": "a", "image_sha256": "01"}])
