"""What arms train for, counted by hand."""

import pytest
from d2_cxr.projects.label_efficiency import arms

STAGE = {"config": "configs/quick_schedules/demo_R_18.yaml", "options": {"SOLVER.MAX_ITER": 600}}
STAGE["options"] |= {"SOLVER.IMS_PER_BATCH": 8, "INPUT.MIN_SIZE_TRAIN": [128]}


def test_a_compute_matched_arm_trains_for_the_pixels_of_the_pretraining(monkeypatch):
    monkeypatch.setattr(arms, "_views", lambda plan: (24_000, 64))
    # 24,000 x 64^2 pixels of views are 750 steps of 8 x 128^2
    assert arms.compute_matched_iterations({"iterations": None, "pool": ["a_unlabeled"]}, STAGE) == 600 + 750


def test_an_arm_that_matches_a_teacher_trains_for_its_forward_and_backward_passes():
    teacher = {"CXR.TEACHER.RATIO": 0.5, "CXR.TEACHER.BURN_IN": 0.25}
    # from a quarter of the steps on: half as many images once more, and a third of that for the teacher
    assert arms.compute_matched_iterations({"iterations": None, "teacher": teacher}, STAGE) == 600 + 300


def test_an_arm_that_matches_pretraining_and_teacher_trains_for_both(monkeypatch):
    monkeypatch.setattr(arms, "_views", lambda plan: (24_000, 64))
    teacher = {"CXR.TEACHER.RATIO": 0.5, "CXR.TEACHER.BURN_IN": 0.25}
    plan = {"iterations": None, "teacher": teacher, "pool": ["a_train_unlabeled"]}
    assert arms.compute_matched_iterations(plan, STAGE) == 600 + 750 + 300


def test_stated_iterations_are_taken_as_they_are():
    assert arms.compute_matched_iterations({"iterations": 77}, STAGE) == 77


@pytest.mark.parametrize("kind", sorted(arms.ARM_KINDS))
def test_every_kind_of_arm_says_what_it_adds_and_what_it_costs(kind):
    assert arms.ARM_KINDS[kind].work({}) >= 1
