"""Files are finished or absent."""

import hashlib

import pytest

from d2_cxr import artifacts


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError):
        artifacts.write_with(path, lambda temporary: 1 / 0)
    assert artifacts.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_has_sorted_keys_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"b": 1, "a": "σ"}, indent=None)
    assert path.read_text(encoding="utf-8") == '{"a": "σ", "b": 1}\n'
    with pytest.raises(ValueError):
        artifacts.write_json(path, {"a": float("nan")})
    assert artifacts.read_json(path) == {"a": "σ", "b": 1}


def test_a_json_file_cut_short_is_named(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"cut\.json is not a JSON file"):
        artifacts.read_json(path)


def test_a_json_file_nested_without_end_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    path = tmp_path / "odd.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"odd\.json is not a JSON file \(maximum recursion depth"):
        artifacts.read_json(path)
    path.write_text('{"a": 1}', encoding="utf-8-sig")  # as editors on Windows save it
    assert artifacts.read_json(path) == {"a": 1}


def test_csv_comes_back_with_none_as_an_empty_cell(tmp_path):
    path = tmp_path / "new folder" / "a.csv"
    artifacts.write_csv(path, [{"a": 1, "b": None}, {"a": "x,y", "b": 2}], ["a", "b"])
    assert path.read_bytes() == b'a,b\n1,\n"x,y",2\n'
    assert artifacts.read_csv(path) == [{"a": "1", "b": ""}, {"a": "x,y", "b": "2"}]


def test_a_written_file_can_be_read_by_others(tmp_path):
    artifacts.write_text(tmp_path / "a.txt", "a")
    (tmp_path / "b.txt").write_text("b")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_fingerprints_depend_on_content_and_on_order(tmp_path):
    artifacts.write_bytes(tmp_path / "a", b"abc")
    assert artifacts.sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert artifacts.sha256_json({"a": 1, "b": 2}) == artifacts.sha256_json({"b": 2, "a": 1})
    assert artifacts.sha256_lines(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest()
    assert artifacts.sha256_lines(["a", "b"]) != artifacts.sha256_lines(["b", "a"])


def test_a_full_disk_is_named_with_file_and_folder(tmp_path):
    def write(_path):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=f"a.pth cannot be written, the disk of {tmp_path} is full") as error:
        artifacts.write_with(tmp_path / "a.pth", write)
    assert error.value.errno == 28 and list(tmp_path.iterdir()) == []


def test_a_writer_with_an_error_of_its_own_is_asked_how_full_the_disk_is(tmp_path, monkeypatch):
    def write(_path):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")

    with pytest.raises(RuntimeError):
        artifacts.write_with(tmp_path / "a.pth", write)
    monkeypatch.setattr(artifacts, "_FULL", 1 << 62)
    with pytest.raises(OSError, match="is full"):
        artifacts.write_with(tmp_path / "a.pth", write)


def test_a_folder_is_held_by_one(tmp_path):
    with artifacts.only_one(tmp_path / "run"), pytest.raises(ValueError, match="another process writes to"):
        artifacts.only_one(tmp_path / "run").__enter__()
    with artifacts.only_one(tmp_path / "run"), pytest.raises(OSError, match=f"{tmp_path}/run cannot be written to"):
        with artifacts.only_one(tmp_path / "run2"):
            pass
        raise OSError(28, f"{tmp_path}/run cannot be written to")


def test_a_table_for_people_holds_no_formula(tmp_path):
    rows = [{"file": "=1+1", "number": -3}, {"file": "@sum", "number": 2}, {"file": "a=b", "number": 1}]
    artifacts.write_csv(tmp_path / "a.csv", rows, ["file", "number"], for_people=True)
    assert (tmp_path / "a.csv").read_text() == "file,number\n'=1+1,-3\n'@sum,2\na=b,1\n"
