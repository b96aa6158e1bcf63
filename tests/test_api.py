"""`from d2_cxr import ...`: there, typed, and imported only when it is asked for."""

import inspect
import subprocess
import sys

import pytest

import d2_cxr
from d2_cxr import api

NAMES = ("prepare", "load_set", "evaluate", "convert")


@pytest.mark.parametrize("name", NAMES)
def test_a_function_of_the_face_is_that_of_the_api(name):
    assert getattr(d2_cxr, name) is getattr(api, name)
    signature = inspect.signature(getattr(api, name))
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())


def test_importing_the_face_opens_no_file_of_ours_and_imports_nothing_heavy():
    code = (
        "import sys, d2_cxr\n"
        "heavy = {'numpy', 'torch', 'pandas', 'cv2', 'detectron2', 'pydicom'} & set(sys.modules)\n"
        "print(sorted(heavy), 'd2_cxr.api' in sys.modules, {'prepare', 'Predictor'} <= set(dir(d2_cxr)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False True\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'd2_cxr' has no attribute 'predict'"):
        d2_cxr.predict  # noqa: B018


@pytest.mark.parametrize(
    "tool, function, only_there",
    [
        ("prepare_vindr_cxr", api.prepare, {"progress"}),
        ("evaluate", api.evaluate, set()),
        ("convert_simclr_to_d2", api.convert, set()),
    ],
)
def test_a_command_and_its_function_have_the_same_arguments(load_tool, tool, function, only_there):
    required = {
        "prepare_vindr_cxr": ["--images", "a", "--output", "b"],
        "evaluate": ["--dataset", "a", "--results", "b"],
        "convert_simclr_to_d2": ["a", "b"],
    }
    options = set(vars(load_tool(tool).parse_args(required[tool]))) - {"strict", "json"}
    assert options == set(inspect.signature(function).parameters) - only_there - {"strict"}
