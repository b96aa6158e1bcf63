"""Labels that are held back and bought in rounds."""

from pathlib import Path

import pytest
import yaml
from d2_cxr.projects.label_efficiency import replay, stages
from d2_cxr.projects.label_efficiency.plan import read_study

from d2_cxr import artifacts
from d2_cxr.datasets import builtin, set_folders
from d2_cxr.datasets.named_sets import named_set

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "LabelEfficiency"


@pytest.fixture
def plan(tmp_path):
    study = read_study(PROJECT / "replay.yaml", tmp_path, ["labels.label_fractions=[10,20,40]"])  # three rounds
    return {stage.id: stage for stage in study.stages}


def test_the_first_labels_are_bought_and_trained_once_for_all_buyers(plan):
    kinds = [stage.kind for stage in plan.values()]
    # five seeds; one first round, then two rounds of four buyers
    assert (kinds.count("train"), kinds.count("buy"), kinds.count("same_run")) == (5 * 9, 5 * 9, 5 * 3)
    first = plan["train/diverse/10/seed2"]
    assert (first.kind, first.settings["run"], first.needs) == (
        "same_run",
        "runs/random/10/seed2",
        ("train/random/10/seed2",),
    )
    assert plan["buy/random/10/seed2"].settings["strategy"] == "random"


def test_a_later_round_asks_the_detector_of_the_round_before(plan):
    second, third = plan["buy/diverse/20/seed0"].settings, plan["buy/diverse/40/seed0"].settings
    assert second["before"] == {"bought": "bought/random/10/seed0", "run": "runs/random/10/seed0"}
    assert third["before"] == {"bought": "bought/diverse/20/seed0", "run": "runs/diverse/20/seed0"}
    assert second["strategy"] == third["strategy"] == "diverse"
    trained = plan["train/diverse/40/seed0"]
    assert trained.settings["dataset"]["root"] == "bought/diverse/40/seed0"
    assert (trained.settings["train"], trained.settings["test"]) == ("phantom_cxr_train", "phantom_cxr_test")
    assert "buy/diverse/40/seed0" in trained.needs


def test_stages_follow_what_they_need(plan):
    seen = set()
    for stage in plan.values():
        assert set(stage.needs) <= seen, stage.id
        seen.add(stage.id)


@pytest.mark.parametrize("fractions", [[20, 10], [10, 100]])
def test_rounds_that_do_not_rise_or_leave_nothing_to_choose_are_refused(tmp_path, fractions):
    content = yaml.safe_load((PROJECT / "replay.yaml").read_text(encoding="utf-8"))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content | {"labels": {"label_fractions": fractions}}))
    with pytest.raises(ValueError, match=r"acquire buys in rounds: label fractions must rise and stay below 100"):
        read_study(tmp_path / "study.yaml")


@pytest.fixture
def whole(write_set, tmp_path, monkeypatch):
    """A prepared set of 24 images without findings' list, registered as `tiny`."""
    monkeypatch.setattr(set_folders, "FOLDERS", dict(set_folders.FOLDERS))
    root = write_set(tmp_path / "whole")
    train = artifacts.read_json(root / "annotations/stratified/train.json")
    negative = train | {"images": train["images"][-4:], "annotations": []}
    artifacts.write_json(root / "annotations/stratified/train.json", train | {"images": train["images"][:-4]})
    artifacts.write_json(root / "annotations/stratified/negative_train.json", negative)
    builtin.register_prepared("tiny", root)
    return root


def settings(label_fraction, before=None):
    return {
        "dataset": {"name": "tiny", "root": "whole", "inside": True},
        "train": "tiny_train",
        "label_fraction": label_fraction,
        "seed": 0,
        "strategy": "random",
        "before": before,
    }


def test_what_was_bought_is_a_prepared_set_and_stays_bought(whole, tmp_path):
    pool = len(named_set("tiny_train").images()) + 4
    for label_fraction, before in ((50, None), (80, {"bought": "bought/50", "run": "none"})):
        stage = {"settings": settings(label_fraction, before), "output": f"bought/{label_fraction}"}
        stages.buy(stage, tmp_path)
    first, second = (replay.bought_images(tmp_path / "bought" / name) for name in ("50", "80"))
    assert (len(first), len(second)) == (pool * 50 // 100, pool * 80 // 100) and first < second
    builtin.register_prepared("tiny", tmp_path / "bought/80")
    bought = named_set("tiny_train")
    assert {*bought.image_names(), *bought.sibling("negative_train").image_names()} == second  # fingerprints hold
    assert all((bought.image_root / image["file_name"]).is_file() for image in bought.images())


def test_one_run_stands_for_two_arms(tmp_path):
    artifacts.write_text(tmp_path / "runs/random/10/seed0/run.json", "{}")
    for _ in range(2):  # a second call replaces the link
        stages.same_run({"settings": {"run": "runs/random/10/seed0"}, "output": "runs/diverse/10/seed0"}, tmp_path)
    assert (tmp_path / "runs/diverse/10/seed0/run.json").read_text() == "{}"


@pytest.mark.slow
def test_a_replay_of_a_handful_of_phantoms_ends_in_a_report(tmp_path, monkeypatch):
    """Two rounds of two buyers, four iterations each: nothing is learned, the way is open."""
    import sys

    monkeypatch.syspath_prepend(PROJECT)
    monkeypatch.chdir(PROJECT.parents[1])
    sys.modules.pop("run_study", None)
    import run_study

    config = "configs/quick_schedules/demo_R_18.yaml"
    arms = {name: {"config": config, "acquire": name} for name in ("random", "uncertainty+diverse")}
    overrides = [f"arms={yaml.safe_dump(arms, default_flow_style=True)}", "labels={label_fractions: [30, 60]}"]
    overrides += ["pretraining=", "primary_endpoint={metric: AP50, reference: random}", "evaluation={resamples: 20}"]
    command = ["--plan", "test", "--output", str(tmp_path), *(text.strip() for text in overrides)]
    assert run_study.main(command) == 0
    bought = [replay.bought_images(tmp_path / replay.bought_folder(arm, 60, 0)) for arm in arms]
    assert len(bought[0]) == len(bought[1])
    assert (tmp_path / "bought/uncertainty+diverse/60/seed0/predictions.npz").is_file()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "uncertainty+diverse" in page and "planned runs are not there yet" not in page
