import shutil

import pytest
import torch

from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine.build_loaders import training_images
from d2_cxr.engine.config import load_config, register_datasets, set_num_classes, setup
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.set_checks import check_sets


def test_the_number_of_classes_comes_from_the_set(tiny_cfg):
    assert tiny_cfg().MODEL.ROI_HEADS.NUM_CLASSES == 2


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "CXR.AMP",
            False,
            "CXR.AMP is False; it must be text, such as off\\. YAML reads off, on, yes and no as true or",
        ),
        ("SOLVER.MAX_ITER", "many", "SOLVER.MAX_ITER is many; it must be a whole number, such as 40000"),
        ("SOLVER.STEPS", 3, r"SOLVER.STEPS is 3; it must be a list, such as \(30000,\)"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_plain_words(key, value, said):
    with pytest.raises(ValueError, match=f"^options: {said}"):
        load_config("", [key, value])


def test_a_contradicting_number_of_classes_is_refused(tiny_cfg):
    with pytest.raises(ValueError, match="NUM_CLASSES is 14, but tiny_cxr_train has 2 classes; leave the key out"):
        tiny_cfg("MODEL.ROI_HEADS.NUM_CLASSES", "14")


def test_sets_with_other_classes_are_refused(tiny_cfg):
    cfg = tiny_cfg()
    cfg.DATASETS.TEST = ("vindr_cxr_test",)
    with pytest.raises(ValueError, match="vindr_cxr_test has the classes"):
        set_num_classes(cfg)


@pytest.mark.parametrize(
    "name, part, other",
    [
        ("vindr_cxr_train", "val", "vindr_cxr_val"),
        ("vindr_cxr_train_labeled_30", "negative_train", "vindr_cxr_negative_train"),
        ("vindr_cxr_stratified_train_labeled_30_seed1", "negative_val", "vindr_cxr_stratified_negative_val"),
        ("phantom_cxr_train_labeled_10_seed0", "test", "phantom_cxr_test"),
    ],
)
def test_the_other_parts_of_a_split_are_found_by_name(name, part, other):
    assert named_set(name).sibling(part).name == other


def test_negative_images_stand_beside_test_and_val_only(tiny_set):
    assert named_set("tiny_cxr_test").negatives().name == "tiny_cxr_negative_test"
    assert named_set("tiny_cxr_val").negatives().name == "tiny_cxr_negative_val"
    assert named_set("tiny_cxr_train").negatives() is None


@pytest.mark.parametrize(
    "name, message",
    [
        ("tiny_cxr_tain", "no data set 'tiny_cxr_tain'"),
        ("tiny_cxr_negative_train", "tiny_cxr_negative_train has no boxes"),
        ("tiny_cxr_train_unlabeled", "tiny_cxr_train_unlabeled has no boxes"),
        ("tiny_cxr_test", "tiny_cxr_test is not a training set"),
    ],
)
def test_names_that_are_not_for_training_are_refused(tiny_cfg, name, message):
    with pytest.raises(ValueError, match=message):
        tiny_cfg("DATASETS.TRAIN", f"('{name}',)")


def test_iterations_on_the_command_line_take_over_from_epochs():
    cfg = load_config("configs/Base-Faster-RCNN-FPN.yaml", ["SOLVER.MAX_ITER", "50"])
    assert (cfg.CXR.EPOCHS, cfg.SOLVER.MAX_ITER) == (0, 50)
    with pytest.raises(ValueError, match="both set the length"):
        load_config("configs/Base-Faster-RCNN-FPN.yaml", ["SOLVER.MAX_ITER", "50", "CXR.EPOCHS", "3"])


def test_wrong_configs_are_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"configuration nowhere\.yaml does not exist"):
        load_config("nowhere.yaml")
    with pytest.raises(ValueError, match=r"options: Non-existent key: SOLVER\.LEARNING_RATE"):
        load_config("", ["SOLVER.LEARNING_RATE", "1"])
    with pytest.raises(ValueError, match="'SOLVER' has no value"):
        load_config("", ["SOLVER"])
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text("OUTPUT_DIR: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError) as error:
        load_config(tagged)
    assert "tagged.yaml" in str(error.value) and "\n" not in str(error.value)


def test_an_unprepared_set_is_refused_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset\.json is missing .*prepare_vindr_cxr\.py"):
        setup("", ["CXR.DATASETS", f"[['absent', '{tmp_path}']]", "DATASETS.TRAIN", "('absent_train',)"])


def test_datasets_need_a_name_and_a_folder():
    with pytest.raises(ValueError, match="give \\[\\[name, folder"):
        register_datasets([["alone"]])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: what is refused without one cannot be seen")
@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SOLVER.AMP.ENABLED", "True", r"needs a GPU; on the CPU use CXR\.AMP bf16"),
        ("MODEL.RESNETS.NORM", "SyncBN", "SyncBN has no CPU implementation"),
        ("TEST.PRECISE_BN.ENABLED", "True", "PRECISE_BN is not supported"),
    ],
)
def test_what_a_cpu_can_not_do_is_refused(tiny_cfg, key, value, message):
    with pytest.raises(ValueError, match=message):
        tiny_cfg(key, value)


