"""What is finished is not done again; what was made from other inputs is."""

from pathlib import Path

from d2_cxr.projects.label_efficiency.plan import Stage, Study
from d2_cxr.projects.label_efficiency.study_state import ABSENT, FINISHED, LOST, STALE, UNFINISHED, StudyState

from d2_cxr.artifacts import read_json


def study_of(tmp_path: Path, epochs: int = 1) -> Study:
    stages = (
        Stage("pretrain", "pretrain", {"epochs": epochs}, "pre", ("pre/last.ckpt",)),
        Stage("convert", "convert", {}, "w.pth", ("w.pth",), ("pretrain",)),
        Stage("train", "train", {"iterations": 5}, "run", ("run/evaluation.json",), ("convert",)),
    )
    return Study(tmp_path / "s.yaml", tmp_path, {"study": "s"}, stages)


def do(state: StudyState, *ids: str) -> None:
    """Pretend that stages ran."""
    for stage_id in ids:
        stage = state.stages[stage_id]
        state.start(stage)
        for result in stage.results:
            path = state.study.output / result
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(stage_id)
        state.finish(stage, {"made": stage_id}, 1.0)


def test_a_finished_stage_is_not_to_do_also_after_a_restart(tmp_path):
    state = StudyState(study_of(tmp_path))
    assert state.to_do() == {"pretrain", "convert", "train"}
    do(state, "pretrain", "convert", "train")
    assert StudyState(study_of(tmp_path)).to_do() == set()


def test_a_stage_that_was_killed_is_unfinished_and_to_do(tmp_path):
    state = StudyState(study_of(tmp_path))
    state.start(state.stages["pretrain"])
    again = StudyState(study_of(tmp_path))
    assert again.state(again.stages["pretrain"]) == UNFINISHED
    assert again.state(again.stages["train"]) == ABSENT
    assert "pretrain" in again.to_do()


def test_changed_settings_make_a_stage_and_what_follows_stale_and_set_the_old_aside(tmp_path):
    do(StudyState(study_of(tmp_path)), "pretrain", "convert", "train")
    state = StudyState(study_of(tmp_path, epochs=2))
    assert state.state(state.stages["pretrain"]) == STALE
    assert state.to_do() == {"pretrain", "convert", "train"}
    state.start(state.stages["pretrain"])
    assert not (tmp_path / "pre").exists()
    assert len(list((tmp_path / "superseded").iterdir())) == 1


def test_weights_may_be_thrown_away_once_the_runs_are_done(tmp_path):
    state = StudyState(study_of(tmp_path))
    do(state, "pretrain", "convert", "train")
    (tmp_path / "w.pth").unlink()
    assert state.state(state.stages["convert"]) == LOST
    assert state.to_do() == set()


def test_weights_are_made_again_when_a_run_needs_them(tmp_path):
    state = StudyState(study_of(tmp_path))
    do(state, "pretrain", "convert", "train")
    (tmp_path / "w.pth").unlink()
    (tmp_path / "run" / "evaluation.json").unlink()
    assert state.to_do() == {"convert", "train"}


def test_the_state_of_a_fresh_result_is_finished(tmp_path):
    state = StudyState(study_of(tmp_path))
    do(state, "pretrain")
    assert state.state(state.stages["pretrain"]) == FINISHED


def test_the_command_of_a_study_is_recorded_and_decides_nothing(tmp_path):
    study = study_of(tmp_path)
    do(
        StudyState(Study(study.path, tmp_path, study.settings, study.stages, ("run_study.py", "--jobs", "1"))),
        "pretrain",
    )
    assert read_json(tmp_path / "study.json")["stages"]["pretrain"]["command"] == ["run_study.py", "--jobs", "1"]
    state = StudyState(Study(study.path, tmp_path, study.settings, study.stages, ("run_study.py", "--jobs", "2")))
    assert state.state(state.stages["pretrain"]) == FINISHED
