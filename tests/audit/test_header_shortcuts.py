"""The header audit finds a shortcut that is there, and none where there is none."""

import numpy as np
import pytest

from d2_cxr.audit.header_shortcuts import CATEGORIES, header_features, header_shortcut_audit


def header(**fields) -> dict[str, str]:
    plain = dict.fromkeys(CATEGORIES, "same") | {"rows": "100", "columns": "80", "window": ""}
    return plain | fields


def test_a_header_that_gives_the_label_away_is_found():
    labels = [index % 2 == 0 for index in range(100)]
    rows = [header(bits_stored="12" if label else "16") for label in labels]
    found = header_shortcut_audit(rows, labels)
    assert found["auroc"] == found["low"] == found["high"] == 1.0
    assert (found["images"], found["with_finding"]) == (100, 50)


def test_chance_stays_within_its_interval():
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.4
    rows = [header(rows=str(size), window=f"{size}/100") for size in rng.integers(800, 3000, 300)]
    found = header_shortcut_audit(rows, labels)
    assert found["low"] < 0.5 < found["high"] or abs(found["auroc"] - 0.5) < 0.1


def test_a_patients_images_stay_in_one_fold():
    labels = np.repeat(np.arange(60) % 2 == 0, 4)
    patients = np.repeat(np.arange(60), 4)
    rows = [header(pixel_spacing=f"0.{patient:03d}") for patient in patients]  # tells the patient, not the finding
    assert header_shortcut_audit(rows, labels, patients)["auroc"] < 0.65
    assert header_shortcut_audit(rows, labels)["auroc"] > 0.9


@pytest.mark.parametrize("labels", [[True] * 50, [True] * 30 + [False] * 19])
def test_too_few_images_say_nothing(labels):
    assert header_shortcut_audit([header(rows=str(i)) for i in range(len(labels))], labels) is None


def test_equal_headers_say_nothing():
    assert header_features([header()] * 3).shape == (3, 0)
    assert header_shortcut_audit([header()] * 60, [True] * 30 + [False] * 30) is None
