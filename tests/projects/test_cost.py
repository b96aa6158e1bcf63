"""What a study costs: timed steps before the first training, finished stages after it."""

from concurrent.futures import Future

import pytest
from d2_cxr.projects.label_efficiency import cost
from d2_cxr.projects.label_efficiency.plan import Stage, Study
from d2_cxr.projects.label_efficiency.study_state import StudyState

SETTINGS = {"config": "configs/quick_schedules/demo_R_18.yaml", "options": {}, "label_fraction": 100, "arm": "a"}


class Workers:
    """Answers every timing at once and counts them."""

    def __init__(self):
        self.asked = 0

    def submit(self, function, *arguments) -> Future:
        self.asked += 1
        future: Future = Future()
        future.set_result({"detector_image": 0.1, "max_iter": 100, "batch": 4})
        return future


@pytest.fixture
def study(tmp_path) -> Study:
    stages = tuple(Stage(f"train/{name}", "train", SETTINGS | {"arm": name}, name, (name,)) for name in ("a", "b"))
    settings = {"study": "s", "data": {"name": "x", "phantoms": {"num_images": 10}}, "arms": {"a": {}, "b": {}}}
    settings |= {"labels": {"label_fractions": [100]}, "seeds": [0]}
    return Study(tmp_path / "s.yaml", tmp_path, settings, stages)


def test_before_the_first_training_steps_are_timed(study):
    costs = cost.estimate(study, StudyState(study), Workers())
    assert costs["train/a"] == pytest.approx(12 + 1.3 * 100 * 4 * 0.1)  # imports, then images x seconds


def test_after_the_first_training_its_seconds_are_the_estimate_and_nothing_is_timed(study):
    state, workers = StudyState(study), Workers()
    state.start(study.stages[0])
    (study.output / "a").write_text("done")
    state.finish(study.stages[0], {}, 77.0)
    assert cost.estimate(study, state, workers) == {"train/b": 77.0}
    assert workers.asked == 0


def test_a_compute_matched_arm_is_counted_longer():
    timing = cost.Timing(10, detector_image=0.1, max_iter=100, batch=4)
    plain = cost.train(SETTINGS, timing)
    longer = cost.train(SETTINGS | {"arm_kinds": {"compute_matched": {"iterations": None}}}, timing)
    assert longer - 12 == pytest.approx(2 * (plain - 12))


@pytest.mark.parametrize(
    ("seconds", "words"), [(30, "30 s"), (600, "10 min"), (7200, "2.0 h"), (86400 * 3319.9, "3319.9 days")]
)
def test_a_duration_has_the_unit_that_a_person_would_use(seconds, words):
    assert cost.duration(seconds) == words


def test_a_plan_of_days_names_what_makes_it_cheaper(study):
    assert "cheaper: seeds=[0,1,2]" in cost.describe(study, {"train/a": 86400.0 * 30}, 1, 1)
    assert "cheaper" not in cost.describe(study, {"train/a": 60.0}, 1, 1)


def test_a_plan_made_on_a_busy_machine_says_so(study, monkeypatch):
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(cost.os, "getloadavg", lambda: (6.44, 1.0, 1.0))
    assert "other programs are running (load 6.4 on 2 cores): on a quiet machine it takes less" in cost.describe(
        study, {"train/a": 60.0}, 1, 1
    )
    monkeypatch.setattr(cost.os, "getloadavg", lambda: (2.5, 9.0, 9.0))  # this minute's
    assert "other programs" not in cost.describe(study, {"train/a": 60.0}, 1, 1)


def test_one_label_fraction_is_singular(study):
    assert "1 label fraction: the report cannot say" in cost.describe(study, {"train/a": 60.0}, 1, 1)


def test_a_view_of_a_network_of_timm_is_timed():
    pytest.importorskip("timm")
    settings = {"config": "configs/pretraining/simclr_effnet_lite0.yaml", "options": {"image_size": 32}}
    assert 0 < cost._time_view(settings) < 10
