"""Weights and results to give away."""

import copy

import pytest
import torch

from d2_cxr import artifacts
from d2_cxr.engine.publish import publish
from d2_cxr.engine.result_card import page, problems, result_card, write_result
from d2_cxr.engine.start_weights import checked
from d2_cxr.prediction.predictor import Predictor


@pytest.fixture(scope="module")
def published(finished, tmp_path_factory):
    """The folder and the weights file that `publish` makes of a finished run."""
    folder = tmp_path_factory.mktemp("published")
    return folder, publish(finished[2], folder, "tiny", "CC0-1.0")


def test_the_file_holds_model_card_and_images_only_and_its_name_has_its_sha256(published):
    folder, file = published
    digest = artifacts.sha256_file(file)
    assert file.name == f"tiny-{digest[:8]}.pth"
    assert (folder / "SHA256SUMS").read_text() == f"{digest}  {file.name}\n"
    content = torch.load(file, weights_only=True)
    assert content.keys() == {"model", "card", "images"} and content["card"]["license"] == "CC0-1.0"
    assert artifacts.read_json(folder / "card.json") == content["card"]


def test_publishing_twice_gives_the_same_file(published, finished, tmp_path):
    assert publish(finished[2], tmp_path, "tiny", "CC0-1.0").name == published[1].name


def test_the_page_has_metrics_with_intervals_license_and_the_line_to_type(published):
    text = (published[0] / "README.md").read_text()
    digest = artifacts.sha256_file(published[1])
    assert f"--weights '{published[1].name}#sha256:{digest}'" in text
    assert "| license | CC0-1.0 |" in text and "## On tiny_cxr_test" in text and "| AP50 |" in text
    assert "not for diagnosis" in text


def test_weights_without_license_or_card_are_not_published(finished, tmp_path):
    with pytest.raises(ValueError, match="--license"):
        publish(finished[2], tmp_path)
    torch.save({"model": {}}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="has no card"):
        publish(tmp_path / "bare.pth", tmp_path / "out")
    with pytest.raises(ValueError, match="is not a name for a file"):
        publish(finished[2], tmp_path, "a/b", "CC0-1.0")


def test_the_published_file_predicts_when_its_sha256_is_right_and_is_refused_when_not(published):
    file, digest = published[1], artifacts.sha256_file(published[1])
    assert Predictor(f"{file}#sha256:{digest[:12].upper()}", device="cpu").class_names == ("Disc", "Square")
    with pytest.raises(ValueError, match="it is another file"):
        Predictor(f"{file}#sha256:{'0' * 64}", device="cpu")


def test_a_digest_that_is_none_is_refused_before_anything_is_read(tmp_path):
    assert checked("no/such.pth") == "no/such.pth"
    with pytest.raises(ValueError, match="give 8 to 64 hexadecimal digits"):
        checked("no/such.pth#sha256:12")
    with pytest.raises(FileNotFoundError):
        checked("no/such.pth#sha256:12345678")


def test_model_weights_with_a_sha256_is_compared_when_the_config_is_read(published, tiny_set):
    from d2_cxr.engine.config import setup

    place, wrong = str(published[1]), "#sha256:00000000"
    options = ["DATASETS.TRAIN", "('tiny_cxr_train',)", "DATASETS.TEST", "('tiny_cxr_test',)", "MODEL.WEIGHTS"]
    config = "configs/quick_schedules/demo_R_18.yaml"
    right = f"#sha256:{artifacts.sha256_file(place)}"
    assert place == setup(config, [*options, place + right]).MODEL.WEIGHTS
    with pytest.raises(ValueError, match="it is another file"):
        setup(config, [*options, place + wrong])


@pytest.fixture(scope="module")
def result(finished):
    return result_card(finished[2])


def test_a_result_names_data_protocol_and_metrics_and_has_no_problem(result):
    assert problems(result) == []
    assert result["data"]["test"] == "tiny_cxr_test" and len(result["data"]["images_fingerprint"]) == 64
    assert result["protocol"]["num_train_images"] == 12 and result["test"]["num_findings_images"] == 5
    assert result["metrics"]["AP50"].keys() == {"value", "interval", "n", "unit"}


def test_a_result_is_written_with_its_page(finished, result, tmp_path):
    path = write_result(finished[2], tmp_path)
    assert artifacts.read_json(path) == result
    assert (tmp_path / "README.md").read_text() == page(result)
    assert "| AP50 |" in page(result) and "| Disc |" in page(result)


@pytest.mark.parametrize(
    "where, key, value, said",
    [
        ("test", "image_names", ["a"], "result.test.image_names may not be there"),
        ("data", "train", "/home/someone/set", "result.data.train is '/home/someone/set'"),
        ("data", "images_fingerprint", "12", "result.data.images_fingerprint"),
        ("protocol", "seed", -1, "result.protocol.seed"),
        ("protocol", "seed", True, "result.protocol.seed"),
        ("metrics", "../x\n", {}, "no plain name"),
    ],
)
def test_what_does_not_belong_into_a_result_is_named(result, where, key, value, said):
    changed = copy.deepcopy(result)
    changed[where][key] = value
    assert any(said in problem for problem in problems(changed))


@pytest.mark.parametrize("entry", [{"value": 1.5}, {"interval": [0.5, 0.4]}, {"interval": [0.1]}, {"n": "many"}])
def test_a_score_beyond_one_or_a_reversed_interval_is_named(result, entry):
    changed = copy.deepcopy(result)
    changed["metrics"]["AP50"] |= entry
    assert [problem for problem in problems(changed) if "result.metrics.AP50" in problem]


def test_a_missing_key_is_named(result):
    changed = {key: value for key, value in result.items() if key != "project"}
    assert problems(changed) == ["result.project is missing"]
    assert problems([]) == ["result is not an object"]


def test_an_unfinished_run_has_no_result(tmp_path):
    artifacts.write_json(tmp_path / "run.json", {"status": "running"})
    with pytest.raises(ValueError, match="no finished run"):
        result_card(tmp_path)
