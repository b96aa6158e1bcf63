"""Networks with statistics of their own: with BatchNorm's initial 0 and 1 a missing buffer would show nowhere."""

import pytest
import torch
import torchvision


def make_state(architecture, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(torchvision.models, architecture)(weights=None)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
    return {name: value.detach() for name, value in network.state_dict().items()}


@pytest.fixture(scope="session")
def resnet18():
    return make_state("resnet18")


@pytest.fixture
def solo_file(tmp_path, resnet18):
    """Write a checkpoint as solo-learn 1.0.2 does; `change(state)` may damage it first."""

    def write(change=None, name="last.ckpt", prefix="encoder."):
        state = {prefix + key: value.clone() for key, value in resnet18.items() if not key.startswith("fc.")}
        state |= {"projector.0.weight": torch.zeros(8, 512), "classifier.weight": torch.zeros(1, 512)}
        if change:
            state = change(state) or state
        path = tmp_path / name
        torch.save({"state_dict": state, "epoch": 3}, path)
        return path

    return write
