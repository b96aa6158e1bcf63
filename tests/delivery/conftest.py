"""Sources that reports are written for: small DICOM images with an identity, some of it planted to be looked for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from d2_cxr.delivery.source import Algorithm, ScoredBox, read_source

UIDS = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
    "SOPInstanceUID": "2.25.11",
    "SeriesInstanceUID": "2.25.12",
    "StudyInstanceUID": "2.25.13",
}
IDENTITY = {
    "Modality": "DX",
    "PatientName": "Doe^Jane",
    "PatientID": "P-7",
    "PatientBirthDate": "19600102",
    "PatientSex": "F",
    "StudyDate": "20240506",
    "StudyTime": "070809",
    "StudyID": "S-8",
    "AccessionNumber": "A-9",
    "ReferringPhysicianName": "Roe^Richard",
}


@pytest.fixture(scope="session")
def room():
    """tests/delivery/viewer/reading_room.py, which starts an archive and a viewer."""
    path = Path(__file__).parent / "viewer" / "reading_room.py"
    spec = importlib.util.spec_from_file_location("reading_room", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def algorithm():
    return Algorithm("d2_cxr", "0.1.0", "ab" * 32)


@pytest.fixture(scope="session")
def thresholds():
    return {"Cardiomegaly": 0.3, "Nodule/Mass": None, "Pneumothorax": 0.45}


@pytest.fixture
def make_source(make_dicom):
    """Return a function: pixels and DICOM elements -> Source; an element given as None is left out."""

    def make(pixels=None, name="image.dcm", **elements):
        pixels = np.arange(80 * 100).reshape(80, 100) % 4096 if pixels is None else pixels
        return read_source(make_dicom(pixels, name=name, **{**UIDS, **IDENTITY, **elements}))

    return make


@pytest.fixture
def boxes():
    """Two findings on an image of 100 x 80 pixels."""
    return [
        ScoredBox("Cardiomegaly", 0.91234567, (40, 20, 60, 30)),
        ScoredBox("Pneumothorax", 0.5, (1.25, 2.5, 99.75, 80)),
    ]
