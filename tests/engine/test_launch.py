"""How a run is started; several processes are in test_slow_training.py."""

import pytest
import torch

from d2_cxr.engine import launch


def test_more_processes_than_gpus_are_refused_in_one_line(monkeypatch):
    """Detectron2 would stop in one of its processes with a bare assertion."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"--num-gpus is 4, but PyTorch sees 2"):
        launch.launch("a.yaml", [], num_gpus=4)


def test_in_one_process_a_mistake_is_the_callers(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        launch.launch(str(tmp_path / "nowhere.yaml"), [])
