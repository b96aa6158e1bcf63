"""Tiny DICOM files, written by pydicom alone."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

NATIVE = (ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@pytest.fixture
def make_dicom(tmp_path):
    """Return a function that writes pixels as DICOM; an element given as None is left out."""

    def make(
        pixels,
        bits_allocated=16,
        bits_stored=12,
        signed=False,
        syntax=ExplicitVRLittleEndian,
        frame=None,
        name="film.dicom",
        **elements,
    ) -> Path:
        kind = f"{'i' if signed else 'u'}{bits_allocated // 8}"
        pixels = np.asarray(pixels).astype(kind)
        dataset = Dataset()
        values = {
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": bits_allocated,
            "BitsStored": bits_stored,
            "HighBit": None if bits_stored is None else bits_stored - 1,
            "PixelRepresentation": int(signed),
        }
        for keyword, value in {**values, **elements}.items():
            if value is not None:
                setattr(dataset, keyword, value)
        if "PixelData" not in elements:
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
            raw = encapsulate([frame]) if frame is not None else raw + b"\0" * (len(raw) % 2)
            dataset.PixelData = raw
            dataset["PixelData"].VR = "OB" if frame is not None or bits_allocated == 8 else "OW"
            dataset["PixelData"].is_undefined_length = frame is not None
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
        dataset.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make
