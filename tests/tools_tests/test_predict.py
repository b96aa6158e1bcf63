from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def predict(load_tool):
    return load_tool("predict")


def test_help_shows_an_example(predict, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.parse_args(["--help"])
    assert stop.value.code == 0
    assert "python tools/predict.py --weights output/run/model_final.pth" in capsys.readouterr().out


def test_mistakes_are_refused_before_anything_is_written(predict, tmp_path):
    pytest.importorskip("detectron2", reason="Detectron2 is missing: python tools/install_detectron2.py")
    output = tmp_path / "findings"
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FileNotFoundError, match=r"absent\.dicom does not exist"):
        predict.main([str(tmp_path / "absent.dicom"), "--weights", "w.pth", "--output", str(output)])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        predict.main([str(image), "--weights", str(tmp_path / "nowhere.pth"), "--output", str(output)])
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"broken\.pth"):
        predict.main([str(image), "--weights", str(tmp_path / "broken.pth"), "--output", str(output)])
    assert not output.exists()
