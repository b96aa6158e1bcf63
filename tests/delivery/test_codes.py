import pytest
from pydicom.sr._concepts_dict import concepts

from d2_cxr.delivery import codes
from d2_cxr.labels import vindr_cxr

# class -> the meaning that pydicom's dictionary gives the code
MEANINGS = {
    "Calcification": "Pathologic calcification, calcified structure (morphologic abnormality)",
    "Edema": "Pulmonary edema",
    "Infiltration": "Infiltrate",
    "Lung Opacity": "Opacity",
    "Mass": "Mass",
    "Nodule": "Nodule",
    "Pleural effusion": "Pleural effusion",
    "Pneumothorax": "Pneumothorax",
}


def meanings(code) -> set[str]:
    return {values[code.value][0] for values in concepts[code.scheme_designator].values() if code.value in values}


@pytest.mark.parametrize("name, meaning", MEANINGS.items())
def test_a_public_code_means_what_the_class_means(name, meaning):
    assert meaning in meanings(codes.finding_code(name))


def test_every_public_code_is_in_this_table_but_for_one_that_no_dictionary_has():
    keys = {codes.name_key(name) for name in MEANINGS}
    assert set(codes._PUBLIC) - keys == {"cardiomegaly"}
    assert meanings(codes.finding_code("Cardiomegaly")) == set()


def test_the_dictionarys_own_code_of_cardiomegaly_means_something_else():
    wrong = {values["287272002"][0] for values in concepts["SCT"].values() if "287272002" in values}
    assert "Enlarged septal foramen of heart (disorder)" in wrong
    assert codes.finding_code("Cardiomegaly").value == "8186001"


def test_everything_else_is_private_and_printed_as_it_is():
    code = codes.finding_code("Nodule/Mass")
    assert (code.value, code.scheme_designator, code.meaning) == ("nodulemass", "99D2CXR", "Nodule/Mass")
    japanese = codes.finding_code("結節")
    assert len(japanese.value) == 16 and japanese.meaning == "結節"


def test_no_two_classes_of_the_full_release_share_a_code():
    names = vindr_cxr.CLASS_NAMES + vindr_cxr.EXTRA_CLASS_NAMES
    found = {(code.value, code.scheme_designator) for code in map(codes.finding_code, names)}
    assert len(found) == len(names)
    assert all(len(value) <= 16 for value, _ in found)
