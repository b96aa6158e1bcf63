"""Files of the repository, where there is one, and of an installed wheel, where there is none."""

from d2_cxr.projects.label_efficiency import names

from d2_cxr import configs

LEAF = "configs/quick_schedules/opacity_R_18.yaml"
INHERITED = (LEAF, "configs/quick_schedules/demo_R_18.yaml", "configs/Base-Faster-RCNN-FPN.yaml")


def test_a_config_is_found_with_what_it_inherits_from():
    names.config_files.cache_clear()
    assert names.config_files(LEAF) == INHERITED


def test_without_a_checkout_a_config_is_that_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "REPOSITORY", tmp_path)
    names.config_files.cache_clear()
    assert names.in_repository(LEAF) == configs.FOLDER / "quick_schedules/opacity_R_18.yaml"
    assert names.config_files(LEAF) == INHERITED
    assert names.file_fingerprint(LEAF) != "absent"
    names.config_files.cache_clear()
