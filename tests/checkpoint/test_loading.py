import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch

from d2_cxr.checkpoint.loading import WeightsError, load_weights_file, load_yaml

RAN = []


class Payload:
    """A pickle that runs a program when it is loaded."""

    def __reduce__(self):
        return (RAN.append, ("the payload ran",))


@pytest.mark.parametrize("name, save", [("w.pth", torch.save), ("w.ckpt", torch.save), ("w.pkl", None)])
def test_a_payload_does_not_run(tmp_path, name, save):
    content = {"model": {"weight": Payload()}}
    path = tmp_path / name
    if save:
        save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    RAN.clear()
    with pytest.raises(WeightsError, match=r"pickle.*--trust") as caught:
        load_weights_file(path)
    assert RAN == [] and "\n" not in str(caught.value)


def test_trust_reads_what_is_refused_otherwise(tmp_path):
    torch.save({"epoch": 1, "settings": pytest.approx(1.0)}, tmp_path / "w.ckpt")
    with pytest.raises(WeightsError, match=r"asks for _pytest.*ApproxScalar"):
        load_weights_file(tmp_path / "w.ckpt")
    assert load_weights_file(tmp_path / "w.ckpt", trust=True)["epoch"] == 1


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_zoo_file_of_numpy_arrays_loads(tmp_path, protocol):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {"model": OrderedDict(weight=array, scale=np.float64(2.5)), "__author__": "zoo"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = load_weights_file(tmp_path / "w.pkl")
    assert np.array_equal(loaded["model"]["weight"], array) and loaded["model"]["scale"] == 2.5


@pytest.mark.parametrize("call", [b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR."])
def test_a_pkl_that_calls_functions_is_refused(tmp_path, call):
    (tmp_path / "w.pkl").write_bytes(call)
    with pytest.raises(WeightsError, match=r"asks for (os\.system|builtins\.eval)"):
        load_weights_file(tmp_path / "w.pkl")


def test_a_pkl_cannot_load_codecs(tmp_path):
    (tmp_path / "w.pkl").write_bytes(b"c_codecs\nencode\n(Vx\nVrot13\ntR.")
    with pytest.raises(WeightsError, match="codec 'rot13'"):
        load_weights_file(tmp_path / "w.pkl")


def test_files_cut_short_are_named(tmp_path):
    torch.save({"model": {"weight": torch.zeros(1000)}}, tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:1500])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": np.zeros(1000)})[:200])
    for name, message in (("w.pth", "cut short"), ("empty.pth", "is empty"), ("w.pkl", "cut short")):
        with pytest.raises(WeightsError, match=f"{name}.*{message}") as caught:
            load_weights_file(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth"):
        load_weights_file(tmp_path / "nowhere.pth")


def test_a_bare_tensor_is_no_weights_file(tmp_path):
    torch.save(torch.zeros(1), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds a Tensor"):
        load_weights_file(tmp_path / "w.pth")


def test_yaml_runs_nothing(tmp_path):
    (tmp_path / "c.yaml").write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match=r"not plain YAML.*python/object"):
        load_yaml(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("a: [1, 2.5, null]\n")
    assert load_yaml(tmp_path / "c.yaml") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    "version, safe", [("2.5.1", False), ("1.13.0+cu117", False), ("2.6.0", True), ("2.10.0a0", True)]
)
def test_a_pytorch_that_can_be_made_to_run_code_reads_nothing(tmp_path, monkeypatch, version, safe):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "__version__", version)
    if safe:
        assert "model" in load_weights_file(tmp_path / "w.pth")
    else:
        with pytest.raises(WeightsError, match=rf"PyTorch {re.escape(version)} does not read weights files safely"):
            load_weights_file(tmp_path / "w.pth")
