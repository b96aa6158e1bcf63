"""Teacher-student training on the tiny set: half of its images are labeled, the rest and the negatives are the pool."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, leakage
from d2_cxr.engine import hooks, teacher, trainer

POOL = "['tiny_cxr_train_unlabeled_50_seed1', 'tiny_cxr_negative_train']"
TEACHER = ["DATASETS.TRAIN", "('tiny_cxr_train_labeled_50_seed1',)", "CXR.TEACHER.POOL", POOL]
TEACHER += ["CXR.TEACHER.THRESHOLDS", "[0.06]", "CXR.VAL_AT_END", "False", "CXR.TEACHER.EMA", "0.5"]
SHORT = ["SOLVER.MAX_ITER", "5", "CXR.TEACHER.BURN_IN", "0.4", "DATASETS.TEST", "()"]


def content_of(folder, name="model_final"):
    return torch.load(Path(folder) / f"{name}.pth", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics_of(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]


class Killed(BaseException):
    """What a kill is to the loop."""


def killed_after(monkeypatch, iterations):
    original = hooks.Checkpoints.after_step

    def after_step(self):
        original(self)
        if self.trainer.iter + 1 == iterations:
            raise Killed

    monkeypatch.setattr(hooks.Checkpoints, "after_step", after_step)


@pytest.mark.parametrize("killed_at", [1, 3])  # in the burn-in and behind it
@pytest.mark.parametrize("thresholds", ["[0.06]", "[]"])
def test_a_resumed_run_equals_the_uninterrupted_one(tiny_cfg, trained_once, monkeypatch, killed_at, thresholds):
    opts = [*TEACHER, *SHORT, "CXR.TEACHER.THRESHOLDS", thresholds]
    whole, parts = trained_once(*opts), tiny_cfg(*opts, output="parts")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, killed_at)
        trainer.train(tiny_cfg(*opts, "SOLVER.CHECKPOINT_PERIOD", str(killed_at), output="parts"))
    trainer.train(parts, resume=True)
    a, b = content_of(whole.OUTPUT_DIR), content_of(parts.OUTPUT_DIR)
    student = [content["trainer"]["hooks"]["Teaching"]["student"] for content in (a, b)]
    assert same(a["model"], b["model"]) and same(*student)
    assert not same(a["model"], student[0])  # the teacher is saved, not the student
    records = [artifacts.read_json(Path(cfg.OUTPUT_DIR) / "teacher.json") for cfg in (whole, parts)]
    assert records[0] == records[1] and len(records[0]["history"]) == 3


def test_a_pool_of_weight_0_changes_nothing_for_the_student(tiny_cfg):
    """The student's BatchNorm statistics included: the pool's strong views are not among them."""
    opts = [*TEACHER, *SHORT]
    plain = tiny_cfg(*opts, "CXR.TEACHER.POOL", "[]", output="plain")
    weightless = tiny_cfg(*opts, "CXR.TEACHER.WEIGHT", "0.0", output="weightless")
    for cfg in (plain, weightless):
        trainer.train(cfg)
    student = content_of(weightless.OUTPUT_DIR)["trainer"]["hooks"]["Teaching"]["student"]
    assert same(content_of(plain.OUTPUT_DIR)["model"], student)
    assert not (Path(plain.OUTPUT_DIR) / "teacher.json").exists()


def copied_set(tiny_set, root, change):
    """Register a copy of the tiny set as `copy_cxr`, changed by `change(folder)`."""
    shutil.copytree(tiny_set, root / "copy_cxr")
    change(root / "copy_cxr")
    values = artifacts.read_json(root / "copy_cxr" / "dataset.json")
    kept = {key: value for key, value in values.items() if not key.endswith("_fingerprint")}  # of the original
    artifacts.write_json(root / "copy_cxr" / "dataset.json", kept)
    builtin.register_prepared("copy_cxr", root / "copy_cxr")
    return [opt.replace("tiny_cxr", "copy_cxr") for opt in TEACHER] + [
        *("CXR.DATASETS", f"[['copy_cxr', '{root / 'copy_cxr'}']]"),
    ]


def test_the_truth_of_the_pool_is_never_learned_from(tiny_cfg, trained_once, tiny_set, tmp_path):
    labeled = {image["image_id"] for image in trainer_images("tiny_cxr_train_labeled_50_seed1")}

    def forge(folder):
        path = folder / "annotations" / "stratified" / "train.json"
        coco = artifacts.read_json(path)
        for box in coco["annotations"]:
            if box["image_id"] not in labeled:
                box["category_id"], box["bbox"] = 3 - box["category_id"], [1, 1, 9, 9]
        artifacts.write_json(path, coco)

    forged = tiny_cfg(*copied_set(tiny_set, tmp_path, forge), *SHORT, output="forged")
    honest = trained_once(*TEACHER, *SHORT)
    trainer.train(forged)
    assert same(content_of(honest.OUTPUT_DIR)["model"], content_of(forged.OUTPUT_DIR)["model"])
    measured = [
        artifacts.read_json(Path(cfg.OUTPUT_DIR) / "teacher.json")["history"][-1]["measured"]
        for cfg in (honest, forged)
    ]
    assert measured[0]["lesions"] == measured[1]["lesions"] > 0  # the evaluator has read it, though


def trainer_images(name):
    from detectron2.data import DatasetCatalog

    return DatasetCatalog.get(name)


@pytest.mark.parametrize("held_out", ["test", "val", "negative_test"])
def test_a_test_image_planted_in_the_pool_is_refused(tiny_cfg, tiny_set, tmp_path, held_out):
    """As another image's copy: same pixels, another name."""
    unlabeled = Path(trainer_images("tiny_cxr_train_unlabeled_50_seed1")[0]["file_name"]).stem
    planted = artifacts.read_json(tiny_set / "annotations" / "stratified" / f"{held_out}.json")["images"][0]
    planted = Path(planted["file_name"]).stem

    def plant(folder):
        rows = artifacts.read_csv(folder / "manifest.csv")
        hashes = {row["image_name"]: row for row in rows}
        hashes[unlabeled]["image_sha256"] = hashes[planted]["image_sha256"]
        artifacts.write_csv(folder / "manifest.csv", rows, list(rows[0]))

    with pytest.raises(leakage.LeakageError, match=rf"{unlabeled} is the same pixels as {planted} of copy_cxr"):
        trainer.train(tiny_cfg(*copied_set(tiny_set, tmp_path, plant), *SHORT))


