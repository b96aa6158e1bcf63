"""`d2cxr study --preset`: shared options of every arm."""

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")

from d2_cxr.projects.label_efficiency.study_file import read_settings
from d2_cxr.projects.label_efficiency.study_preset import preset_overrides

from d2_cxr import configs
from d2_cxr.presets import facts as preset_facts
from d2_cxr.presets.preset import Machine, SetFacts


@pytest.fixture
def facts(monkeypatch):
    """Ninety-three images on two cores; returns the names that were asked for."""
    asked = []

    def facts_of(names):
        asked.extend(names)
        return SetFacts(num_images=93, num_negative=0, num_boxes=139, num_classes=3, small_side=0.07, size=512)

    monkeypatch.setattr(preset_facts, "facts_of", facts_of)
    monkeypatch.setattr(preset_facts, "this_machine", lambda: Machine(0, 8, 2))
    return asked


def test_every_arm_gets_the_same_options_and_a_study_accepts_them(facts, tmp_path):
    plan = configs.FOLDER.parent / "projects/LabelEfficiency/certificate.yaml"
    settings = read_settings(plan, preset_overrides("clinic", str(tmp_path), "auto"))
    shared = settings["shared_options"]
    assert facts == ["clinic_train"]
    assert (shared["INPUT.MIN_SIZE_TRAIN"], shared["INPUT.MAX_SIZE_TEST"]) == ([256], 256)
    assert (shared["SOLVER.MAX_ITER"], shared["CXR.NEGATIVE_RATIO"]) == (314, 0.0)  # 27 passes * 93 / 8
    assert shared["MODEL.ANCHOR_GENERATOR.SIZES"] == [[21], [43], [85], [128], [171]]
    assert shared["MODEL.BACKBONE.FREEZE_AT"] == 0  # of the plan


def test_what_is_typed_comes_last(facts, tmp_path):
    plan = configs.FOLDER.parent / "projects/LabelEfficiency/certificate.yaml"
    typed = [*preset_overrides("clinic", str(tmp_path), "quick"), "shared_options.SOLVER.MAX_ITER=7"]
    assert read_settings(plan, typed)["shared_options"]["SOLVER.MAX_ITER"] == 7
