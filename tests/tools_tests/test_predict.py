import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


predict = load_tool("predict")


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        predict.parse_args(["--help"])
    assert stop.value.code == 0
    assert "python tools/predict.py --weights output/run/model_final.pth" in capsys.readouterr().out


def test_mistakes_are_refused_before_anything_is_written(tmp_path):
    pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")
    output = tmp_path / "findings"
    film = tmp_path / "film.png"
    film.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FileNotFoundError, match=r"absent\.dicom does not exist"):
        predict.main([str(tmp_path / "absent.dicom"), "--weights", "w.pth", "--output", str(output)])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        predict.main([str(film), "--weights", str(tmp_path / "nowhere.pth"), "--output", str(output)])
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"broken\.pth"):
        predict.main([str(film), "--weights", str(tmp_path / "broken.pth"), "--output", str(output)])
    assert not output.exists()