def test_the_best_weights_need_a_validation_that_chooses_them(tiny_cfg):
    with pytest.raises(ValueError, match="TEST_WEIGHTS is 'Best'; it can be last or best"):
        tiny_cfg("CXR.TEST_WEIGHTS", "Best")
    with pytest.raises(ValueError, match=r"chosen on validation; set TEST\.EVAL_PERIOD above 0"):
        tiny_cfg("CXR.TEST_WEIGHTS", "best", "TEST.EVAL_PERIOD", "0")


def test_images_that_are_missing_stop_a_run_before_its_first_step(tiny_set, tiny_cfg, tmp_path, forget_fingerprints):
    shutil.copytree(tiny_set, tmp_path / "gap")
    names = ["CXR.DATASETS", f"[['gap_cxr', '{tmp_path / 'gap'}']]"]
    names += ["DATASETS.TRAIN", "('gap_cxr_train',)", "DATASETS.TEST", "('gap_cxr_test',)"]
    cfg = tiny_cfg(*names)
    assert len(training_images(cfg, RunSets.of(cfg)).findings) == 12
    (tmp_path / "gap/images/image017.png").unlink()  # 12 for training, 4 for validation, then the test images
    with pytest.raises(FileNotFoundError, match=r"1 prepared image is missing, first: .*image017\.png; prepare"):
        check_sets(RunSets.of(cfg), 0)
    (tmp_path / "gap/annotations/stratified/test.json").unlink()
    with pytest.raises(ValueError, match=r"gap/annotations: the files are not those that the set was prepared with"):
        training_images(cfg, RunSets.of(cfg))
    forget_fingerprints(tmp_path / "gap")
    with pytest.raises(FileNotFoundError, match=r"data set gap_cxr_test: .*test\.json is missing"):
        check_sets(RunSets.of(cfg), 0)


@pytest.mark.parametrize(
    "opts, names",
    [
        (["DATASETS.TRAIN", "clinic_train"], ("clinic_train",)),
        (["DATASETS.TRAIN=clinic_train"], ("clinic_train",)),
        (["DATASETS.TRAIN", "a_train, b_train"], ("a_train", "b_train")),
        (["DATASETS.TRAIN", "a_train,"], ("a_train",)),
        (["DATASETS.TRAIN", "('a_train',)"], ("a_train",)),
        (["DATASETS.TRAIN", "()"], ()),
    ],
)
def test_data_set_names_need_no_quotes(opts, names):
    assert names == load_config("", opts).DATASETS.TRAIN


def test_the_names_of_a_pool_need_no_quotes_either():
    assert load_config("", ["CXR.TEACHER.POOL", "clinic_unlabeled"]).CXR.TEACHER.POOL == ["clinic_unlabeled"]


@pytest.mark.parametrize(
    "key, meant",
    [
        ("SOLVER.BASE_RL", "SOLVER.BASE_LR"),
        ("solver.max_iter", "SOLVER.MAX_ITER"),
        ("CXR.EPOCS", "CXR.EPOCHS"),
        ("CXR.MAX_ITER", "SOLVER.MAX_ITER"),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(key, meant):
    with pytest.raises(ValueError, match=rf"{key}.*; did you mean {meant}\?"):
        load_config("", [key, "1"])


def test_an_unknown_key_or_section_of_a_file_is_answered_too(tmp_path):
    for text, meant in (("SOLVER:\n  BASE_RL: 1\n", "SOLVER.BASE_LR"), ("SOLVR:\n  BASE_LR: 1\n", "SOLVER")):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ValueError, match=rf"a\.yaml: .*; did you mean {meant}\?"):
            load_config(tmp_path / "a.yaml")


def test_a_key_of_an_earlier_version_is_named_with_its_new_name():
    with pytest.raises(ValueError, match=r"CXR\.NORMAL_RATIO was renamed to CXR\.NEGATIVE_RATIO"):
        load_config("", ["CXR.NORMAL_RATIO", "0.5"])


def test_a_key_like_no_other_gets_no_advice():
    with pytest.raises(ValueError, match="QQQ") as error:
        load_config("", ["QQQ.ZZZ", "1"])
    assert "did you mean" not in str(error.value)
