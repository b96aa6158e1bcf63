"""results/: what others send holds what a result card may hold, and nothing else."""

from pathlib import Path

from d2_cxr import artifacts

FOLDER = Path(__file__).resolve().parents[1] / "results"
SENT = sorted(path for path in FOLDER.iterdir() if path.is_dir())


def test_results_holds_folders_and_a_page_only():
    assert [path.name for path in FOLDER.iterdir() if not path.is_dir()] == ["README.md"]


def test_every_result_is_sound_and_its_page_is_made_from_it():
    from d2_cxr.engine.result_card import page, problems

    for folder in SENT:
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "result.json"], folder
        values = artifacts.read_json(folder / "result.json")
        assert problems(values) == [], folder
        assert (folder / "README.md").read_text(encoding="utf-8") == page(values), folder
