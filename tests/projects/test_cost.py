"""What a study costs: when a step is timed, and when again."""

from concurrent.futures import Future

import pytest
from d2_cxr.projects.label_efficiency import cost
from d2_cxr.projects.label_efficiency.plan import Stage, Study


class Workers:
    """Answers every timing at once and counts them."""

    def __init__(self):
        self.asked = 0

    def submit(self, function, *arguments) -> Future:
        self.asked += 1
        future: Future = Future()
        future.set_result({"detector_step": 0.1 * self.asked, "pretrain_view": 0.01})
        return future


def a_study(output, **options) -> Study:
    settings = {"config": "configs/quick_schedules/demo_R_18.yaml", "options": options}
    return Study(output / "s.yaml", output, {"study": "s"}, (Stage("train/a", "train", settings, "a", ("a",)),))


def test_a_restart_takes_the_timing_that_is_there(tmp_path):
    workers = Workers()
    first = cost._timing(a_study(tmp_path), workers, 1)
    assert cost._timing(a_study(tmp_path), workers, 1) == first
    assert workers.asked == 1


def test_a_step_is_timed_again_when_another_one_is_asked_for(tmp_path):
    """`random_longer` is sized by it: with the time of another batch it would be given another arm's compute."""
    workers = Workers()
    cost._timing(a_study(tmp_path), workers, 1)
    again = cost._timing(a_study(tmp_path, **{"SOLVER.IMS_PER_BATCH": 8}), workers, 1)
    assert workers.asked == 2
    assert again["detector_step"] == 0.2


def test_a_view_of_a_network_of_timm_is_timed():
    pytest.importorskip("timm")
    settings = {"config": "configs/pretraining/simclr_effnet_lite0.yaml", "options": {"image_size": 32}}
    assert 0 < cost._time_view(settings) < 10
