import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.convert import ConversionError, convert_file
from d2_cxr.checkpoint.loading import load_weights_file
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.datasets import leakage
from d2_cxr.pretraining import callbacks, settings, train
from d2_cxr.pretraining.data import EpochSampler
from d2_cxr.pretraining.method import build_method
from d2_cxr.pretraining.train import pretrain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tiny_settings, tmp_path_factory):
    """The last.ckpt of a finished run; the tests only look at it."""
    return pretrain(tiny_settings, tmp_path_factory.mktemp("finished") / "run")


def encoder(path):
    state = load_weights_file(path)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("encoder.")}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_a_checkpoint_with_its_card_and_a_record(finished, tiny_config, prepared):
    stored = load_weights_file(finished)  # with weights_only=True
    assert stored["d2_cxr"]["images"].shape == (24, 16) and stored["d2_cxr"]["images"].dtype == torch.uint8
    rows = [bytes(row.tolist()) for row in stored["d2_cxr"]["images"]]
    assert rows == sorted(rows)
    card = read_card(finished)
    assert (card.architecture, card.method, card.epochs, card.batch_size) == ("resnet18", "simclr", 2, 8)
    assert card.num_images == 24 and card.data_names == ["tiny_train_unlabeled"]
    assert card.preprocess["size"] == 64 and card.data_fingerprints == {
        "tiny_train_unlabeled": artifacts.read_json(prepared / "dataset.json")["images_fingerprint"]
    }
    assert str(prepared) not in str(card)
    record = json.loads((finished.parent / "pretraining.json").read_text())
    assert record["num_views"] == 2 * 2 * 3 * 8 and record["chance_top1"] == pytest.approx(1 / 15)
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2]
    assert (record["precision"], record["precision_reason"]) == ("fp32", "as asked for")
    assert list((finished.parent / "tensorboard").glob("events.out.tfevents.*"))


def test_a_warm_up_of_part_of_an_epoch_ends_within_it(tiny_config, tmp_path):
    scheduler = {"name": "warmup_cosine", "warmup_epochs": 0.7}
    pretrain({**tiny_config, "scheduler": scheduler, "checkpoint_every": 2}, tmp_path / "run")
    history = json.loads((tmp_path / "run" / "pretraining.json").read_text())["history"]
    # two of six steps up to .05, so the fourth is a quarter down the cosine
    assert [epoch["lr"] for epoch in history] == pytest.approx([0, 0.05 * (1 + math.cos(math.pi / 4)) / 2])


def test_its_weights_arrive_in_detectron2(finished, tmp_path):
    card = convert_file(finished, tmp_path / "w.pth")
    assert max(card.parity.values()) <= 1e-4
    stored = load_weights_file(tmp_path / "w.pth")
    assert torch.equal(stored["images"], load_weights_file(finished)["d2_cxr"]["images"])
    assert stored["conversion"]["left_out"] == [
        "classifier.bias", "classifier.weight",
        "projector.0.bias", "projector.0.weight", "projector.2.bias", "projector.2.weight",
    ]  # fmt: skip


def test_a_loaded_detectors_features_are_the_simclr_networks(finished, tiny_config, tmp_path):
    """From the network in solo-learn's method to the backbone in Detectron2's detector, as the tools do it."""
    from detectron2.modeling import build_model

    from d2_cxr.checkpoint import verify
    from d2_cxr.engine.checkpointer import CXRCheckpointer
    from d2_cxr.engine.config import load_config

    convert_file(finished, tmp_path / "w.pth")
    cfg = load_config(ROOT / "configs/quick_schedules/demo_R_18.yaml", ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    weights = load_weights_file(tmp_path / "w.pth")["model"]
    with pytest.raises(verify.ParityError, match="res2 differ"):  # still random
        verify.detector_parity(model, weights)
    CXRCheckpointer(model).load(str(tmp_path / "w.pth"))
    method = build_method(settings.complete(tiny_config), 1)
    method.load_state_dict(load_weights_file(finished)["state_dict"])
    network, image = method.encoder.eval(), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bottom_up = model.backbone.bottom_up.eval()
    with torch.no_grad():
        ours = bottom_up(image)
        x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        for number in (1, 2, 3, 4):
            x = getattr(network, f"layer{number}")(x)
            assert (ours[f"res{number + 1}"] - x).abs().max() <= 1e-4 * x.abs().max()
    assert max(verify.detector_parity(model, weights).values()) <= 1e-4


def test_a_finished_run_is_not_repeated(finished, tiny_config):
    before = finished.stat().st_mtime_ns
    assert pretrain({**tiny_config, "num_workers": 1}, finished.parent) == finished
    assert finished.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="finished run of other settings or images"):
        pretrain({**tiny_config, "seed": 1}, finished.parent)


