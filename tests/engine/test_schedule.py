import pytest

from d2_cxr.config import add_cxr_config
from d2_cxr.engine.schedule import iterations, resolve, schedule_warnings


@pytest.fixture
def cfg():
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_cxr_config(cfg)
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.WARMUP_ITERS = 8, 0
    return cfg


def test_fifteen_epochs_of_the_papers_set_are_8734_iterations():
    assert iterations(15, 4657.88, 8) == 8734  # 15 * 4657.88 / 8 = 8733.5
    assert iterations(8, 4657.88, 8) == 4658 and iterations(11, 4657.88, 8) == 6405
    assert iterations(1, 16, 8) == 2  # exact: not one more
    assert iterations(0.01, 16, 8) == 1


def test_epochs_set_iterations_and_steps_with_the_arithmetic_in_words(cfg):
    cfg.CXR.EPOCHS, cfg.CXR.STEP_EPOCHS = 15, [8, 11]
    values = resolve(cfg, 4657.88)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (8734, (4658, 6405))
    assert values["text"].startswith("15 epochs * 4657.88 images / batch 8 = 8734 iterations; learning rate")
    assert values["text"].endswith("drops by 0.1 at 4658, 6405")


def test_iterations_are_kept_and_told_in_epochs(cfg):
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 300, (100, 400)
    values = resolve(cfg, 1200.0)
    assert cfg.SOLVER.MAX_ITER == 300 and values["epochs"] == 2.0
    assert values["steps"] == [100]  # a step behind the end does nothing


def test_two_lengths_are_refused(cfg):
    cfg.CXR.EPOCHS, cfg.SOLVER.MAX_ITER = 2, 77
    with pytest.raises(ValueError, match=r"CXR\.EPOCHS 2 is 300 iterations of this set, but SOLVER\.MAX_ITER is 77"):
        resolve(cfg, 1200.0)


def test_a_finished_runs_config_can_be_resolved_again(cfg):
    cfg.CXR.EPOCHS, cfg.CXR.STEP_EPOCHS = 2, [1]
    resolve(cfg, 1200.0)
    assert resolve(cfg, 1200.0)["max_iter"] == 300


def test_a_drop_after_the_end_is_refused(cfg):
    cfg.CXR.EPOCHS, cfg.CXR.STEP_EPOCHS = 12, [8, 12]
    with pytest.raises(ValueError, match=r"STEP_EPOCHS \[12\] are not before the end"):
        resolve(cfg, 100.0)


def test_a_warm_up_as_long_as_the_run_is_said_before_it(cfg):
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.BASE_LR = 30, 30, 0.01
    half, never = schedule_warnings(cfg)
    assert half.startswith("the warm-up (SOLVER.WARMUP_ITERS 30) takes at least half of the 30 iterations")
    assert "never SOLVER.BASE_LR 0.01" in never
    cfg.SOLVER.MAX_ITER = 600
    assert schedule_warnings(cfg) == []
    cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER = "WarmupMultiStepLR", (), 20
    assert "at least half of the 20 iterations" in schedule_warnings(cfg)[0]
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 1, 0
    assert schedule_warnings(cfg) == []


def test_a_run_whose_learning_rate_never_leaves_the_warm_up_is_warned_of_with_the_way_out(cfg):
    """Detectron2 lets the warm-up end with the run at the latest; there a cosine, and a rate that dropped, is low."""
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 0.001, 20, (10, 15)
    for name, warm_up in (("WarmupCosineLR", 20), ("WarmupMultiStepLR", 1000)):
        cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.WARMUP_ITERS = name, warm_up
        assert resolve(cfg, 100.0)["max_iter"] == 20
        assert "set SOLVER.WARMUP_ITERS 2, or lengthen the run" in schedule_warnings(cfg)[-1]
    cfg.SOLVER.WARMUP_ITERS = 2
    assert schedule_warnings(cfg) == []
