"""Class names compare by letters and signs of every script."""

import pytest

from d2_cxr.labels.class_names import is_no_finding, match_to_card, name_key, names_of_table


@pytest.mark.parametrize(
    "one, other",
    [
        ("Nodule / Mass", "nodule-mass"),
        ("Pleural_effusion", "PLEURAL EFFUSION"),
        ("Ｎodule", "nodule"),
        ("Épanchement", "e\u0301panchement"),
        ("COVID-19", "Covid 19"),
        ("A –", "A-"),
    ],
)
def test_spellings_of_one_class_have_one_key(one, other):
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    "one, other",
    [
        ("心脏扩大", "胸腔积液"),
        ("узел", "масса"),
        ("B+", "B-"),
        ("Mass", "Mass?"),
        ("Grade 1-2", "Grade 12"),
        ("Grade 1-2", "Grade 1/2"),
        ("C", "C++"),
    ],
)
def test_different_classes_have_different_keys(one, other):
    assert name_key(one) != name_key(other)


def test_classes_of_other_scripts_stay_apart():
    assert names_of_table(["心脏扩大", "胸腔积液", "Nodule", "nodule"]) == ("Nodule", "心脏扩大", "胸腔积液")


def test_no_finding_is_no_other_word_unless_asked():
    assert is_no_finding("no_findings") and not is_no_finding("Normal")
    assert match_to_card(["Clear"], ["Mass"], {}, (), ["clear"]) == {"Clear": "No finding"}
    with pytest.raises(ValueError, match=r"unknown class 'Clear'.*--negative-names says"):
        match_to_card(["Clear"], ["Mass"], {})


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'Lung mass' and 'lung_mass' are the same name"):
        match_to_card([], ["Lung mass", "lung_mass"], {})
