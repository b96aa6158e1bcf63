"""A study file to its stages."""

from pathlib import Path

import pytest
import yaml
from d2_cxr.projects.label_efficiency import pools
from d2_cxr.projects.label_efficiency.names import pool_names, train_name
from d2_cxr.projects.label_efficiency.plan import read_study
from d2_cxr.projects.label_efficiency.study_file import check_inputs

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "LabelEfficiency"
CONFIG = "configs/quick_schedules/demo_R_18.yaml"
STUDY = {
    "study": "small",
    "output": "output/small",
    "data": {"name": "phantom_cxr", "phantoms": {"num_images": 10}, "prepare": {"size": 64}},
    "pretraining": {"simclr": {"config": CONFIG, "pool": "all"}},
    "arms": {
        "random": {"config": CONFIG},
        "simclr": {"config": CONFIG, "weights": "simclr"},
        "simclr_permuted": {"config": CONFIG, "weights": "permuted(simclr)", "label_fractions": [10]},
    },
    "labels": {"label_fractions": [10, 100], "subsets": "nested"},
    "seeds": [0, 1],
    "shared_options": {"SOLVER.MAX_ITER": 5},
}
TUNING = {"option": "SOLVER.BASE_LR", "values": [0.0005, 0.001, 0.002], "label_fraction": 100}