@pytest.mark.parametrize(
    "pool, message",
    [
        ("tiny_cxr_val", "tiny_cxr_val is held out"),
        ("tiny_cxr_negative_test", "tiny_cxr_negative_test is held out"),
        ("tiny_cxr_train", "tiny_cxr_train has labels; give NAME_train_unlabeled"),
        ("tiny_cxr_train_labeled_40_seed1", "has labels"),
        ("nowhere_train_unlabeled", "no data set 'nowhere_train_unlabeled'"),
    ],
)
def test_names_that_are_no_pool_are_refused(tiny_cfg, pool, message):
    with pytest.raises(ValueError, match=rf"CXR\.TEACHER\.POOL.*{message}"):
        tiny_cfg("CXR.TEACHER.POOL", f"['{pool}']")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("CONTROL", "mixed", "CONTROL is 'mixed'; it can be '', shuffled or labeled"),
        ("BURN_IN", "1.0", "BURN_IN is 1.0, a fraction of the iterations"),
        ("EMA", "1.0", "EMA is 1.0; give 0 or more"),
        ("UNCERTAIN", "1.5", "UNCERTAIN is 1.5; give a score from 0 to 1"),
        ("RATIO", "0.0", "RATIO is 0.0; give a number above 0"),
        ("THRESHOLDS", "[0.1, 0.2, 0.3]", "THRESHOLDS has 3 values; give 0, 1 or 2"),
    ],
)
def test_keys_out_of_range_are_refused(tiny_cfg, key, value, message):
    with pytest.raises(ValueError, match=rf"CXR\.TEACHER\.{message}"):
        tiny_cfg(*TEACHER, f"CXR.TEACHER.{key}", value)


