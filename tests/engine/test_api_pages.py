"""The examples of docs/python run, in a folder as they expect it, and print what they should."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import d2_cxr

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {  # in the order of the pages: each needs what those before it left
    "prepare": r"24 0 0\n",
    "load_set": r"\d+ datasets/clinic/images/p\d+_\d+\.png \[0.*\]\n",
    "convert": r"resnet18 (0\.0|\d\.\d+e-\d+)\n",
    "predictor": r"(?s).+\n\(.*\) \[.*\] \[.*\]\n",
    "evaluate": r"\d\.\d+ \[\d.+\] \d+\n",
}
QUICK = "MODEL.FPN.OUT_CHANNELS 16 SOLVER.MAX_ITER 3 SOLVER.WARMUP_ITERS 0 CXR.RESAMPLES 20 CXR.AMP off"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, resnet18):
    """A folder with images/, boxes.csv, image.png and moco.ckpt: discs on noise, two images a patient."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "images").mkdir()
    rows = ["filename,label,xmin,ymin,xmax,ymax"]
    for number in range(24):
        name, random = f"p{number // 2}_{number}", np.random.default_rng(number)
        image = random.integers(40, 80, (64, 64)).astype(np.uint8)
        x, y = (int(value) for value in random.integers(12, 50, 2))
        if number % 4 < 3:
            cv2.circle(image, (x, y), 10, 220, -1)
        rows.append(f"{name},Disc,{x - 10},{y - 10},{x + 10},{y + 10}" if number % 4 < 3 else f"{name},No finding,,,,")
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    (folder / "image.png").write_bytes((folder / "images" / "p0_0.png").read_bytes())
    torch.save(
        {"state_dict": {f"module.encoder_q.{name}": value for name, value in resnet18.items()}}, folder / "moco.ckpt"
    )
    return folder


def example(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python" / f"{page}.md").read_text(), re.DOTALL)
    return code


@pytest.mark.parametrize("page", PRINTED)
def test_the_example_of_a_page_runs(page, folder, monkeypatch, capsys, load_tool):
    monkeypatch.chdir(folder)
    if page == "predictor":  # the training between the pages
        options = "--set clinic=datasets/clinic --output output/clinic --preset quick --weights random"
        assert load_tool("train_net").main([*options.split(), *QUICK.split()]) == 0
        capsys.readouterr()
    exec(compile(example(page), f"{page}.md", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(PRINTED[page], capsys.readouterr().out)


def test_plain_detectron2_finds_on_prepared_images_what_the_predictor_finds(folder, monkeypatch):
    monkeypatch.chdir(folder)
    page = (ROOT / "docs/detectron2.md").read_text()
    names: dict = {}
    ours = d2_cxr.Predictor("output/clinic/model_final.pth", device="cpu")("image.png")
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "detectron2.md", "exec"), names)  # the first reads image.png as prepared, the second itself
        assert np.allclose(names["instances"].pred_boxes.tensor.numpy(), ours.boxes_xyxy, atol=1e-3)
        assert np.allclose(names["instances"].scores.numpy(), ours.scores, atol=1e-5)
    assert np.allclose(names["boxes"], ours.boxes_xyxy, atol=1e-3)
    assert Path("output/clinic/mistakes.html").is_file()


def test_every_public_name_has_a_page_and_a_docstring():
    index = (ROOT / "docs/python/README.md").read_text()
    for name in set(d2_cxr.__all__) - {"__version__", "add_cxr_config", "setup_environment"}:
        assert f"[{name}]({name.lower()}.md)" in index and getattr(d2_cxr, name).__doc__