def study(tmp_path, **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return read_study(path, tmp_path / "out")


def test_every_stage_follows_what_it_needs_and_stands_once(tmp_path):
    stages = study(tmp_path).stages
    seen = set()
    for stage in stages:
        assert set(stage.needs) <= seen, stage.id
        assert stage.id not in seen
        seen.add(stage.id)


def test_arms_shares_and_seeds_are_crossed(tmp_path):
    trains = [stage.id for stage in study(tmp_path).stages if stage.kind == "train"]
    assert len(trains) == (2 + 2 + 1) * 2  # random and simclr at two shares, permuted at one; two seeds
    assert "train/simclr_permuted/10/seed1" in trains
    assert "train/simclr_permuted/100/seed1" not in trains


def test_one_pretraining_a_seed_serves_all_shares_and_its_permutation(tmp_path):
    stages = {stage.id: stage for stage in study(tmp_path).stages}
    assert [key for key in stages if key.startswith("pretrain/")] == ["pretrain/simclr/seed0", "pretrain/simclr/seed1"]
    assert stages["train/simclr/10/seed0"].settings["weights"] == "weights/simclr_seed0.pth"
    assert stages["train/simclr_permuted/10/seed0"].settings["weights"] == "weights/simclr_seed0_permuted.pth"
    assert stages["train/random/10/seed0"].settings["weights"] is None


def test_the_complement_as_pool_takes_a_pretraining_for_each_share(tmp_path):
    plan = {"simclr": {"config": CONFIG, "pool": "complement"}}
    stages = study(tmp_path, pretraining=plan, labels={"label_fractions": [10, 30]}).stages
    pools = {stage.id: stage.settings["pool"] for stage in stages if stage.kind == "pretrain"}
    assert pools["pretrain/simclr/10/seed1"] == ["phantom_cxr_train_unlabeled_90_seed1"]
    assert len(pools) == 4


def test_tuning_gives_every_arm_the_same_trials_on_validation_images(tmp_path):
    laid = study(tmp_path, tuning=TUNING)
    trials = [stage for stage in laid.stages if stage.kind == "tune"]
    assert len(trials) == 3 * 3  # values x arms, one seed
    assert {stage.settings["test"] for stage in trials} == {"phantom_cxr_val"}
    assert {stage.settings["label_fraction"] for stage in trials if stage.settings["arm"] == "random"} == {100}
    assert {stage.settings["label_fraction"] for stage in trials if stage.settings["arm"] == "simclr_permuted"} == {10}
    assert sorted(s.settings["options"]["SOLVER.BASE_LR"] for s in trials if s.settings["arm"] == "simclr") == [
        0.0005,
        0.001,
        0.002,
    ]
    runs = [stage for stage in laid.stages if stage.kind == "train"]
    assert all(f"choose/{stage.settings['arm']}" in stage.needs for stage in runs)
    assert not any("choose" in need for stage in trials for need in stage.needs)
    seen = set()
    for stage in laid.stages:
        assert set(stage.needs) <= seen
        seen.add(stage.id)


def test_names_follow_the_published_or_the_nested_rule():
    settings = {**STUDY, "labels": {"label_fractions": [30], "subsets": "nested"}}
    assert train_name(settings, 30, 1) == "phantom_cxr_train_labeled_30_seed1"
    assert train_name(settings, 100, 1) == "phantom_cxr_train"
    settings = {**settings, "labels": {"subsets": "published"}, "data": {"name": "vindr_cxr"}}
    assert train_name(settings, 30, 1) == "vindr_cxr_train_labeled_30"
    pool = ["vindr_cxr_train_unlabeled", "vindr_cxr_negative_train"]
    assert pool_names(settings, {"pool": "all+negative"}, 30, 1) == pool
    assert pool_names(settings, {"pool": "all+negative", "pool_fraction": 100}, 30, 1) == pool
    cut = [f"{name}_pool_25_seed1" for name in pool]
    assert pool_names(settings, {"pool": "all+negative", "pool_fraction": 25}, 30, 1) == cut


def test_split_seeds_prepare_a_set_for_each_seed(tmp_path):
    stages = {stage.id: stage for stage in study(tmp_path, data={**STUDY["data"], "split_seeds": True}).stages}
    assert stages["prepare/phantom_cxr_split1"].settings["seed"] == 1
    assert stages["train/random/10/seed1"].settings["test"] == "phantom_cxr_split1_test"
    assert "prior_box/seed1" in stages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"color": "blue"}, "unknown key color"),
        ({"arms": {"a": {"config": CONFIG, "weights": "moco"}}}, "arms: a needs moco"),
        ({"arms": {"a": {"config": CONFIG, "options": {"SOLVER.MAX_ITER": 9}}}}, "arms differ only in"),
        ({"arms": {"a": {}}}, "arms: a: the key config is missing"),
        ({"evaluation": {"val_selected": True}}, "set shared_options: TEST.EVAL_PERIOD"),
        ({"labels": {"label_fractions": [15]}}, r"labels: label_fractions\[0\] is 15; give 10, 20"),
        ({"tuning": {**TUNING, "values": [0.1]}}, r"tuning: values is \[0.1\]; give a list of two"),
        (
            {"tuning": {**TUNING, "option": "SOLVER.MAX_ITER"}},
            "tuning: option is SOLVER.MAX_ITER; give one of SOLVER.BASE_LR",
        ),
        ({"tuning": {**TUNING, "label_fraction": 30}}, "30 is not among labels"),
        ({"tuning": {**TUNING, "seed": 9}}, "9 is not among seeds"),
        ({"tuning": {**TUNING, "trials": 3}}, "unknown key trials"),
        ({"tuning": TUNING, "arms": {"a": {"config": CONFIG, "options": {"SOLVER.BASE_LR": 1}}}}, "drop one"),
        ({"primary_endpoint": {"metrc": "AP50"}}, "primary_endpoint: unknown key metrc; did you mean metric"),
        ({"primary_endpoint": {"metric": "AP5O"}}, "primary_endpoint: metric is AP5O; give the name of a metric"),
        ({"primary_endpoint": {"reference": "radnom"}}, "radnom is not an arm; did you mean random"),
        (
            {"criterion": {"margin": 0.1, "classes": ["Nodule"]}},
            "Nodule is not a class of the set; did you mean Nodule/Mass",
        ),
        ({"evaluation": {"resample": 10}}, "evaluation: unknown key resample; did you mean resamples"),
        ({"data": {**STUDY["data"], "prepare": {"sise": 9}}}, "data: prepare: unknown key sise; did you mean size"),
        (
            {"data": {**STUDY["data"], "prepare": {"resize": "sqash"}}},
            "data: prepare: resize 'sqash' is not one of squash",
        ),
        ({"arms": {"a": {"config": CONFIG, "compute_matched": "simclt"}}}, "did you mean simclr"),
        ({"arms": {"a": {"config": CONFIG, "iterations": 9}}}, "only an arm with compute_matched may"),
        ({"labels": {"label_fractions": [10], "percent": [10]}}, "percent is the old name of label_fractions"),
        ({"resources": {"jobs": 0}}, "resources: jobs is 0; give a whole number from 1 to 1024"),
        ({"seeds": [0, 0]}, "seeds holds 0 twice"),
        (
            {"pretraining": {"simclr": {"config": CONFIG, "pool": "test"}}},
            "pretraining: simclr: pool is test; give one of complement, all",
        ),
        (
            {"pretraining": {"simclr": {"config": CONFIG, "pool_fractoin": 25}}},
            "pretraining: simclr: unknown key pool_fractoin; did you mean pool_fraction",
        ),
        (
            {"pretraining": {"simclr": {"config": CONFIG, "pool_fraction": 0}}},
            "pretraining: simclr: pool_fraction is 0; give a whole number from 1 to 100",
        ),
        (
            {"arms": {"a": {"config": CONFIG, "teacher": {"pool": "all", "pool_fraction": "25 %"}}}},
            "arms: a: teacher: pool_fraction is 25 %; give a whole number from 1 to 100, e.g. 25",
        ),
    ],
)
def test_a_wrong_study_file_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        study(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_keys_of_a_study_are_set_from_the_command_line(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    texts = ["seeds=[3]", "shared_options.SOLVER.MAX_ITER=7", "data.prepare.size=32", "data.patients=a=b.csv"]
    found = read_study(path, overrides=[*texts, "pretraining.simclr.options.optimizer.lr=0.1"]).settings
    assert found["seeds"] == [3]
    assert found["shared_options"] == {"SOLVER.MAX_ITER": 7}
    assert found["data"]["prepare"] == {"size": 32}
    assert found["data"]["patients"] == "a=b.csv"
    assert found["pretraining"]["simclr"]["options"] == {"optimizer.lr": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds", "is not KEY=VALUE"),
        ("seeds=0", "seeds is 0; give a list of whole numbers"),
        ("seeds.first=0", "has no keys"),
        ("seeds=[0", "no YAML"),
        ("data.dicomdir=images", "data: unknown key dicomdir"),
        ("color=blue", "unknown key color"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    with pytest.raises(ValueError, match=message) as error:
        read_study(path, overrides=[text])
    assert "\n" not in str(error.value)


def test_images_that_are_not_there_are_named_with_the_key(tmp_path):
    found = read_study(PROJECT / "open_images.yaml", overrides=[f"data.dicom_dir={tmp_path}"])
    with pytest.raises(FileNotFoundError, match=r"data\.annotations: there is no .*data\.annotations=PATH"):
        check_inputs(found.settings)


def test_open_images_pretrain_on_a_splits_training_images_and_on_those_without_annotations():
    stages = {stage.id: stage for stage in read_study(PROJECT / "open_images.yaml").stages}
    pool = ["open_opacity_split1_train_unlabeled", "open_opacity_split1_unlabeled"]
    assert stages["pretrain/simclr/seed1"].settings["pool"] == pool
    assert stages["train/random_longer/30/seed1"].settings["arm_kinds"]["compute_matched"]["pool"] == pool


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"configs/none\.yaml"):
        study(tmp_path, arms={"random": {"config": "configs/none.yaml"}})


@pytest.mark.parametrize("name", sorted(path.name for path in PROJECT.glob("*.yaml")))
def test_every_study_of_the_project_can_be_laid_out(name):
    found = read_study(PROJECT / name)
    reference = found.settings["primary_endpoint"]["reference"]
    assert reference in found.settings["arms"]
    assert set(found.settings["primary_endpoint"].get("controls", [])) <= set(found.settings["arms"])


def test_the_assay_has_both_controls_and_five_seeds():
    stages = {stage.id: stage for stage in read_study(PROJECT / "phantoms.yaml").stages}
    assert len([key for key in stages if key.startswith("train/")]) == (5 * 3 + 4) * 5
    both = stages["train/simclr+teacher/30/seed1"]
    assert both.settings["weights"] == "weights/simclr_seed1.pth" and "convert/simclr/seed1" in both.needs
    pool = ["phantom_cxr_split1_train_unlabeled", "phantom_cxr_split1_negative_train"]
    assert both.settings["arm_kinds"] == {"teacher": {"CXR.TEACHER.POOL": pool}}
    longest = stages["train/random_longest/10/seed1"].settings["arm_kinds"]["compute_matched"]
    assert longest["pool"] == pool and longest["teacher"] == {}
    assert stages["pretrain/supervised/seed4"].settings["truth"] == "phantoms/truth.json"
    assert (
        stages["train/random_longer/10/seed0"].settings["arm_kinds"]["compute_matched"]["pool"][0]
        == "phantom_cxr_split0_train_unlabeled"
    )


def test_the_papers_rows_are_ten():
    trains = [stage for stage in read_study(PROJECT / "study_paper.yaml").stages if stage.kind == "train"]
    assert len(trains) == 10
    ssl_40 = next(stage for stage in trains if stage.id == "train/ssl/60/seed0")
    assert ssl_40.settings["train"] == "vindr_cxr_train_labeled_60"


def test_the_old_spellings_of_a_study_file_are_read(tmp_path):
    old = {key: value for key, value in STUDY.items() if key not in ("shared_options", "labels")}
    old |= {"same_ground": STUDY["shared_options"], "labels": {"percent": [10, 100], "fractions": "nested"}}
    old["arms"] = {**STUDY["arms"], "random_longer": {"config": CONFIG, "longer": "simclr", "percent": [10]}}
    old["endpoint"] = {"metric": "AP50"}
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(old))
    settings = read_study(path, overrides=["same_ground.SOLVER.MAX_ITER=7", "labels.percent=[10]"]).settings
    assert settings["shared_options"] == {"SOLVER.MAX_ITER": 7}
    assert settings["labels"] == {"label_fractions": [10], "subsets": "nested"}
    assert settings["arms"]["random_longer"] == {"config": CONFIG, "compute_matched": "simclr", "label_fractions": [10]}
    assert settings["primary_endpoint"] == {"metric": "AP50"}


def test_an_arm_with_a_teacher_names_its_pool_and_its_control(tmp_path):
    arms = {"random": {"config": CONFIG}, "matched": {"config": CONFIG, "compute_matched": "shuffled"}}
    arms["shuffled"] = {"config": CONFIG, "teacher": {"pool": "all", "control": "shuffled", "options": {"RATIO": 0.5}}}
    stages = {stage.id: stage for stage in study(tmp_path, arms=arms).stages}
    kinds = stages["train/shuffled/10/seed1"].settings["arm_kinds"]
    options = {"CXR.TEACHER.RATIO": 0.5, "CXR.TEACHER.CONTROL": "shuffled"}
    assert kinds == {"teacher": options | {"CXR.TEACHER.POOL": ["phantom_cxr_train_unlabeled"]}}
    matched = stages["train/matched/10/seed1"].settings["arm_kinds"]["compute_matched"]
    assert matched == {"iterations": None, "teacher": options}


def test_a_smaller_pool_is_a_name_in_pretraining_teacher_and_what_matches_them(tmp_path):
    pretraining = {"simclr_25": {"config": CONFIG, "pool": "all+negative", "pool_fraction": 25}}
    arms = {"random": {"config": CONFIG}, "matched": {"config": CONFIG, "compute_matched": "both"}}
    arms["both"] = {"config": CONFIG, "weights": "simclr_25", "teacher": {"pool": "all", "pool_fraction": 50}}
    laid = study(tmp_path, pretraining=pretraining, arms=arms)
    stages = {stage.id: stage for stage in laid.stages}
    pool = ["phantom_cxr_train_unlabeled_pool_25_seed1", "phantom_cxr_negative_train_pool_25_seed1"]
    assert stages["pretrain/simclr_25/seed1"].settings["pool"] == pool
    teacher = stages["train/both/10/seed1"].settings["arm_kinds"]["teacher"]
    assert teacher == {"CXR.TEACHER.POOL": ["phantom_cxr_train_unlabeled_pool_50_seed1"]}
    matched = stages["train/matched/10/seed1"].settings["arm_kinds"]["compute_matched"]
    assert matched["pool"] == pool and matched["teacher"] == {}  # its compute is both together
    assert pools.pool_lines(laid) == [
        "  pool of pretraining simclr_25: 25 % of all+negative; images are counted once they are prepared",
        "  pool of arm both: 50 % of all; images are counted once they are prepared",
    ]


def test_the_plan_counts_the_images_of_a_pool_and_leaves_out_a_teachers_labeled_ones(tmp_path, tiny_set):
    pretraining = {"simclr": {"config": CONFIG, "pool": "all"}}
    pretraining["simclr_50"] = pretraining["simclr"] | {"pool_fraction": 50}
    arms = {"teacher": {"config": CONFIG, "teacher": {"pool": "all+negative"}}}
    arms |= {name: {"config": CONFIG, "weights": name} for name in pretraining}
    data = {"name": "tiny_cxr", "root": str(tiny_set)}
    laid = study(tmp_path, pretraining=pretraining, arms=arms, data=data, labels={"label_fractions": [50]})
    assert pools.pool_lines(laid) == [
        "  pool of pretraining simclr: all; 12 images",
        "  pool of pretraining simclr_50: 50 % of all; 6 images",
        "  pool of arm teacher: all+negative; 12 images",  # 12 training images, 6 of them labeled, and 6 negative ones
    ]