@pytest.fixture
def epochs(monkeypatch):
    """The epochs of which batches were asked for, in order."""
    asked, batches = [], EpochSampler.__iter__
    monkeypatch.setattr(EpochSampler, "__iter__", lambda self: asked.append(self.epoch) or batches(self))
    return asked


def test_every_epoch_has_views_and_an_order_of_its_own(epochs, tiny_config, tmp_path):
    """Lightning sets the epoch of what it finds at `batch_sampler.sampler`; else all epochs repeat the first."""
    pretrain({**tiny_config, "epochs": 3, "checkpoint_every": 3}, tmp_path / "three")
    assert epochs == [0, 1, 2]


def test_a_killed_run_ends_where_the_uninterrupted_one_does(finished, epochs, tiny_config, tmp_path, monkeypatch):
    killed = tmp_path / "killed"
    write = callbacks.LastCheckpoint.on_train_epoch_end

    def write_and_die(self, trainer, pl_module):
        write(self, trainer, pl_module)
        raise MemoryError("killed")

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(callbacks.LastCheckpoint, "on_train_epoch_end", write_and_die)
        pretrain(tiny_config, killed)
    assert not (killed / "pretraining.json").exists() and load_weights_file(killed / "last.ckpt")["epoch"] == 0
    with pytest.raises(ValueError, match="belongs to a run of other settings"):
        pretrain({**tiny_config, "temperature": 0.5}, killed)
    pretrain({**tiny_config, "num_workers": 1}, killed)  # a worker fetches before Lightning sets the epoch
    assert epochs[0] == 0 and set(epochs[1:]) == {1}
    assert same(encoder(killed / "last.ckpt"), encoder(finished))
    losses = [
        [epoch["loss"] for epoch in json.loads((folder / "pretraining.json").read_text())["history"]]
        for folder in (killed, finished.parent)
    ]
    assert losses[0] == losses[1]


def test_a_run_starts_from_given_weights_and_says_so(finished, tiny_config, tmp_path):
    convert_file(finished, tmp_path / "w.pth", verify=False)
    still = {**tiny_config, "epochs": 1, "optimizer": {"name": "sgd", "lr": 0.0}}
    ends = [
        pretrain({**still, "init_from": str(source)}, tmp_path / name)
        for name, source in (("a", finished), ("b", tmp_path / "w.pth"))
    ]
    assert read_card(ends[0]).initialized_from == "simclr (last.ckpt)"
    for end in ends:
        assert torch.equal(encoder(end)["encoder.conv1.weight"], encoder(finished)["encoder.conv1.weight"])
    with pytest.raises(ConversionError, match="holds a resnet18, but the backbone should be resnet50"):
        pretrain({**still, "backbone": "resnet50", "init_from": str(finished)}, tmp_path / "c")


def test_sets_that_were_prepared_differently_are_refused(tiny_config, write_set, tmp_path):
    other = write_set(tmp_path / "other", num_images=4, size=48, seed=3)
    both = {
        "datasets": ["tiny_train_unlabeled", "other_train_unlabeled"],
        "sets": [*tiny_config["sets"], ["other", str(other)]],
    }
    with pytest.raises(ValueError, match="other_train_unlabeled was prepared as"):
        pretrain({**tiny_config, **both}, tmp_path / "run")