def test_another_preparation_is_refused(tiny_cfg, tiny_set, tmp_path):
    def prepare_anew(folder):
        values = artifacts.read_json(folder / "dataset.json")
        values["preprocess"]["equalize"] = "none"
        artifacts.write_json(folder / "dataset.json", values)

    copied_set(tiny_set, tmp_path, prepare_anew)
    sets = f"[['tiny_cxr', '{tiny_set}'], ['copy_cxr', '{tmp_path / 'copy_cxr'}']]"
    with pytest.raises(ValueError, match="copy_cxr_train_unlabeled was prepared as"):
        tiny_cfg("CXR.DATASETS", sets, "CXR.TEACHER.POOL", "['copy_cxr_train_unlabeled']")


def test_the_weights_list_the_images_of_the_pool(trained_once):
    cfg = trained_once(*TEACHER, *SHORT)
    assert content_of(cfg.OUTPUT_DIR)["images"].shape == (6 + 6 + 6, 16)  # labeled, their complement, negative
    shown = artifacts.read_json(Path(cfg.OUTPUT_DIR) / "run.json")["preview"]["teacher"]
    assert (shown["pool_images"], shown["burn_in"]) == (12, 2)
    last = metrics_of(cfg.OUTPUT_DIR)[-1]
    assert "loss_cls_pseudo" in last and "loss_box_reg_pseudo" not in last


class Stub(nn.Module):
    """A model that finds what it is given, and whose losses say what it was asked to learn."""

    def __init__(self, found=()):
        super().__init__()
        self.weight, self.found, self.batches = nn.Parameter(torch.ones(1)), list(found), []

    def forward(self, batch):
        self.batches.append(batch)
        return {name: self.weight.sum() for name in ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")}

    def inference(self, batch, do_postprocess):
        assert not self.training and not do_postprocess
        return self.found[: len(batch)]


def found_boxes(*rows):
    """(class, score) -> what a detector finds; the box's left edge is ten times the class."""
    boxes = torch.tensor([[10.0 * index, 0, 10.0 * index + 5, 5] for index, _ in rows]).reshape(-1, 4)
    classes, scores = torch.tensor([index for index, _ in rows]).long(), torch.tensor([score for _, score in rows])
    return Instances((64, 64), pred_boxes=Boxes(boxes), pred_classes=classes, scores=scores)


def pool_sample(number):
    image = torch.full((3, 64, 64), number, dtype=torch.uint8)
    return {"image": image, "strong": image + 100, "instances": Instances((64, 64), gt_classes=torch.tensor([number]))}


def stepped(tiny_cfg, found=(), **keys):
    opts = [part for key, value in keys.items() for part in (f"CXR.TEACHER.{key}", str(value))]
    cfg = tiny_cfg(*TEACHER, "CXR.TEACHER.THRESHOLDS", "[0.5, 0.9]", *opts)
    return teacher.TeacherStudent(cfg.CXR.TEACHER, Stub(found), 2)


def test_a_box_counts_above_the_threshold_of_its_class(tiny_cfg):
    both = stepped(tiny_cfg)
    stub = Stub([found_boxes((0, 0.51), (1, 0.51), (1, 0.95), (0, 0.4))])
    (kept,) = teacher.pseudo_boxes(stub, [pool_sample(1)], both.thresholds)
    assert kept.gt_classes.tolist() == [0, 1] and kept.gt_boxes.tensor[:, 0].tolist() == [0, 10]
    assert stub.training  # as it was


def test_the_student_learns_strong_views_with_the_teachers_boxes(tiny_cfg):
    both = stepped(tiny_cfg, [found_boxes((0, 0.8)), found_boxes((1, 0.95))], WEIGHT=2.0)
    losses = both([{"image": None}, pool_sample(1), pool_sample(2)])
    labeled, pseudo = both.student.batches
    assert len(labeled) == 1 and [int(view["image"].max()) for view in pseudo] == [101, 102]
    assert [view["instances"].gt_classes.tolist() for view in pseudo] == [[0], [1]]
    assert {name: value.item() for name, value in losses.items()} == {
        **dict.fromkeys(("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"), 1.0),
        **dict.fromkeys(("loss_rpn_cls_pseudo", "loss_cls_pseudo"), 2.0),  # boxes are not regressed to
    }


def test_uncertain_boxes_are_neither_their_class_nor_counted(tiny_cfg):
    """Thresholds .5 and .9: the second disc and the square are uncertain, the last disc is background."""
    found = [found_boxes((0, 0.8), (0, 0.4), (1, 0.6), (0, 0.1))]
    both = stepped(tiny_cfg, found, UNCERTAIN=0.2)
    both([{"image": None}, pool_sample(1)])
    assert both.student.batches[1][0]["instances"].gt_classes.tolist() == [0, -1, -1]
    assert [boxes.gt_classes.tolist() for boxes in both.pseudo] == [[0]]
    without = stepped(tiny_cfg, found, UNCERTAIN=1.0)
    without([{"image": None}, pool_sample(1)])
    assert without.student.batches[1][0]["instances"].gt_classes.tolist() == [0]


def test_detectron2_leaves_regions_on_uncertain_boxes_out_of_the_classification(tiny_cfg):
    """Three proposals: on a disc, on an uncertain box, on nothing."""
    heads = build_model(tiny_cfg()).roi_heads
    places = torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60], [0, 40, 20, 60]])
    proposals = Instances((64, 64), proposal_boxes=Boxes(places), objectness_logits=torch.zeros(3))
    truth = Instances((64, 64), gt_boxes=Boxes(places[:2]), gt_classes=torch.tensor([0, teacher.IGNORED]))
    with EventStorage():
        (sampled,) = heads.label_and_sample_proposals([proposals], [truth])
    lefts = {tuple(box) for box in sampled.proposal_boxes.tensor[:, :2].tolist()}
    assert lefts == {(0, 0), (0, 40)} and set(sampled.gt_classes.tolist()) == {0, 2}  # a disc and background


