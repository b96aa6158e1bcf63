"""Mutated study files: each is accepted or refused in one line that names what is wrong; nothing else is raised."""

import random
from pathlib import Path

import pytest
import yaml
from d2_cxr.projects.label_efficiency.plan import read_study

PROJECT = Path(__file__).resolve().parents[2] / "projects" / "LabelEfficiency"
STUDIES = sorted(PROJECT.glob("*.yaml"))
KEYS = ("x", 3, "percent", "metrc", "seed")


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2))])
def test_a_mutated_study_file_is_laid_out_or_refused_in_one_line(tmp_path, fuzz, part):
    chance = random.Random(3 * fuzz.seed + part)
    path = tmp_path / "study.yaml"
    refused = 0
    for case in range(fuzz.cases // 3):
        origin = chance.choice(STUDIES)
        mutant = fuzz.mutated(yaml.safe_load(origin.read_text(encoding="utf-8")), chance, keys=KEYS)
        path.write_text(yaml.safe_dump(mutant), encoding="utf-8")
        try:
            read_study(path)
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            fuzz.check_refusal(error, (ValueError, FileNotFoundError), (case, origin.name, mutant))
    assert refused > fuzz.cases // 10


@pytest.mark.parametrize(
    "text", ["", "a: [", "- 1", "a: 2020-13-45", "\x00", "a: &x [*x]", "!!python/object:os.system {}"]
)
def test_a_file_that_is_no_study_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"s\.yaml") as error:
        read_study(tmp_path / "s.yaml")
    assert "\n" not in str(error.value)
