"""Mutated study files: each is accepted or refused in one line that names what is wrong; nothing else is raised.

FUZZ_CASES sets the number of mutants.
"""

import copy
import os
import random
from pathlib import Path

import pytest
import yaml
from d2_cxr.projects.label_efficiency.plan import read_study

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "LabelEfficiency"
STUDIES = sorted(PROJECT.glob("*.yaml"))
CASES = int(os.environ.get("FUZZ_CASES", "300"))
VALUES = [
    *(None, True, False, 0, -1, 7, 10**30, 2.5, float("nan"), float("inf"), "", "x", " ", "../x", "a\nb", "0", "é"),
    *("x" * 500, [], [1], ["x"], [[1]], [None], {}, {"x": 1}, {1: 2}, {None: None}, {"x": {"y": []}}),
]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Return the path of every value of a file, those inside lists included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def mutate(settings: dict, chance: random.Random) -> dict:
    """Replace, drop, add or rename one to three things."""
    settings = copy.deepcopy(settings)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice([place for place in places(settings) if place])
        holder = settings
        for key in path[:-1]:
            holder = holder[key]
        way = chance.choice(("replace", "replace", "replace", "drop", "add", "rename"))
        if way == "replace":
            holder[path[-1]] = copy.deepcopy(chance.choice(VALUES))
        elif way == "drop":
            del holder[path[-1]]
        elif isinstance(holder, dict) and way == "add":
            holder[chance.choice(("x", 3, "percent", "metrc", "seed"))] = copy.deepcopy(chance.choice(VALUES))
        elif isinstance(holder, dict):
            holder[f"{path[-1]}x"] = holder.pop(path[-1])
        if not settings:
            break
    return settings


@pytest.mark.parametrize("part", range(3))
def test_a_mutated_study_file_is_laid_out_or_refused_in_one_line(tmp_path, part):
    chance = random.Random(part)
    path = tmp_path / "study.yaml"
    refused = 0
    for case in range(CASES // 3):
        origin = chance.choice(STUDIES)
        mutant = mutate(yaml.safe_load(origin.read_text(encoding="utf-8")), chance)
        path.write_text(yaml.safe_dump(mutant), encoding="utf-8")
        try:
            read_study(path)
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            message = str(error)
            assert type(error) in (ValueError, FileNotFoundError), (case, origin.name, type(error), mutant)
            assert "\n" not in message and 10 < len(message) < 1000, (case, origin.name, message)
            assert "attribute" not in message and "NoneType" not in message, (case, origin.name, message)
    assert refused > CASES // 10


@pytest.mark.parametrize(
    "text", ["", "a: [", "- 1", "a: 2020-13-45", "\x00", "a: &x [*x]", "!!python/object:os.system {}"]
)
def test_a_file_that_is_no_study_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"s\.yaml") as error:
        read_study(tmp_path / "s.yaml")
    assert "\n" not in str(error.value)
