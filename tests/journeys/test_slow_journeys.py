"""Four first contacts as scripts, from a wheel, without a checkout: commands as a stranger types them."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
EXPECTED = {
    "install": ["d2_cxr 0.", "512\n", "images are prepared in datasets/phantom_cxr", "d2cxr train --set phantom_cxr="],
    "own_images": ["Classes (fused boxes): Opacity 30", "mistakes as pictures:", "side by side"],
    "stock_detectron2": ["images of phantom_cxr_train", "stock training done", "instances in plain Detectron2"],
    "weights_from_elsewhere": ["backbone from {'file'}"],
}


@pytest.mark.parametrize("journey", EXPECTED)
def test_a_journey_ends_where_it_should(installed, journey, tmp_path):
    binaries, _ = installed
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DETECTRON2", "D2_"))
    }
    environment |= {"PATH": f"{binaries}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(HERE / f"{journey}.sh")], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    for text in EXPECTED[journey]:
        assert text in said, said[-3000:]
    assert "Traceback" not in said and "\r" not in said
