import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.checkpoint.convert import convert_file
from d2_cxr.checkpoint.weights_card import read_card
from d2_cxr.pretraining.data import load_films
from d2_cxr.pretraining.supervised import film_labels, train_supervised


@pytest.fixture
def truth(tmp_path, prepared):
    films = load_films(["tiny_train"], [["tiny", str(prepared)]])
    shown = [[{"class_name": "Cardiomegaly"}] if n % 3 == 0 else [] for n in range(len(films))]
    shown[1] = [{"class_name": "Atelectasis"}, {"class_name": "Cardiomegaly"}]
    rows = [{"image_id": film["image_id"], "findings": found} for film, found in zip(films, shown, strict=True)]
    artifacts.write_json(tmp_path / "truth.json", {"films": rows})
    return tmp_path / "truth.json"


def test_a_film_has_the_classes_that_the_renderer_drew(truth, prepared):
    labels = film_labels(truth, load_films(["tiny_train"], [["tiny", str(prepared)]]))
    assert labels.shape == (24, 2)  # Atelectasis, Cardiomegaly
    assert labels[:4].tolist() == [[0, 1], [1, 1], [0, 0], [0, 1]]


def test_a_film_that_the_renderer_does_not_know_is_named(truth):
    with pytest.raises(ValueError, match="says nothing of 1 of 1 films, first: unknown"):
        film_labels(truth, [{"image_id": "unknown"}])


def test_it_trains_and_converts_like_the_others(truth, tiny_config, tmp_path):
    end = train_supervised({**tiny_config, "truth": truth}, tmp_path / "run")
    assert end == tmp_path / "run" / "last.ckpt" and read_card(end).method == "supervised"
    assert max(convert_file(end, tmp_path / "w.pth").parity.values()) <= 1e-4
    losses = [epoch["loss"] for epoch in artifacts.read_json(tmp_path / "run/pretraining.json")["history"]]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
    before = end.stat().st_mtime_ns
    train_supervised({**tiny_config, "truth": truth}, tmp_path / "run")
    assert end.stat().st_mtime_ns == before


def test_it_learns_what_can_be_seen(truth, tiny_config, tmp_path):
    adamw = {"name": "adamw", "lr": 0.001, "weight_decay": 0.0}
    whole = {"crop_scale": [1.0, 1.0], "noise": "none", "flip": 0.0, "blur": 0.0}
    config = {**tiny_config, "epochs": 8, "optimizer": adamw, "augmentation": whole, "truth": truth}
    train_supervised(config, tmp_path / "run")
    losses = [epoch["loss"] for epoch in artifacts.read_json(tmp_path / "run/pretraining.json")["history"]]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.isfinite(torch.tensor(losses)).all()