def test_the_tool_shows_views_and_refuses_in_one_line(prepared, tmp_path):
    import cv2

    sys.path.insert(0, str(ROOT / "tools"))
    import pretrain_simclr

    config = ["--config", str(ROOT / "configs/pretraining/simclr_R_18_test.yaml"), "--output", str(tmp_path)]
    data = [f"sets=[[tiny,{prepared}]]", "datasets=[tiny_train_unlabeled]"]
    assert pretrain_simclr.main([*config, "--dry-run", *data]) == 0
    assert cv2.imread(str(tmp_path / "views.png")).shape[2] == 3
    assert not (tmp_path / "last.ckpt").exists()
    with pytest.raises(ValueError, match="method is 'dino'"):
        pretrain_simclr.main([*config, *data, "method=dino"])


def test_the_tool_lets_images_stay_that_are_allowed(write_set, tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "tools"))
    import pretrain_simclr

    leaky = write_set(tmp_path / "leaky", num_images=16, seed=7)
    lists = leaky / "annotations/stratified"
    train = artifacts.read_json(lists / "train.json")
    artifacts.write_json(lists / "test.json", {**train, "images": train["images"][:1]})
    config = ["--config", str(ROOT / "configs/pretraining/simclr_R_18_test.yaml"), "--output", str(tmp_path / "out")]
    data = [f"sets=[[leaky,{leaky}]]", "datasets=[leaky_train_unlabeled]"]
    with pytest.raises(ValueError, match=r"7image000 is the same file as 7image000 of leaky_test.*--allow FILE"):
        pretrain_simclr.main([*config, "--dry-run", *data])
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv(leakage.ALLOW_VARIABLE, "")  # put back afterwards
    (tmp_path / "allowed.txt").write_text("7image000\n")
    assert pretrain_simclr.main([*config, "--dry-run", "--allow", str(tmp_path / "allowed.txt"), *data]) == 0


ONE_TASK = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "study", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
ONE_TASK |= {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.slow
@pytest.mark.parametrize("around", [{}, ONE_TASK], ids=["shell", "a job of Slurm"])
def test_two_processes_train_together(prepared, tmp_path, around):
    command = [
        sys.executable, str(ROOT / "tools/pretrain_simclr.py"), "--output", str(tmp_path),
        "--config", str(ROOT / "configs/pretraining/simclr_R_18_test.yaml"),
        f"sets=[[tiny,{prepared}]]", "datasets=[tiny_train_unlabeled]", "accelerator=cpu", "devices=2",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **around}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "pretraining.json").read_text())
    assert (record["devices"], record["steps_per_epoch"], record["num_views"]) == (2, 3, 48)
    assert record["chance_top1"] == pytest.approx(1 / 15)  # 8 images per step: 4 in each process
    assert record["history"][0]["loss"] > 2.4, "near log 15 = 2.7 in the first steps; log 7 = 1.9 if each is alone"
    assert read_card(tmp_path / "last.ckpt").batch_size == 8


def test_several_tasks_of_slurm_are_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(ValueError, match=r"srun started this in 2 tasks; use one \(--ntasks 1\)"):
        train._hardware({"accelerator": "cpu", "devices": 2})


GATHERED = """
import sys
import torch
from d2_cxr.pretraining.method import _gathered, import_solo

import_solo()
from solo.losses.simclr import simclr_loss_func

rank, rendezvous, output = int(sys.argv[1]), sys.argv[2], sys.argv[3]
generator = torch.Generator().manual_seed(0)
weight = torch.randn(5, 3, generator=generator).requires_grad_()
views = torch.randn(2, 4, 5, generator=generator)
whole = simclr_loss_func(views[0] @ weight, views[1] @ weight, temperature=0.5)
expected = torch.autograd.grad(whole, weight)[0]
torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
share = views[:, 2 * rank : 2 * rank + 2]
loss = simclr_loss_func(_gathered(share[0] @ weight), _gathered(share[1] @ weight), temperature=0.5)
gradient = torch.autograd.grad(loss, weight)[0]
torch.distributed.all_reduce(gradient)  # as DDP: the mean over processes
torch.save([float(whole), float(loss), expected, gradient / 2], f"{output}/{rank}.pth")
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradient_of_the_whole_batch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", GATHERED]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet"), str(tmp_path)], env=environment)
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for rank in (0, 1):
        whole, loss, expected, gradient = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        assert loss == pytest.approx(whole, abs=1e-6)
        assert torch.allclose(gradient, expected, atol=1e-6)
