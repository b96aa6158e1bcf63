import numpy as np
import torch

from d2_cxr import artifacts
from d2_cxr.engine.run_record import RunRecord, plain


def test_a_record_goes_from_running_to_finished(tmp_path):
    record = RunRecord(tmp_path, {"seed": 1})
    assert not (tmp_path / "run.json").exists()  # a run that is refused leaves nothing
    record.start()
    assert artifacts.read_json(tmp_path / "run.json")["status"] == "running"
    record.finish({"set": {"bbox": {"AP": float("nan"), "AP50": np.float32(2.0)}}})
    values = artifacts.read_json(tmp_path / "run.json")
    assert (values["status"], values["results"]) == ("finished", {"set": {"bbox": {"AP": None, "AP50": 2.0}}})


def test_a_failure_is_told(tmp_path):
    record = RunRecord(tmp_path, {})
    record.start()
    record.fail(FloatingPointError("loss is NaN"))
    values = artifacts.read_json(tmp_path / "run.json")
    assert (values["status"], values["error"]) == ("failed", "FloatingPointError: loss is NaN")


def test_only_the_first_process_writes(tmp_path):
    RunRecord(tmp_path, {}, writes=False).start()
    assert not list(tmp_path.iterdir())


def test_values_become_plain():
    values = {"a": np.int64(3), "b": torch.tensor(1.5), "c": (float("inf"), "x"), 4: None}
    assert plain(values) == {"a": 3, "b": 1.5, "c": [None, "x"], "4": None}