def test_shuffled_boxes_are_those_of_other_images(tiny_cfg):
    found = [found_boxes((0, 0.8)), found_boxes((1, 0.95)), found_boxes()]
    both = stepped(tiny_cfg, found, CONTROL="shuffled")
    both([{"image": None}, *map(pool_sample, (1, 2, 3))])
    assert [view["instances"].gt_classes.tolist() for view in both.student.batches[1]] == [[1], [], [0]]


def test_the_control_without_unlabeled_images_learns_their_own_boxes(tiny_cfg):
    both = stepped(tiny_cfg, CONTROL="labeled")  # a teacher that finds nothing
    both([{"image": None}, pool_sample(1), pool_sample(2)])
    assert [int(view["instances"].gt_classes) for view in both.student.batches[1]] == [1, 2]


def test_the_teacher_is_the_moving_average_of_the_student():
    ours, theirs = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    ours.weight.data.fill_(1.0)
    theirs.weight.data.fill_(2.0)
    theirs.running_mean.fill_(4.0)
    theirs.num_batches_tracked.fill_(7)
    teacher.follow(ours, theirs, keep=0.75)
    assert (float(ours.weight), float(ours.running_mean), int(ours.num_batches_tracked)) == (1.25, 1.0, 7)


def test_the_teachers_memory_grows_with_the_run_up_to_a_limit():
    assert teacher.keep_rate(0, 0.9996) == 0.1 and teacher.keep_rate(89, 0.9996) == pytest.approx(90 / 99)
    assert teacher.keep_rate(10**6, 0.9996) == 0.9996


@pytest.mark.parametrize("control", ["shuffled", "labeled"])
def test_controls_train(tiny_cfg, control):
    cfg = tiny_cfg(*TEACHER, *SHORT, "CXR.TEACHER.CONTROL", control)
    trainer.train(cfg)
    record = artifacts.read_json(Path(cfg.OUTPUT_DIR) / "teacher.json")
    assert record["control"] == control and ("measured" in record["history"][0]) == (control == "shuffled")
