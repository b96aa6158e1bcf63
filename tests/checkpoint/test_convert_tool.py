import sys
from pathlib import Path

import pytest

from d2_cxr.checkpoint.convert import ConversionError
from d2_cxr.checkpoint.weights_card import read_card

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import convert_simclr_to_d2


def test_the_tool_writes_weights_and_their_yaml(solo_file, tmp_path):
    numbers = ["--pixel-mean", "0", "0", "0", "--pixel-std", "255", "255", "255"]
    assert convert_simclr_to_d2.main([str(solo_file()), str(tmp_path / "w.pth"), *numbers]) == 0
    card = read_card(tmp_path / "w.pth")
    assert card.pixel_std == [255.0] * 3 and max(card.parity.values()) <= 1e-4
    assert (tmp_path / "w.yaml").is_file()


def test_verification_can_be_left_out_and_then_is_not_claimed(solo_file, tmp_path):
    convert_simclr_to_d2.main([str(solo_file()), str(tmp_path / "w.pth"), "--no-verify"])
    assert read_card(tmp_path / "w.pth").parity is None


def test_wrong_files_are_one_line(solo_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt does not exist"):
        convert_simclr_to_d2.main([str(tmp_path / "gone.ckpt"), str(tmp_path / "w.pth")])
    with pytest.raises(ConversionError, match=r"must end in \.pth"):
        convert_simclr_to_d2.main([str(solo_file()), str(tmp_path / "w.pkl")])
    with pytest.raises(ConversionError, match="there is no ResNet below the prefix 'net'"):
        convert_simclr_to_d2.main([str(solo_file()), str(tmp_path / "w.pth"), "--prefix", "net"])
