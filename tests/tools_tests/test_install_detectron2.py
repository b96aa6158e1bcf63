"""The wheel that is built from Detectron2's source: pure Python, honest about what it needs."""

import http.client
import io
import zipfile

import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("install_detectron2")


@pytest.fixture
def source(tmp_path):
    """A folder laid out as the official source and the registry's package are."""
    for name, text in {
        "detectron2/__init__.py": "__version__ = '9'\n",
        "detectron2/model_zoo/configs/a.yaml": "A: 1\n",
        "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "binary",
        "tools/__init__.py": "",
        "tools/plain_train_net.py": "print('train')\n",
        "LICENSE": "Apache 2.0",
    }.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "source"


def test_the_wheel_holds_python_and_data_but_no_compiled_code_and_no_tools(tool, source, tmp_path):
    wheel = tool.build_wheel(source, "9.0", tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"detectron2/__init__.py", "detectron2/model_zoo/configs/a.yaml", "detectron2-9.0.dist-info/RECORD"} <= names
    assert not [name for name in names if name.endswith(".so") or name.startswith("tools")]


def test_the_wheel_asks_for_fvcore_and_neither_for_old_numpy_nor_for_black(tool, source, tmp_path):
    metadata = zipfile.ZipFile(tool.build_wheel(source, "9.0", tmp_path)).read("detectron2-9.0.dist-info/METADATA")
    assert b"Requires-Dist: fvcore" in metadata and b"Requires-Dist: iopath" in metadata
    assert b"numpy" not in metadata and b"black" not in metadata


def test_detectron2s_own_tools_stay_outside_the_environment(tool, source, tmp_path):
    tool.keep_tools(source, tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["plain_train_net.py"]


def test_a_package_with_another_hash_is_not_installed(tool, tmp_path, monkeypatch):
    def download(command, check):
        with zipfile.ZipFile(tmp_path / "sal_detectron2-0.7.2-cp310-none-any.whl", "w") as archive:
            archive.writestr("detectron2/__init__.py", "import os")

    monkeypatch.setattr(tool.subprocess, "run", download)
    with pytest.raises(SystemExit, match="not the file we tested"):
        tool.fetch_registry(tmp_path)
    assert not (tmp_path / "registry").exists()


def test_an_official_source_out_of_reach_falls_back_to_the_registry(tool, tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise tool.urllib.error.URLError("no route")

    monkeypatch.setattr(tool.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(tool, "fetch_registry", lambda folder: folder / "registry")
    assert tool.fetch(tmp_path, from_registry=False) == (tmp_path / "registry", "0.7.2+registry")


@pytest.mark.parametrize("answer", [b"<html>sign in first</html>", b""])
def test_an_answer_that_is_no_source_leads_to_the_registry(tool, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(tool.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(answer))
    monkeypatch.setattr(tool, "fetch_registry", lambda folder: folder / "registry")
    assert tool.fetch(tmp_path, from_registry=False) == (tmp_path / "registry", "0.7.2+registry")


def test_a_source_that_ends_early_leads_to_the_registry(tool, tmp_path, monkeypatch):
    def cut_short(folder):
        raise http.client.IncompleteRead(b"half")

    monkeypatch.setattr(tool, "fetch_official", cut_short)
    monkeypatch.setattr(tool, "fetch_registry", lambda folder: folder / "registry")
    assert tool.fetch(tmp_path, from_registry=False)[1] == "0.7.2+registry"
