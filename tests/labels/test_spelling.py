"""One reader, patient or image under several spellings."""

import pandas as pd
import pytest

from d2_cxr.labels.spelling import id_key, one_spelling, similar_names


@pytest.mark.parametrize(
    "one, other",
    [("7", "7.0"), ("7", "007"), ("R8", "r8 "), ("R08", "R8"), ("Dr.  Li", "dr. li"), ("Ｒ８", "R8"), ("R 8", "R8")],
)
def test_spellings_of_one_id_have_one_key(one, other):
    assert id_key(one) == id_key(other)


@pytest.mark.parametrize(
    "one, other", [("7", "70"), ("1 2", "12"), ("R8", "R80"), ("A-1", "A1"), ("1.5", "15"), ("李", "王"), ("0", "")]
)
def test_different_ids_have_different_keys(one, other):
    assert id_key(one) != id_key(other)


def test_an_id_takes_its_first_spelling_without_a_spreadsheets_point():
    ids, respelled = one_spelling(pd.Series(["4.0", "4", None, "B ", "b", "04"], dtype=object))
    assert ids.dropna().tolist() == ["4", "4", "B", "B", "4"]
    assert respelled.tolist() == [False, True, False, False, True, True]


def test_a_number_that_a_spreadsheet_cut_short_is_refused():
    with pytest.raises(ValueError, match=r"'1.28401E\+17' is a number that a spreadsheet cut short"):
        one_spelling(pd.Series(["1.28401E+17"]))


def test_image_names_that_lost_zeros_or_case_are_paired_as_a_hint():
    assert similar_names(["3", "IM 12", "x"], ["0003", "im012", "y"]) == [("3", "0003"), ("IM 12", "im012")]
    assert similar_names(["3"], ["03", "003"]) == []  # which of the two is not known
