"""audit/verdicts.py: which light and which sentence a set gets."""

from d2_cxr.audit.verdicts import verdicts

GOOD = {"prepared": 100, "fused_boxes": 50, "stratified_train": 30, "stratified_val": 5, "stratified_test": 10}


def lights(counts, patients=True, across=0, shortcut=None):
    return [light for light, _, _ in verdicts(counts, patients, across, shortcut)]


def test_a_clean_set_is_green_three_times():
    assert lights(GOOD) == ["green", "green", "green"]


def test_a_few_refused_files_are_yellow_and_many_are_red():
    assert lights(GOOD | {"refused": 2})[0] == "yellow"
    assert lights(GOOD | {"refused": 20})[0] == "red"
    assert verdicts(GOOD | {"refused": 2}, True, 0, None)[0][2] == "Prepared 100 of 102 images (2 refused)."


def test_a_part_without_findings_is_red():
    found = verdicts(GOOD | {"stratified_val": 0}, True, 0, None)[1]
    assert found[0] == "red" and "is in val" in found[2]


def test_boxes_outside_their_images_are_yellow_and_many_are_red():
    assert lights(GOOD | {"boxes_outside": 1})[1] == "yellow"
    assert lights(GOOD | {"boxes_outside": 10})[1] == "red"


def test_unknown_patients_are_yellow_and_name_the_option():
    found = verdicts(GOOD, False, 0, None)[2]
    assert found[0] == "yellow" and "--patients" in found[2]


def test_a_header_that_tells_findings_is_red_when_its_interval_is_far_from_chance():
    shortcut = {"auroc": 0.9, "low": 0.8, "high": 0.95}
    assert lights(GOOD, shortcut=shortcut)[2] == "red"
    assert lights(GOOD, shortcut=shortcut | {"low": 0.65})[2] == "yellow"
    assert lights(GOOD, shortcut=shortcut | {"low": 0.5})[2] == "green"


def test_near_duplicates_in_two_parts_are_red():
    assert lights(GOOD, across=1)[2] == "red"


def test_images_without_labels_are_yellow_and_have_no_patient_warning():
    assert lights({"prepared": 10, "unlabeled": 10}, patients=False) == ["green", "yellow", "green"]
