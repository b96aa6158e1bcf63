"""What the fuzzers share: how many cases, which seed, and mutators of bytes and of nested values.

FUZZ_CASES sets the number of cases of a test, FUZZ_SEED chooses others; the same seed and number damage alike.
"""

import copy
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

CASES = int(os.environ.get("FUZZ_CASES", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
_ODD_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
VALUES = [
    *(None, True, False, 0, -1, 7, 10**30, 10**400, 2.5, float("nan"), float("inf"), "", "x", " ", "../x", "a\nb", "0"),
    *("é", "1e999", "²", "٣", "9" * 5000, "nan", "x" * 500, [], [1], ["x"], [[1]], [None], {}, {"x": 1}),
    *({"x": {"y": []}}, [0.1, 0.2], "No finding", "-", "=1+1"),
]


def damaged(content: bytes, number: int, start: int = 0) -> bytes:
    """Return content with a few bytes changed, a part removed, repeated, swapped, or its end cut.

    Args:
        content: a good file.
        number: of the case; decides with SEED what is done.
        start: bytes before it stay, so that the file is still known for what it is.
    """
    rng = np.random.default_rng([SEED, number])
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(start, max(start + 1, len(data))))
        length = int(rng.integers(1, 17))
        kind = rng.integers(6)
        if kind == 0:
            data[place : place + 1] = bytes([int(rng.integers(256))])
        elif kind == 1:
            data[place : place + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 2:
            data[place : place + length] = bytes([int(rng.choice(_ODD_BYTES))]) * length
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length]
        else:
            del data[max(start + 1, place) :]
    return bytes(data)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Return the path of every value of a document, those inside lists included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def mutated(document, chance: random.Random, values=VALUES, keys=("x", 3, "id", "name")):
    """Return a copy of nested lists and dicts in which one to three things are replaced, dropped, added or renamed."""
    document = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        paths = [place for place in places(document) if place]
        if not paths:
            break
        path = chance.choice(paths)
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        way = chance.choice(("replace", "replace", "replace", "drop", "add", "rename", "repeat"))
        if way == "replace":
            holder[path[-1]] = copy.deepcopy(chance.choice(values))
        elif way == "drop":
            del holder[path[-1]]
        elif isinstance(holder, list):
            holder.insert(path[-1], copy.deepcopy(holder[path[-1]]))
        elif way == "add":
            holder[chance.choice(keys)] = copy.deepcopy(chance.choice(values))
        elif way == "rename":
            holder[f"{path[-1]}x"] = holder.pop(path[-1])
    return document


def check_refusal(error: BaseException, allowed: tuple[type, ...], what: object) -> None:
    """Fail unless an error is one line of text of an allowed kind, written by us and not by the interpreter."""
    message = str(error)
    ours = isinstance(error, allowed) and type(error).__module__.startswith("d2_cxr")
    assert ours or type(error) in allowed, (what, type(error), message)  # no UnicodeDecodeError, JSONDecodeError, ...
    assert "\n" not in message and 10 < len(message) < 1000, (what, message)
    assert not any(word in message for word in ("has no attribute", "NoneType", "object is not", "unhashable")), (
        what,
        message,
    )


@pytest.fixture(scope="session")
def fuzz() -> SimpleNamespace:
    """Number of cases, seed, and the mutators."""
    return SimpleNamespace(
        cases=CASES, seed=SEED, values=VALUES, damaged=damaged, mutated=mutated, check_refusal=check_refusal
    )
