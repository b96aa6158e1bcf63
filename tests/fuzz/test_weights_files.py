"""Damaged weights files: each is read, or refused in one line; no pickle runs what is inside it."""

import io
import pickle
import random
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save

from d2_cxr.checkpoint.conversion import ConversionError
from d2_cxr.checkpoint.convert import convert_state
from d2_cxr.checkpoint.fingerprint import require_same_tensors
from d2_cxr.checkpoint.loading import WeightsError, load_weights_file
from d2_cxr.checkpoint.sources import state_dict_of
from d2_cxr.checkpoint.weights_card import WeightsCard
from d2_cxr.engine.card import config_of

pytestmark = pytest.mark.slow
TENSORS = {"layer.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "layer.bias": torch.zeros(2)}
CARD = WeightsCard(
    architecture="resnet18",
    depth=18,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.4, 57.12, 57.4],
    input_format="RGB",
    norm="BN",
    epochs=2,
    preprocess={"size": 64, "resize": "squash", "equalize": "histogram", "window": "file"},
    parity={"res2": 0.0},
    class_names=["Mass", "Nodule"],
    config="MODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 2\n",
    thresholds={"thresholds": {"Mass": 0.3, "Nodule": None}},
).to_dict()


def torch_file(content, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def zoo_file() -> bytes:
    arrays = OrderedDict((name, value.numpy()) for name, value in TENSORS.items())
    return pickle.dumps({"model": arrays, "__author__": "zoo", "scale": np.float64(2.5)}, protocol=2)


GOOD = {
    "new.pth": torch_file({"model": TENSORS, "card": CARD}),
    "old.pth": torch_file({"model": TENSORS, "card": CARD}, old=True),
    "zoo.pkl": zoo_file(),
    "w.safetensors": save(TENSORS),
}


@pytest.mark.parametrize("name", GOOD)
def test_damaged_weights_files_are_read_or_refused_in_one_line(tmp_path, fuzz, name):
    outcomes, path = Counter(), tmp_path / name
    for number in range(fuzz.cases):
        path.write_bytes(fuzz.damaged(GOOD[name], number))
        try:
            content = load_weights_file(path)
            assert isinstance(content, dict)
            outcomes["read"] += 1
        except WeightsError as error:
            fuzz.check_refusal(error, (WeightsError,), (name, number))
            assert str(path) in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > fuzz.cases // 10, outcomes


# What a pickle may call, or reach; each would leave a file behind if it ran.
CALLS = ("os system", "posix system", "builtins eval", "builtins exec", "subprocess Popen", "subprocess call")
CALLS += ("builtins getattr", "importlib import_module", "pathlib Path.touch", "numpy load", "torch load")
CALLS += (
    "codecs open",
    "io open",
    "_io open",
    "shutil rmtree",
    "timeit timeit",
    "runpy run_path",
    "numpy.core.numeric x",
)


def gadget(chance: random.Random, mark: str) -> bytes:
    """Return a pickle that calls something by GLOBAL, STACK_GLOBAL, INST, OBJ, NEWOBJ or BUILD, alone or in a dict."""
    module, name = chance.choice(CALLS).split(" ")
    text = chance.choice([f"touch {mark}", f"open({mark!r}, 'w')", f"__import__('os').system('touch {mark}')", mark])
    word = pickle.dumps(text, protocol=2)[2:-1]
    found = {
        "global": f"c{module}\n{name}\n".encode() + b"(" + word + b"tR",
        "stack": pickle.dumps(module, 4)[11:-1] + pickle.dumps(name, 4)[11:-1] + b"\x93(" + word + b"tR",
        "inst": b"(" + word + f"i{module}\n{name}\n".encode(),
        "obj": f"(c{module}\n{name}\n".encode() + word + b"o",
        "newobj": f"c{module}\n{name}\n(".encode() + word + b"t\x81",
        "build": b"ctorch._utils\n_rebuild_tensor_v2\n(tR" + f"c{module}\n{name}\n".encode() + b"b",
        "persistent": word + b"Q",
    }
    body = found[chance.choice(sorted(found))]
    if chance.random() < 0.5:
        body = b"}X\x05\x00\x00\x00model" + body + b"s"
    return chance.choice([b"", b"\x80\x02", b"\x80\x04"]) + body + b"."


def as_torch_zip(program: bytes) -> bytes:
    """Return a file of torch.save with another pickle inside."""
    source, target = io.BytesIO(torch_file(TENSORS)), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, program if item.filename.endswith("data.pkl") else old.read(item))
    return target.getvalue()


