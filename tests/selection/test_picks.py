"""Picks: patients whole, near duplicates once."""

from d2_cxr.selection.picks import pick


def test_without_patients_the_first_images_are_picked():
    found = pick([3, 1, 0, 2], 2, [None] * 4)
    assert (found.images, found.duplicates, found.divided) == ([3, 1], [], [])


def test_a_patient_comes_whole_or_not_at_all():
    patients = ["A", "B", "A", None, "B", "B"]
    assert pick([0, 1, 2, 3, 4, 5], 3, patients).images == [0, 2, 3]  # B's three no longer fit
    assert pick([1, 0, 2, 3, 4, 5], 3, patients).images == [1, 4, 5]


def test_a_patient_is_divided_only_where_nothing_else_fits_and_is_named():
    found = pick([0, 1, 2, 3], 3, ["A", "A", "B", "B"])
    assert (found.images, found.divided) == ([0, 1, 2], ["B"])
    assert pick([0, 1, 2, 3], 4, ["A", "A", "B", "B"]).divided == []


def test_near_duplicates_are_picked_once_also_through_a_third_image():
    found = pick([4, 0, 1, 2, 3], 3, [None] * 5, duplicates=[(0, 1), (1, 4)])
    assert (found.images, found.duplicates) == ([4, 2, 3], [0, 1])


def test_more_than_there_are_is_all_there_are():
    assert pick([1, 0], 5, [None, None]).images == [1, 0]