@pytest.mark.parametrize("kind", ["plain.pkl", "plain.pth", "zip.pth"])
def test_no_pickle_runs(tmp_path, fuzz, kind):
    mark, path = tmp_path / "ran", tmp_path / kind
    refused = 0
    for number in range(fuzz.cases):
        chance = random.Random(f"{fuzz.seed} {kind} {number}")
        program = gadget(chance, str(mark))
        if number % 3 == 0:
            program = fuzz.damaged(program, number)
        path.write_bytes(as_torch_zip(program) if kind == "zip.pth" else program)
        try:
            load_weights_file(path)
        except WeightsError as error:
            fuzz.check_refusal(error, (WeightsError,), (kind, program))
            refused += 1
        assert not mark.exists(), program
    assert refused > 0.8 * fuzz.cases


def test_a_mutated_card_is_read_or_refused_in_one_line(fuzz):
    outcomes = Counter()
    for number in range(fuzz.cases):
        values = fuzz.mutated(
            CARD, random.Random(f"{fuzz.seed} card {number}"), keys=("x", "licence", "more", "method")
        )
        try:
            card = WeightsCard.from_dict(values, "w.pth")
            again = WeightsCard.from_dict(card.to_dict(), "w.pth")
            assert again.to_dict() == card.to_dict() or "nan" in str(values)
            config_of(card, "w.pth")
            require_same_tensors({"model": TENSORS, "card": values}, "w.pth")
            outcomes["read"] += 1
        except ValueError as error:
            fuzz.check_refusal(error, (ValueError,), (number, values))
            assert "w.pth" in str(error)
            outcomes["refused"] += 1
    assert outcomes["read"] and outcomes["refused"], outcomes


ODD_TENSORS = {
    "another shape": lambda value: torch.zeros(*value.shape, 2),
    "transposed": lambda value: value.T if value.dim() == 2 else value.reshape(-1)[:0],
    "no number": lambda value: torch.full_like(value.float(), torch.nan),
    "infinite": lambda value: torch.full_like(value.float(), torch.inf),
    "half": lambda value: value.half(),
    "whole numbers": lambda value: value.to(torch.int8),
    "quantized": lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
    "sparse": lambda value: value.to_sparse(),
    "complex": lambda value: value.to(torch.complex64),
    "double": lambda value: value.double(),
    "float8": lambda value: value.to(torch.float8_e4m3fn),
    "meta": lambda value: value.to("meta"),
    "text": lambda value: "weights",
    "nothing": lambda value: None,
    "a list": lambda value: value.flatten()[:3].tolist(),
    "an array": lambda value: value.numpy(),
    "expanded": lambda value: torch.zeros(()).expand(value.shape),
}


def test_a_mutated_backbone_is_converted_completely_or_refused_in_one_line(resnet18, tmp_path, fuzz):
    complete = {f"encoder.{name}": value for name, value in resnet18.items() if not name.startswith("fc.")}
    outcomes = Counter()
    for number in range(fuzz.cases):
        chance, state = random.Random(f"{fuzz.seed} backbone {number}"), dict(complete)
        for _ in range(chance.randint(1, 2)):
            name = chance.choice(sorted(state))
            way = chance.choice((*ODD_TENSORS, "drop", "rename", "add"))
            if way == "drop":
                del state[name]
            elif way == "rename":
                state[chance.choice((name + "x", "module." + name, name.replace("layer", "Layer", 1)))] = state.pop(
                    name
                )
            elif way == "add":
                state[chance.choice(("encoder.extra", "encoder.fc.weight", "encoder.queue", "x"))] = torch.zeros(2)
            elif isinstance(state[name], torch.Tensor):
                state[name] = ODD_TENSORS[way](state[name])
        try:
            found = convert_state(state_dict_of({"state_dict": state}, tmp_path / "w.ckpt"))
            assert len(found.backbone) == len(complete)
            assert all(bool(torch.isfinite(value).all()) for value in found.backbone.values())
            outcomes["converted"] += 1
        except ConversionError as error:
            fuzz.check_refusal(error, (ConversionError,), (number, str(error)))
            outcomes["refused"] += 1
    assert outcomes["converted"] and outcomes["refused"], outcomes
